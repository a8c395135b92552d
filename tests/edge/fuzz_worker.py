"""A process that loads bundles, runs them and inspects a frame with each, as a rig does; it may die of it.

Run as `python -m tests.edge.fuzz_worker`: a bundle's folder a line on stdin, an answer as JSON a line on
stdout. `Worker` is the other end of it.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

__all__ = ["Worker"]

ROOM_BYTES = 3 << 30
TIMEOUT_S = 60.0


class Worker:
    """Judges one bundle after the other, in a process that is started anew when it has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.deaths = 0
        self.judged = 0

    def judge(self, folder: Path) -> str:
        """`ran`, `refused: …`, or what must never be: `unexpected: …`, `died: …`, `hangs`."""
        self.judged += 1
        process = self._alive()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        process.stdin.write(f"{folder}\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(TIMEOUT_S):
                self.close()
                return "hangs"
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self._process = None
            self.deaths += 1
            return f"died: {signal.Signals(-code).name if code < 0 else code}"
        return str(json.loads(line))

    def _alive(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge.child", str(os.getpid())]
                + [sys.executable, "-m", "tests.edge.fuzz_worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
                stderr=subprocess.DEVNULL,  # ONNX Runtime tells of every damaged graph
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            )  # fmt: skip
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _judge(folder: Path, frame: Any) -> str:
    from edge.bundle import load_bundle
    from edge.errors import BundleError, CalibrationError, EdgeError, RunnerError
    from edge.inspector import Inspector
    from edge.runtime import runner_for

    try:
        bundle = load_bundle(folder)
        with runner_for(bundle) as runner:
            inspection = Inspector(bundle, runner).inspect(frame)
    except (BundleError, CalibrationError, RunnerError) as error:
        return f"refused: {error}"
    except EdgeError as error:
        return f"unexpected: {type(error).__name__} {error}"
    except Exception:  # noqa: BLE001  # any other is what is looked for
        return f"unexpected: {traceback.format_exc(limit=-6)}"
    return f"ran: {inspection.outcome.value} {inspection.reason}"


def main() -> None:
    """The process."""
    from edge.testing.frames import flat_frame

    frame = flat_frame(width_px=96, height_px=80, part_height_m=0.02)
    resource.setrlimit(resource.RLIMIT_AS, (ROOM_BYTES, ROOM_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        answer = _judge(Path(line.rstrip("\n")), frame)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
