"""Running a bundle's stages on a backend."""

from __future__ import annotations

from collections.abc import Callable

from typing_extensions import assert_never

from edge.bundle import Bundle
from edge.config import OnnxConfig, RuntimeConfig, TensorRTConfig
from edge.runtime.onnx import OnnxRunner
from edge.runtime.runner import Runner
from edge.runtime.tensorrt.api import load_tensorrt
from edge.runtime.tensorrt.cuda import load_driver
from edge.runtime.tensorrt.progress import BuildProgress
from edge.runtime.tensorrt.provider import check_dla_stages
from edge.runtime.tensorrt.runner import runner_on_this_gpu

__all__ = ["Runner", "check_backend", "runner_for"]

_ONNX = OnnxConfig()


def check_backend(bundle: Bundle, config: RuntimeConfig) -> None:
    """That the backend is installed, and its options fit the bundle; the GPU is left alone.

    Raises `RunnerError` or `ConfigError`.
    """
    if isinstance(config, TensorRTConfig):
        check_dla_stages(bundle, config)
        load_tensorrt()
        load_driver()


def runner_for(
    bundle: Bundle,
    config: RuntimeConfig = _ONNX,
    *,
    progress: BuildProgress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Runner:
    """A runner for the bundle on the backend asked for, never on another.

    A backend that builds first tells `progress` how far it is, and asks whether it was `cancelled`; both
    from other threads. Raises `RunnerError` where the backend is not there, or can't load a stage, and
    `ConfigError` where its options don't fit the bundle.
    """
    check_backend(bundle, config)
    if isinstance(config, OnnxConfig):
        return OnnxRunner(bundle, config.threads)
    if isinstance(config, TensorRTConfig):
        return runner_on_this_gpu(bundle, config, progress=progress, cancelled=cancelled)
    assert_never(config)
