"""An ONNX graph made into a TensorRT engine: strongly typed, static, within a limit of memory."""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from edge.errors import BundleCorrupt, RunnerError
from edge.runtime.tensorrt.api import create, log_of, told
from edge.runtime.tensorrt.options import BuildOptions
from edge.runtime.tensorrt.progress import BuildProgress, Watch, make_monitor
from edge.runtime.tensorrt.timing import TimingCache

__all__ = ["BuildCancelled", "build_engine"]

_log = logging.getLogger(__name__)

_MIB = 1 << 20


class BuildCancelled(RunnerError):
    """The build was given up because it was told to."""


def build_engine(
    trt: Any,
    onnx_path: Path,
    options: BuildOptions,
    *,
    sha256: str | None = None,
    timing: TimingCache | None = None,
    progress: BuildProgress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> bytes:
    """The serialised engine ("plan") of an ONNX file; takes from a second to many minutes.

    `trt` is TensorRT's module. Every tensor has the type that the graph gives it. `sha256`, where given,
    is what the file's bytes must have. `timing` makes a second build of a similar graph quicker.
    `progress` is told of each step and `cancelled` asked; both from other threads.

    Raises `RunnerError` where TensorRT can't parse or build the graph, naming the nodes; `BuildCancelled`;
    `BundleCorrupt` where the file can't be read or has another sha256; and what `progress` raises. Ctrl-C
    gives the build up at its next step.
    """
    onnx = _read(onnx_path, sha256)
    watch = Watch(onnx_path.name, progress, cancelled)
    # Python raises KeyboardInterrupt in the main thread, wherever it is: it must not be in a call that
    # TensorRT's C++ makes, which it would end the process from. So the builder has a thread of its own.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="tensorrt-build") as thread:
        work = thread.submit(_build, trt, onnx, onnx_path, options, timing, watch)
        try:
            plan = work.result()
        except BaseException:
            watch.go_on = False
            raise
    watch.finish()
    return plan


def _build(  # noqa: PLR0917  # build_engine's own, for its thread
    trt: Any, onnx: bytes, path: Path, options: BuildOptions, timing: TimingCache | None, watch: Watch
) -> bytes:
    builder = create(trt, "Builder", trt.Builder)
    monitor = make_monitor(trt, watch)
    with log_of(trt).errors() as said:
        # The parser doesn't keep the network alive, nor the network the parser's weights: hold both.
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, log_of(trt).logger)
        _parse(trt, parser, onnx, path, said)
        _check_static(network, path)
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb * _MIB)
        config.builder_optimization_level = options.optimization_level
        # On by default from Ampere on: float32 products with ten bits of mantissa. A distance that is a small
        # difference of large squares would be noise, and the graph says which precision is meant.
        config.clear_flag(trt.BuilderFlag.TF32)
        config.progress_monitor = monitor
        if options.dla_core is not None:
            _use_dla(trt, builder, network, config, options, path)
        if timing is not None:
            timing.lend(trt, config)
        plan = builder.build_serialized_network(network, config)
        if watch.failure is not None:
            raise watch.failure
        if plan is None:
            if not watch.go_on:
                raise BuildCancelled(f"{path}: building its engine was cancelled")
            raise RunnerError(
                f"{path}: TensorRT {trt.__version__} can't build it{told(said)}; if it ran out of memory "
                f"lower runtime.workspace_mb (now {options.workspace_mb}) or stop what else runs; if not, "
                "export the bundle with another precision"
            )
        if timing is not None:
            timing.take_back(trt, config)
        return bytes(plan)


def _read(path: Path, sha256: str | None) -> bytes:
    try:
        onnx = path.read_bytes()
    except OSError as error:
        raise BundleCorrupt(f"{path}: can't be read ({error.strerror}); copy the bundle again") from error
    if sha256 is not None and hashlib.sha256(onnx).hexdigest() != sha256:
        raise BundleCorrupt(
            f"{path}: differs from its sha256; it was changed since the bundle was loaded: copy "
            "the bundle again"
        )
    return onnx


def _parse(trt: Any, parser: Any, onnx: bytes, path: Path, said: deque[str]) -> None:
    if parser.parse(onnx):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    lines = [f"  node {_node(error)}: {error.desc()}" for error in errors]
    raise RunnerError(
        f"{path}: TensorRT {trt.__version__} can't parse it{'' if lines else told(said)}; export the bundle "
        "anew: `edge-export` keeps to operators that TensorRT has" + "".join(f"\n{line}" for line in lines)
    )


def _node(error: Any) -> str:
    name, operator = error.node_name(), error.node_operator()
    return " ".join(part for part in (f"{error.node()}", repr(name) if name else "", operator) if part)


def _check_static(network: Any, path: Path) -> None:
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    tensors += [network.get_output(index) for index in range(network.num_outputs)]
    moving = [
        f"{tensor.name} {tuple(tensor.shape)}" for tensor in tensors if min(tensor.shape, default=0) < 0
    ]
    if moving:
        raise RunnerError(
            f"{path}: these tensors have shapes that only a run would fix: {', '.join(moving)}; memory would "
            "grow as they change: export the bundle with fixed shapes"
        )


def _use_dla(  # noqa: PLR0917  # TensorRT's own four objects
    trt: Any, builder: Any, network: Any, config: Any, options: BuildOptions, path: Path
) -> None:
    """Put on the DLA what it can run; how many layers that are is said, and none at all is an error."""
    cores = builder.num_DLA_cores
    if options.dla_core is None or options.dla_core >= cores:
        raise RunnerError(
            f"{path}: runtime.dla_core is {options.dla_core}, this machine has {cores} DLA cores (an Orin "
            "NX or AGX Orin has them); leave out runtime.dla_stages"
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = options.dla_core
    if options.allow_gpu_fallback:
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    able = sum(1 for layer in layers if config.can_run_on_DLA(layer))
    if able == 0:
        raise RunnerError(
            f"{path}: the DLA can run none of its {len(layers)} layers (it knows FP16 and INT8 alone); "
            "export this stage with --precision fp16, or take it out of runtime.dla_stages"
        )
    _log.info("%s: the DLA can run %d of %d layers, the GPU the others", path.name, able, len(layers))
