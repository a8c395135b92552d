"""`edge-daemon` as a child process: what is shown is what ships."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import Self

from edge.errors import ConfigError

__all__ = ["ChildDaemon"]

_STOP_TIMEOUT_S = 20.0
_TAIL_CHARACTERS = 2000


class _Report(BaseModel):
    """What `edge-daemon --json` says at its end, as far as it is asked here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    verdicts: int


class ChildDaemon:
    """`edge-daemon CONFIG --json` for as long as the context lasts; it dies with us in any case.

    Its log goes to daemon.log beside the configuration, its report to daemon.json. Start it from a thread
    that stays. Raises `ConfigError` where it can't be started.
    """

    def __init__(self, config: Path) -> None:
        self._config = config
        self._log = config.with_name("daemon.log")
        self._out = config.with_name("daemon.json")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        daemon = [sys.executable, "-m", "edge.commands.daemon", str(self._config), "--json"]
        try:
            with self._log.open("wb") as log, self._out.open("wb") as out:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "edge.child", str(os.getpid()), *daemon],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log,
                )
        except OSError as error:
            raise ConfigError(f"edge-daemon can't be started ({error})") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        finally:  # also where a second Ctrl-C ends our patience
            if process.poll() is None:
                process.kill()
                process.wait()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> None:
        """Ask it to finish the part in hand and go."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def verdicts(self) -> int | None:
        """How many verdicts it says it made, once it has ended; None where it says nothing."""
        try:
            return _Report.model_validate_json(self._out.read_bytes()).verdicts
        except (OSError, ValidationError):
            return None

    def log_tail(self) -> str:
        """The end of its log."""
        try:
            text = self._log.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            return f"{self._log}: can't be read ({error.strerror})"
        return text[-_TAIL_CHARACTERS:].strip() or "nothing"
