"""The TensorRT backend: a bundle's stages as engines on the GPU, between which nothing is copied."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np

from edge.bundle import Bundle, StageSpec
from edge.config import TensorRTConfig
from edge.errors import GpuLost, RunnerError
from edge.runtime.runner import Array, Runner
from edge.runtime.tensorrt.api import create_runtime, load_tensorrt, log_of, told
from edge.runtime.tensorrt.cuda import DeviceBuffer, Event, Gpu, HostBuffer, Stream, this_gpu
from edge.runtime.tensorrt.engines import EngineKey
from edge.runtime.tensorrt.lanes import plan_steps
from edge.runtime.tensorrt.loading import Context, Engine, check_engine
from edge.runtime.tensorrt.progress import BuildProgress
from edge.runtime.tensorrt.provider import EngineProvider, StageEngine

__all__ = ["Engines", "TensorRtRunner", "runner_on_this_gpu"]

_log = logging.getLogger(__name__)

_MIB = 1 << 20


class Engines(Protocol):
    """Where a runner's engines come from: `EngineProvider` is one."""

    def key(self, bundle: Bundle, stage: StageSpec) -> EngineKey: ...

    def engine(
        self, bundle: Bundle, stage: StageSpec, deserialise: Callable[[bytes], Engine | None]
    ) -> StageEngine[Engine]: ...


