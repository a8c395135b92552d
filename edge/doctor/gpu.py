"""TensorRT, CUDA and the GPU: what is installed, what this Python can import, what the driver sees."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from edge.doctor.board import Board
from edge.doctor.machine import Machine
from edge.doctor.probe import CudaAnswer, TensorRTAnswer, probe
from edge.doctor.report import Details, Finding, error, note, ok

__all__ = ["gpu"]

_TIMEOUT_S = 10.0
_DEBIAN = ("nvidia-jetpack", "libnvinfer10", "libnvinfer11", "python3-libnvinfer")
_PYCUDA_REMEDY = (
    "pip install 'edge-inspect[tensorrt]' (it is compiled against CUDA: PATH=/usr/local/cuda/bin:$PATH)."
)


def gpu(machine: Machine, board: Board, *, needed: bool) -> Iterator[Finding]:
    """With `needed` (the backend is tensorrt) what is missing is an error, else a note."""
    make = error if needed else note
    installed = _installed(machine)
    cuda = _cuda_toolkit(machine)
    trt = probe(machine, "tensorrt", TensorRTAnswer)
    if isinstance(trt, str):
        yield make(
            "gpu",
            "tensorrt",
            f"TensorRT can't be used: {trt}.",
            _tensorrt_remedy(machine, board, installed),
            **installed,
        )
    elif trt.unknown is not None:
        yield make(
            "gpu",
            "tensorrt",
            trt.unknown + ".",
            "Use JetPack 6 or 7, or runtime.backend: onnx.",
            version=trt.version,
            **installed,
        )
    else:
        yield ok("gpu", "tensorrt", f"TensorRT {trt.version}.", version=trt.version, **installed)
    if cuda is None:
        yield make(
            "gpu",
            "cuda",
            "There is no CUDA toolkit in /usr/local/cuda.",
            "Install it with JetPack: sudo apt install nvidia-jetpack."
            if board.is_jetson
            else "Install NVIDIA's CUDA toolkit.",
        )
    else:
        yield ok("gpu", "cuda", f"CUDA toolkit {cuda}.", version=cuda)
    yield _devices(machine, board, needed=needed)


def _devices(machine: Machine, board: Board, *, needed: bool) -> Finding:
    make = error if needed else note
    found = probe(machine, "cuda", CudaAnswer)
    if isinstance(found, str):
        driver = (machine.text("/proc/driver/nvidia/version") or "").partition("\n")[0]
        missing = "No module named 'pycuda'" in found
        remedy = (
            _PYCUDA_REMEDY
            if missing
            else (
                "See the groups and devices below; `sudo dmesg` tells of a driver that failed."
                if board.is_jetson
                else "Check the driver with nvidia-smi."
            )
        )
        return make("gpu", "gpu", f"CUDA can't be used from Python: {found}.", remedy, driver=driver or None)
    names = [f"{one.name} (SM {one.sm}, {one.memory_bytes / 2**30:.1f} GiB)" for one in found.gpus]
    details: Details = {"pycuda": found.pycuda, "driver": found.driver, "gpus": tuple(names)}
    if not found.gpus:
        return make(
            "gpu",
            "gpu",
            f"CUDA {found.driver} sees no GPU.",
            "See the groups and devices below; a container needs --runtime nvidia.",
            **details,
        )
    return ok("gpu", "gpu", f"{', '.join(names)}, CUDA {found.driver}, pycuda {found.pycuda}.", **details)


def _installed(machine: Machine) -> dict[str, str]:
    """Versions of NVIDIA's Debian packages, which a virtual environment need not see."""
    answer = machine.run(
        ("dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\\n", *_DEBIAN), _TIMEOUT_S
    )
    # Packages that are not there are told on stderr, and make the exit code 1.
    return dict(re.findall(r"^(\S+) (\S+) installed$", answer.out, re.MULTILINE))


def _cuda_toolkit(machine: Machine) -> str | None:
    try:
        return str(json.loads(machine.text("/usr/local/cuda/version.json") or "")["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        return None


def _tensorrt_remedy(machine: Machine, board: Board, installed: dict[str, str]) -> str:
    own = ".".join(map(str, machine.python))
    if "python3-libnvinfer" in installed and _is_shut_venv():
        return (
            f"The system has {installed['python3-libnvinfer']}, this virtual environment does not see it: "
            "make it with the system's python3 -m venv --system-site-packages."
        )
    if board.is_jetson:
        return (
            f"sudo apt install nvidia-jetpack (python3-libnvinfer is for the system's Python; this is {own})."
        )
    return "Install TensorRT 10.3 or later for this Python, or keep runtime.backend: onnx."


def _is_shut_venv() -> bool:
    """Whether this Python is a virtual environment that does not see the system's packages."""
    try:
        text = (Path(sys.prefix) / "pyvenv.cfg").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return re.search(r"^include-system-site-packages\s*=\s*true", text, re.MULTILINE | re.IGNORECASE) is None
