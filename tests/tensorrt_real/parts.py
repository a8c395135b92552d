"""The real parts that TensorRT and pycuda are proven with where there is no GPU: what, which, and where.

`python -m tests.tensorrt_real.install` (part of `make test`) puts them below the virtual environment, each
in a folder of its own that no other import sees.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = [
    "BINDINGS",
    "CUDA_HEADERS",
    "DRIVER_FOLDER",
    "PYCUDA",
    "PYCUDA_FOLDER",
    "REPOSITORY",
    "ROOT",
    "Bindings",
    "must_be_here",
    "part_or_skip",
    "python_with",
    "reason_against",
    "skip",
]

REPOSITORY = Path(__file__).parents[2]
ROOT = Path(sys.prefix) / "tensorrt-parts"

CUDA_HEADERS = "nvidia-cuda-runtime-cu12==12.6.77 nvidia-cuda-profiler-api-cu12==12.6.77"
"""The headers of JetPack 6's CUDA, 0.9 MB; no compiler and no driver comes with them."""
PYCUDA = "pycuda==2026.1"
PYCUDA_FOLDER = ROOT / "pycuda"
DRIVER_FOLDER = ROOT / "driver"


@dataclass(frozen=True, slots=True)
class Bindings:
    """TensorRT's own Python module of one version, without TensorRT."""

    requirement: str
    soname: str

    @property
    def version(self) -> str:
        return self.requirement.partition("==")[2]

    @property
    def folder(self) -> Path:
        """What has to be on the path; it holds `tensorrt_bindings`, and a `tensorrt` that is the same."""
        return ROOT / f"tensorrt-{self.version}"


BINDINGS = (
    Bindings("tensorrt_cu12_bindings==10.3.0", "10"),  # JetPack 6
    Bindings("tensorrt_cu13_bindings==10.13.3.9", "10"),  # JetPack 7
    Bindings("tensorrt_cu13_bindings==11.4.0.106", "11"),  # JetPack 7.2.2
)


def reason_against() -> str | None:
    """Why the parts can't be had here, or None where they can."""
    machine = (platform.system(), platform.machine())
    if machine != ("Linux", "x86_64") or platform.libc_ver()[0] != "glibc":
        return (
            f"the real parts of TensorRT are for Linux on x86_64 with glibc; this is {' on '.join(machine)}"
        )
    missing = [command for command in ("gcc", "g++", "nm") if shutil.which(command) is None]
    if missing:
        return f"no {', '.join(missing)}; on Debian and Ubuntu: apt-get install g++"
    return None


def must_be_here() -> bool:
    """CI on Linux and x86_64 skips none of this."""
    return bool(os.environ.get("CI")) and (platform.system(), platform.machine()) == ("Linux", "x86_64")


def skip(reason: str) -> None:
    """Skip the test, but fail it where the parts must be here."""
    if must_be_here():
        pytest.fail(reason)
    pytest.skip(reason)


def part_or_skip(path: Path) -> Path:
    """The path of an installed part; skips the test where it is not there."""
    if not path.exists():
        skip(reason_against() or f"{path} is not there; run python -m tests.tensorrt_real.install")
    return path


def python_with(
    *arguments: str, path: tuple[Path, ...] = (), libraries: Path | None = None, timeout_s: float = 120
) -> str:
    """What a fresh Python prints with these folders first on its path; a crash fails the test."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, (*path, REPOSITORY))))
    if libraries is not None:
        environment["LD_LIBRARY_PATH"] = str(libraries)
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=environment,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(
            f"{arguments}: ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return done.stdout
