"""A program as reject output."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile

from edge.errors import RejectError
from edge.messages import Verdict
from edge.reject_config import CommandReject

__all__ = ["CommandOutput"]

_SAID_BYTES = 500


class CommandOutput:
    """Runs the command with `safe`, `ready` or `reject` behind its arguments, and waits for its end.

    For `reject` the environment says which part: `EDGE_RESULT_ID`, `EDGE_PART_ID`, `EDGE_OUTCOME`,
    `EDGE_REASON`, `EDGE_EPOCH`, `EDGE_SEQ`; always there is `EDGE_PULSE_MS`. It fails by a code that is not
    0, or by taking longer than its timeout; then all of its process group is killed.
    """

    def __init__(self, config: CommandReject) -> None:
        self._config = config
        self._is_open = False

    trouble: str | None = None

    def open(self) -> None:
        self._run("safe", {})
        self._is_open = True

    def ready(self) -> None:
        self._run("ready", {})

    def safe(self) -> None:
        self._run("safe", {})

    def reject(self, verdict: Verdict) -> None:
        self._run(
            "reject",
            {
                "EDGE_RESULT_ID": verdict.result_id,
                "EDGE_PART_ID": verdict.part_id or "",
                "EDGE_OUTCOME": verdict.outcome.value,
                "EDGE_REASON": verdict.reason or "",
                "EDGE_EPOCH": str(verdict.epoch),
                "EDGE_SEQ": str(verdict.seq),
            },
        )

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._run("safe", {})

    def _run(self, word: str, environment: dict[str, str]) -> None:
        argv = [*self._config.command, word]
        pulse = {"EDGE_PULSE_MS": str(self._config.pulse_ms)}
        # Its words go to a file: a grandchild that keeps a pipe open would hold us up beyond the timeout.
        with tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    env={**os.environ, **pulse, **{k: v.replace("\0", "") for k, v in environment.items()}},
                    start_new_session=True,
                )
            except OSError as error:
                raise RejectError(
                    f"{argv[0]}: can't be run ({error.strerror}); check reject.command and the file's rights"
                ) from error
            try:
                code = process.wait(self._config.timeout_s)
            except subprocess.TimeoutExpired as error:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise RejectError(
                    f"{' '.join(argv)}: did not end within {self._config.timeout_s:g} s, and was killed; "
                    "make it quicker, or raise reject.timeout_s"
                ) from error
            if code:
                said.seek(0)
                words = said.read(_SAID_BYTES).decode(errors="replace").strip() or "it said nothing"
                ending = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
                raise RejectError(f"{' '.join(argv)}: {ending}: {words}")
