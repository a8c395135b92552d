"""Plays systemd for one service: READY, WATCHDOG, and a new start whenever it has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

__all__ = ["Supervisor"]

_LOOK_S = 0.05
_ABORT_S = 5.0
_PATIENCE_S = 180.0


class Supervisor:
    """Keeps a `Type=notify` service going: `Restart=always`, `RestartSec=0`, `WatchdogSec=watchdog_s`.

    What has not said WATCHDOG=1 for so long, once it is ready, gets SIGABRT and then SIGKILL, as from
    systemd. `environment` may be changed; the next start has it. `ends` says how each process ended: its
    exit code, negative for a signal, and whether the watchdog ended it.
    """

    def __init__(self, command: Sequence[str], log: Path, *, watchdog_s: float) -> None:
        self.environment: dict[str, str] = dict(os.environ)
        self.ends: list[tuple[int, bool]] = []
        self.starts = 0
        self._command = list(command)
        self._log = log
        self._watchdog_s = watchdog_s
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._heard_s = 0.0
        self._wanted = True
        self._before_next: Callable[[], None] | None = None
        self._address = log.with_name("notify")
        self._thread = threading.Thread(target=self._look_after, name="supervisor")

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._address))
        self._socket.settimeout(_LOOK_S)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill(again=False)
        self._thread.join()
        self._socket.close()

    def wait_until_ready(self, timeout_s: float = _PATIENCE_S) -> None:
        """Until the process that runs now, or the next one, has said READY=1; raises `TimeoutError`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._ready, timeout_s):
                raise TimeoutError(
                    f"not ready within {timeout_s:g} s; ends so far {self.ends}\n{self.tail()}"
                )

    def wait_for_end(self, number: int, timeout_s: float = _PATIENCE_S) -> None:
        """Until so many processes have ended."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.ends) >= number, timeout_s):
                raise TimeoutError(f"{len(self.ends)} of {number} ends within {timeout_s:g} s\n{self.tail()}")

    @property
    def pid(self) -> int | None:
        """Of the process that runs now; None between two."""
        process = self._process
        return None if process is None else process.pid

    def kill(self, *, again: bool = True, before_next: Callable[[], None] | None = None) -> None:
        """SIGKILL whatever runs, and wait until it is gone; without `again` nothing is started any more.

        `before_next` is done before the next one starts, on the supervisor's thread.
        """
        with self._changed:
            self._wanted = self._wanted and again
            self._before_next = before_next
            process, number = self._process, len(self.ends)
            if process is None:
                return
            process.kill()
            self._changed.wait_for(lambda: len(self.ends) > number)

    def stop(self, timeout_s: float = 30.0) -> tuple[int, float]:
        """SIGTERM; gives the exit code, and how many seconds it took."""
        began_s = time.monotonic()
        with self._changed:
            self._wanted = False
            process, number = self._process, len(self.ends)
            if process is None:
                raise RuntimeError("nothing runs that could be stopped")
            process.send_signal(signal.SIGTERM)
            if not self._changed.wait_for(lambda: len(self.ends) > number, timeout_s):
                raise TimeoutError(f"did not stop within {timeout_s:g} s\n{self.tail()}")
            return self.ends[-1][0], time.monotonic() - began_s

    def tail(self, lines: int = 30) -> str:
        """The end of what the service logged."""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def _look_after(self) -> None:
        while self._wanted:
            self._run_once()

    def _run_once(self) -> None:
        watched: Mapping[str, str] = {
            "NOTIFY_SOCKET": str(self._address),
            "WATCHDOG_USEC": str(round(self._watchdog_s * 1e6)),
        }
        with self._changed:
            do, self._before_next = self._before_next, None
        if do is not None:
            do()
        with self._log.open("ab") as log, self._changed:
            if not self._wanted:
                return
            process = subprocess.Popen(
                self._command, env={**self.environment, **watched}, stdout=log, stderr=log
            )
            self._process, self._ready = process, False
            self.starts += 1
        barked = False
        while process.poll() is None:
            self._listen()
            if self._ready and time.monotonic() - self._heard_s > self._watchdog_s:
                barked = True
                process.send_signal(signal.SIGABRT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_ABORT_S)
                process.kill()
        with self._changed:
            self._process, self._ready = None, False
            self.ends.append((process.wait(), barked))
            self._changed.notify_all()

    def _listen(self) -> None:
        try:
            said = self._socket.recv(4096).decode().splitlines()
        except TimeoutError:
            return
        if "READY=1" in said or "WATCHDOG=1" in said:
            with self._changed:
                self._heard_s = time.monotonic()
                self._ready = self._ready or "READY=1" in said
                self._changed.notify_all()
