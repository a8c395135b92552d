"""The daemon, but its model hangs once /run/edge-inspect/hang is there, as a driver may."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge.commands.daemon import main
from edge.runtime.onnx import OnnxRunner
from edge.runtime.runner import Array

_run = OnnxRunner._run


def _run_or_hang(self: OnnxRunner, tensors: Mapping[str, Array], fetch: Sequence[str]) -> dict[str, Array]:
    if Path("/run/edge-inspect/hang").exists():
        threading.Event().wait()
    return _run(self, tensors, fetch)


if __name__ == "__main__":
    OnnxRunner._run = _run_or_hang  # type: ignore[method-assign] # the fault that is tested
    main()
