"""TensorRT's Python module, and the things that each use of it needs: its log, and errors with a reason.

Only here is `tensorrt` imported. All else takes the module as the argument `trt`, so that the same code
runs over TensorRT 10.3 of JetPack 6, 10.13 and 11 of JetPack 7, and TensorRT-RTX, which builds without a
GPU. None of it uses a name that one of these lacks.
"""

from __future__ import annotations

import functools
import importlib
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edge.errors import RunnerError

__all__ = ["TensorRTLog", "create", "create_runtime", "load_tensorrt", "log_of"]

_log = logging.getLogger("tensorrt")

_OLDEST = (10, 3)
_NEWEST_MAJOR = 11
_INSTALL = (
    "on a Jetson it comes with JetPack (apt install python3-libnvinfer) and the virtual environment must see "
    "it: python3 -m venv --system-site-packages; or set runtime.backend: onnx"
)


def load_tensorrt() -> Any:
    """The module `tensorrt`.

    Raises `RunnerError` where it is not installed, can't load its library, or is of a version that this
    code does not know.
    """
    try:
        trt = importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        if error.name != "tensorrt":
            raise RunnerError(f"TensorRT can't be imported: {error}; install it anew: {_INSTALL}") from error
        raise RunnerError(f"TensorRT is not installed for this Python: {_INSTALL}") from error
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise RunnerError(
            f"TensorRT is installed but can't be loaded ({error}); its libraries and its Python module must "
            f"be of one version: {_INSTALL}"
        ) from error
    check_version(str(trt.__version__))
    return trt


def check_version(version: str) -> None:
    """That this code knows the version of TensorRT; raises `RunnerError`."""
    match = re.match(r"(\d+)\.(\d+)", version)
    found = (int(match[1]), int(match[2])) if match else (0, 0)
    if not _OLDEST <= found < (_NEWEST_MAJOR + 1, 0):
        raise RunnerError(
            f"TensorRT {version} is installed; this version of edge-inspect knows {_OLDEST[0]}.{_OLDEST[1]} "
            f"to {_NEWEST_MAJOR}.x: "
            + ("update JetPack to 6 or later" if found < _OLDEST else "update edge-inspect")
            + ", or set runtime.backend: onnx"
        )


class TensorRTLog:
    """TensorRT's messages, told to `logging` as `tensorrt`; TensorRT takes one logger per process.

    `logger` is what TensorRT's constructors want. Where one of them fails it returns nothing, and says why
    only here: hence `errors`.
    """

    def __init__(self, trt: Any) -> None:
        self._errors: deque[str] = deque(maxlen=20)
        self.logger = _make_logger(trt, self._take)

    @contextmanager
    def errors(self) -> Iterator[deque[str]]:
        """The errors that TensorRT tells from here on, the last twenty."""
        self._errors.clear()
        yield self._errors

    def _take(self, level: int, message: str) -> None:
        if level >= logging.ERROR:
            self._errors.append(message)
        _log.log(level, "%s", message)


@functools.cache
def log_of(trt: Any) -> TensorRTLog:
    """The one log of this TensorRT in this process; it complains of a second."""
    return TensorRTLog(trt)


def _make_logger(trt: Any, take: Callable[[int, str], None]) -> Any:
    severity = trt.ILogger.Severity
    # Information is for the one who builds TensorRT: hundreds of lines for each engine.
    levels = {
        severity.INTERNAL_ERROR: logging.CRITICAL,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.DEBUG,
        severity.VERBOSE: logging.NOTSET,
    }

    class Logger(trt.ILogger):  # type: ignore[misc]  # a class of a module that is known only now
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity, logging.WARNING)
            if level > logging.NOTSET:
                take(level, message)

    return Logger()


def create(trt: Any, what: str, factory: Callable[[Any], Any]) -> Any:
    """`factory(logger)`, for instance `create(trt, "Builder", trt.Builder)`.

    Raises `RunnerError` where TensorRT gives none: its factory then returned nullptr, which says nothing.
    """
    log = log_of(trt)
    with log.errors() as said:
        try:
            made = factory(log.logger)
        except TypeError as error:  # pybind11: factory function returned nullptr
            raise RunnerError(
                f"TensorRT {trt.__version__} can't make its {what}{told(said)}; there is no usable CUDA: "
                "check the driver (nvidia-smi, or tegrastats on a Jetson), and that this user is in the "
                "groups video and render"
            ) from error
    return made


def create_runtime(trt: Any) -> Any:
    """TensorRT's Runtime, which makes engines of plans; raises `RunnerError`."""
    return create(trt, "Runtime", trt.Runtime)


def told(said: deque[str]) -> str:
    """What TensorRT said, as the part of a sentence; nothing where it said nothing."""
    return f" ({'; '.join(list(said)[-3:])})" if said else ""
