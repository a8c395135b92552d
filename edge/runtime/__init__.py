"""Running a bundle's stages on a backend."""

from __future__ import annotations

from edge.bundle import Bundle
from edge.errors import RunnerError
from edge.runtime.onnx import OnnxRunner
from edge.runtime.runner import Runner

__all__ = ["Runner", "runner_for"]


def runner_for(bundle: Bundle, backend: str = "onnx") -> Runner:
    """A runner for the bundle on the backend asked for, never on another.

    Raises `RunnerError` where that backend does not exist, or can't load a stage.
    """
    if backend != "onnx":
        raise RunnerError(f"there is no backend {backend!r}; this version has 'onnx' (ONNX Runtime)")
    return OnnxRunner(bundle)
