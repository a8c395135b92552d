"""Put the parts that the tests of TensorRT and pycuda need below the virtual environment.

::

    python -m tests.tensorrt_real.install

TensorRT's own Python modules of three versions, over a library that only has their symbols; a pycuda that is
compiled against NVIDIA's headers, over a driver whose device memory is the host's. Where a part can't be had
(another machine than Linux on x86_64, no compiler) this says why and goes on, and its tests are skipped; with
CI set it fails. What is there already is left alone; a part that changed is made anew.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from rich.logging import RichHandler

from tests.tensorrt_real.parts import (
    BINDINGS,
    CUDA_HEADERS,
    DRIVER_FOLDER,
    PYCUDA,
    PYCUDA_FOLDER,
    ROOT,
    Bindings,
    must_be_here,
    reason_against,
)

__all__ = ["main"]

_log = logging.getLogger("tensorrt-parts")
_NVINFER, _LIBCUDA = (Path(__file__).parent / "stubs" / name for name in ("nvinfer.c", "libcuda.c"))
_INCLUDE = ("nvidia/cuda_runtime/include", "nvidia/cuda_profiler_api/include")
_STAMP = ".made-of"


def main() -> int:
    """Make what is missing; 1 where a part is missing that must be here."""
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_time=False, show_path=False)]
    )
    reason = reason_against()
    if reason is not None:
        _log.warning(
            "%s; the tests that need them will %s", reason, "fail" if must_be_here() else "be skipped"
        )
        return int(must_be_here())
    try:
        for bindings in BINDINGS:
            _part(bindings.folder, bindings.requirement, partial(_bindings, bindings), _NVINFER)
        if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
            _log.warning(
                "no Python.h: pycuda can't be built; on Debian and Ubuntu: apt-get install python3-dev"
            )
            return int(must_be_here())
        _part(PYCUDA_FOLDER, f"{PYCUDA} {CUDA_HEADERS}", _pycuda)
        _part(DRIVER_FOLDER, f"CUDA's driver for {PYCUDA}", _driver, _LIBCUDA)
    except subprocess.CalledProcessError as error:
        _log.error("%s ended with %d:\n%s", error.cmd, error.returncode, (error.stdout or "")[-4000:])
        return 1
    return 0


def _part(folder: Path, what: str, make: Callable[[Path], None], *sources: Path) -> None:
    """Make a part in a folder beside its own, and put it in place once it is whole."""
    code = b"".join(path.read_bytes() for path in (Path(__file__), *sources))
    wanted = f"{what} {sys.version} {hashlib.sha256(code).hexdigest()}"
    stamp = folder / _STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    _log.info("making %s: %s", folder.name, what)
    ROOT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=ROOT) as making:
        made = Path(making) / "part"
        made.mkdir()
        make(made)
        (made / _STAMP).write_text(wanted, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _bindings(bindings: Bindings, folder: Path) -> None:
    _pip("install", "--no-deps", "--only-binary", ":all:", "--target", folder, bindings.requirement)
    beside = folder / "tensorrt_bindings"  # where the module looks first for its libraries
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        _library(beside / f"lib{name}.so.{bindings.soname}", [_NVINFER])
    # As NVIDIA's package `tensorrt` does, which can't be installed without TensorRT itself.
    package = folder / "tensorrt"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n", encoding="utf-8"
    )


def _pycuda(folder: Path) -> None:
    headers = folder / "headers"
    _pip("install", "--no-deps", "--target", headers, *CUDA_HEADERS.split())
    include = [headers / path for path in _INCLUDE]
    # Only to link against; the linker forgets a library of which nothing is used.
    (folder / "link.c").write_text("int cuInit(unsigned int flags) { return 801; }\n", encoding="utf-8")
    _library(folder / "libcuda.so", [folder / "link.c"], soname="libcuda.so.1")
    _pip("download", "--no-deps", "--no-binary", "pycuda", "--dest", folder, PYCUDA)
    (archive,) = folder.glob("pycuda-*.tar.gz")
    shutil.unpack_archive(archive, folder)
    source = folder / archive.name.removesuffix(".tar.gz")
    # Without optimisation: what is looked at is what it takes and gives, and it compiles in half the time.
    (source / "siteconf.py").write_text(
        f"CUDA_ROOT = {str(include[0].parent)!r}\n"
        f"CUDA_INC_DIR = {[str(path) for path in include]!r}\n"
        f"CUDADRV_LIB_DIR = [{str(folder)!r}]\n"
        "CUDA_ENABLE_CURAND = False\n"
        "CXXFLAGS = ['-O0', '-g0', '-w']\n",
        encoding="utf-8",
    )
    _pip("install", "--no-deps", "--no-cache-dir", "--target", folder / "packages", source)
    shutil.rmtree(source)
    archive.unlink()


def _driver(folder: Path) -> None:
    driver = folder / "libcuda.so.1"
    include = [PYCUDA_FOLDER / "headers" / path for path in _INCLUDE]
    _library(driver, [_LIBCUDA], include)
    # What else pycuda asks of the driver has to be there, too; 801 is CUDA_ERROR_NOT_SUPPORTED.
    (extension,) = (PYCUDA_FOLDER / "packages" / "pycuda").glob("_driver*.so")
    missing = sorted(_symbols("--undefined-only", extension) - _symbols("--defined-only", driver))
    rest = folder / "the_rest.c"
    rest.write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in missing), encoding="utf-8")
    _library(driver, [_LIBCUDA, rest], include)


def _symbols(which: str, library: Path) -> set[str]:
    names = {line.split()[-1] for line in _run("nm", "-D", which, library).splitlines() if line.strip()}
    return {name for name in names if re.match(r"cu[A-Z]", name)}


def _library(
    path: Path, sources: Iterable[Path], include: Iterable[Path] = (), soname: str | None = None
) -> None:
    _run(
        "gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", path, *sources,
        f"-Wl,-soname,{soname or path.name}", *(f"-I{folder}" for folder in include), "-lpthread",
    )  # fmt: skip


def _pip(*arguments: object) -> None:
    _run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments)


def _run(*command: object) -> str:
    return subprocess.run(
        [str(part) for part in command],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