def runner_on_this_gpu(
    bundle: Bundle,
    config: TensorRTConfig,
    *,
    progress: BuildProgress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> TensorRtRunner:
    """A runner on the first GPU of this machine; engines that are missing are built, which takes minutes.

    Raises `RunnerError` where TensorRT, pycuda or the GPU is missing, and what `EngineProvider.engine` and
    `TensorRtRunner` raise.
    """
    trt, gpu = load_tensorrt(), this_gpu()
    engines = EngineProvider(trt, config, gpu.identity, progress=progress, cancelled=cancelled)
    return TensorRtRunner(bundle, trt=trt, gpu=gpu, engines=engines, streams=config.streams)


class TensorRtRunner(Runner):
    """Runs each stage as a TensorRT engine.

    Every tensor of the bundle has its own place in the device's memory, where one stage leaves it and the
    next finds it. Stages that don't need each other's results run on up to `streams` streams at once;
    those of one stream share one piece of scratch memory. One file that several stages name is one
    engine with a context for each. Only what is fetched comes back to the host.

    Raises `RunnerError` where an engine can't be had, or does not fit the manifest; then nothing is left on
    the GPU. `run` raises `GpuLost` where the process must restart.
    """

    def __init__(self, bundle: Bundle, *, trt: Any, gpu: Gpu, engines: Engines, streams: int = 2) -> None:
        super().__init__(bundle)
        self._trt = trt
        self._gpu = gpu
        self._steps = plan_steps(bundle.manifest.stages, bundle.wanted, streams)
        self._stages = {stage.name: stage for stage in bundle.manifest.stages}
        self._specs = self._expected | {
            name: (spec.dtype, spec.shape) for name, spec in bundle.manifest.tensors.items()
        }
        self._buffers: dict[str, DeviceBuffer] = {}
        self._uploads: dict[str, HostBuffer] = {}
        self._downloads: dict[str, HostBuffer] = {}
        self._contexts: dict[str, Context] = {}
        self._streams: list[Stream] = []
        self._events: dict[int, Event] = {}
        # What is on the GPU, in the order in which it came there: it leaves it in reverse. Nothing runs there
        # then: a run that has returned has waited, and one that has failed too (`Gpu.call`).
        self._held: ExitStack | None = ExitStack()
        try:
            loaded = self._load(engines, self._held)
            gpu.call(lambda: self._prepare(loaded, self._stack()))
        except BaseException:
            self.close()
            raise

    def _run(self, tensors: Mapping[str, Array], fetch: Sequence[str]) -> dict[str, Array]:
        self._stack()
        return self._gpu.call(lambda: self._run_on_gpu(tensors, tuple(dict.fromkeys(fetch))))

    def close(self) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        try:
            self._gpu.call(held.close)
        except GpuLost as error:
            # Whoever ran into it was told. To free in a broken context can end the process at once.
            self._gpu.keep(held)
            _log.warning("%s: nothing of it is freed: %s", self.bundle.path, error)

    def _stack(self) -> ExitStack:
        if self._held is None:
            raise RunnerError(f"the runner of {self.bundle.path} is closed; make a new one")
        return self._held

    def _load(self, engines: Engines, held: ExitStack) -> dict[str, Engine]:
        """The engine of each stage, by the stage's name; here, engines may be built."""
        runtime = self._gpu.call(lambda: _Runtime(self._trt, held))
        loaded: dict[EngineKey, Engine] = {}
        for stage in self.bundle.manifest.stages:
            key = engines.key(self.bundle, stage)
            if key not in loaded:

                def deserialise(plan: bytes, dla_core: int | None = key.options.dla_core) -> Engine | None:
                    return self._gpu.call(lambda: runtime.engine(plan, dla_core))

                loaded[key] = engines.engine(self.bundle, stage, deserialise).engine
        return {stage.name: loaded[engines.key(self.bundle, stage)] for stage in self.bundle.manifest.stages}

    def _prepare(self, engines: Mapping[str, Engine], held: ExitStack) -> None:
        """Memory, contexts, streams and events; on the GPU's thread."""
        gpu = self._gpu
        tensors = {name: engine.tensors() for name, engine in engines.items()}
        for name, found in tensors.items():
            check_engine(found, self._stages[name], self._specs, str(self.bundle.path))

        def memory(size_bytes: int) -> DeviceBuffer:
            buffer = gpu.device_buffer(size_bytes)
            held.callback(buffer.free)
            return buffer

        for name, (dtype, shape) in self._specs.items():
            self._buffers[name] = memory(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        for name in self._expected:
            self._uploads[name] = self._host_buffer(name, held)
        lanes = {step.name: step.lane for step in self._steps if step.kind == "stage"}
        needed = [0] * (max(lanes.values()) + 1)
        for name, engine in engines.items():
            needed[lanes[name]] = max(needed[lanes[name]], engine.scratch_bytes)
        # Stages of one lane run one after the other, so what one has scribbled there the next may overwrite.
        scratch = [memory(size_bytes) for size_bytes in needed]
        for name, engine in engines.items():
            stage = self._stages[name]
            context = engine.context()
            held.callback(context.free)
            wires = {**stage.inputs, **stage.outputs}
            addresses = {
                graph: self._buffers[wires[graph]].address
                if graph in wires
                else memory(tensor.size_bytes).address  # an output that nobody takes must go somewhere
                for graph, tensor in tensors[name].items()
            }
            context.bind(addresses, scratch[lanes[name]])
            self._contexts[name] = context
        for _ in needed:
            stream = gpu.stream()
            held.callback(stream.free)
            self._streams.append(stream)
        for number, step in enumerate(self._steps):
            if step.awaited:
                event = gpu.event()
                held.callback(event.free)
                self._events[number] = event
        gpu.synchronize()
        _log.info(
            "%s: %d stages, %d engines, %d streams, %.1f MiB for tensors, %.1f MiB of scratch on %s",
            self.bundle.path,
            len(self._stages),
            len({id(engine) for engine in engines.values()}),
            len(self._streams),
            sum(buffer.size_bytes for buffer in self._buffers.values()) / _MIB,
            sum(needed) / _MIB,
            gpu.identity.name,
        )

    def _host_buffer(self, name: str, held: ExitStack) -> HostBuffer:
        dtype, shape = self._specs[name]
        buffer = self._gpu.host_buffer(dtype, shape)
        held.callback(buffer.free)
        return buffer

    def _run_on_gpu(self, tensors: Mapping[str, Array], fetch: Sequence[str]) -> dict[str, Array]:
        with log_of(self._trt).errors() as said:
            for number, step in enumerate(self._steps):
                stream = self._streams[step.lane]
                for other in step.waits:
                    stream.wait_for(self._events[other])
                if step.kind == "upload":
                    np.copyto(self._uploads[step.name].array, tensors[step.name])
                    self._uploads[step.name].upload(self._buffers[step.name], stream)
                elif not self._contexts[step.name].queue(stream):
                    stage = self._stages[step.name]
                    raise RunnerError(
                        f"stage {stage.name!r} ({stage.file}): TensorRT refuses to run it{told(said)}; if "
                        "this goes on restart the process, then build the engine anew"
                    )
                if step.awaited:
                    self._events[number].record(stream)
                if step.kind == "stage":
                    for tensor in self._stages[step.name].outputs.values():
                        if tensor in fetch:
                            self._download(tensor, stream)
            for stream in self._streams:
                stream.synchronize()
        return {name: self._downloads[name].array.copy() for name in fetch}

    def _download(self, name: str, stream: Stream) -> None:
        if name not in self._downloads:
            self._downloads[name] = self._host_buffer(name, self._stack())
        self._downloads[name].download(self._buffers[name], stream)


class _Runtime:
    """TensorRT's Runtime, which outlives its engines; on the GPU's thread."""

    def __init__(self, trt: Any, held: ExitStack) -> None:
        self._trt = trt
        self._held = held
        self._raw: Any = create_runtime(trt)
        held.callback(self._free)

    def engine(self, plan: bytes, dla_core: int | None) -> Engine | None:
        """None where TensorRT refuses the plan, and tells its log why."""
        if dla_core is not None:
            self._raw.DLA_core = dla_core
        raw = self._raw.deserialize_cuda_engine(plan)
        if raw is None:
            return None
        engine = Engine(self._trt, raw)
        self._held.callback(engine.free)
        return engine

    def _free(self) -> None:
        self._raw = None
