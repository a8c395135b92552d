"""Loads and runs a bundle's stages once in a process of its own, before they are let into this one.

ONNX Runtime answers most damaged graphs with an error, but not all: −2⁶³ divided by −1 ends its process
(SIGFPE; before 1.32 a `ConvTranspose` of 0 groups did, too), a `Loop` may never end, a tensor's shape may ask
for all memory there is. Such a file can have the right sha256, where it was damaged before it was exported.

Run as `python -m edge.trial FOLDER MODEL_SHA256`; ends with 0 where all is well.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edge.bundle import ANOMALY_MAP, Bundle, load_to_sign
from edge.errors import BundleInvalid, EdgeError, FileChanged, RunnerError
from edge.golden import read_golden
from edge.preprocessing import tensor_shapes
from edge.runtime.onnx import OnnxRunner
from edge.runtime.runner import Array

__all__ = ["main", "try_stages"]

_TIMEOUT_S = 60.0
"""The slowest board loads and runs the largest model in a few seconds; systemd waits 90 for a start."""

_ROOM_BYTES = 2 << 30
_ROOM_PER_BYTE = 8
"""How much memory the stages may take: so much, and as many times the size of their files."""

_MENDING = "don't run it; export the bundle anew, from weights that are whole"


def try_stages(bundle: Bundle, timeout_s: float = _TIMEOUT_S) -> None:
    """Load the stages of a verified bundle by ONNX Runtime and run them, in a child with bounded memory.

    It runs the first golden sample, or where there is none, ones. Raises `RunnerError` where a stage can't
    be loaded or run, crashes, takes longer than `timeout_s`, or more memory than its files explain;
    `BundleInvalid` where the graphs are not what the manifest says; what `read_golden` raises as either.
    """
    command = [
        *(sys.executable, "-m", "edge.child", str(os.getpid())),
        *(sys.executable, "-m", "edge.trial", str(bundle.path.absolute()), bundle.model_sha256),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RunnerError(
            f"{bundle.path}: its stages were still not through one run after {timeout_s:g} s; {_MENDING}"
        ) from error
    if done.returncode == 0:
        return
    said = done.stdout.strip()
    if done.returncode == BundleInvalid.exit_code and said:
        raise BundleInvalid(said)
    if done.returncode == RunnerError.exit_code and said:
        raise RunnerError(said)
    raise RunnerError(
        f"{bundle.path}: its stages end the process that runs them ({_how(done.returncode, done.stderr)}); "
        f"{_MENDING}"
    )


def main(arguments: Sequence[str]) -> int:
    """The child; prints what is wrong to stdout."""
    path, model_sha256 = arguments
    try:
        bundle = load_to_sign(Path(path))
        if bundle.model_sha256 != model_sha256:
            raise FileChanged(f"{path}: became another bundle while it was looked at; start again")
        _bound_memory(bundle)
        tensors = _inputs(bundle)
        with OnnxRunner(bundle) as runner:
            runner.run(tensors, (ANOMALY_MAP,))
    except MemoryError:
        sys.stdout.write(f"{path}: its tensors take more memory than such a bundle may; {_MENDING}\n")
        return RunnerError.exit_code
    except EdgeError as error:
        sys.stdout.write(f"{error}\n")
        return error.exit_code
    return 0


def _bound_memory(bundle: Bundle) -> None:
    stages = {stage.file for stage in bundle.manifest.stages}
    room = _ROOM_BYTES + _ROOM_PER_BYTE * sum(bundle.manifest.files[name].bytes for name in stages)
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = taken + room
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is an answer here, not a case for a debugger


def _inputs(bundle: Bundle) -> Mapping[str, Array]:
    golden = bundle.golden_files()
    if golden:
        return read_golden(golden[0], bundle.manifest)
    shapes = tensor_shapes(bundle.manifest.preprocessing)
    return {name: np.ones(shapes[name][1], shapes[name][0]) for name in bundle.wanted}


def _how(code: int, stderr: str) -> str:
    if code < 0:
        return signal.Signals(-code).name
    lines = stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {code}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
