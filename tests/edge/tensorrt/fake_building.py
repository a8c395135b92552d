"""The half of the pretend TensorRT that builds: it parses with `onnx`, and its plan holds the graph."""

from __future__ import annotations

import enum
import weakref
from collections.abc import Callable
from typing import Any

import google.protobuf.message
import onnx

from tests.edge.tensorrt.fake_cuda import PretendGpu

__all__ = ["builder_names"]


def builder_names(gpu: PretendGpu, trt: Any, plan_of: Callable[..., bytes]) -> dict[str, Any]:
    """The names that building needs, for the pretend module `trt`."""

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        STRONGLY_TYPED = 1

    class MemoryPoolType(enum.Enum):
        WORKSPACE = 0

    class DeviceType(enum.Enum):
        GPU = 0
        DLA = 1

    class BuilderFlag(enum.Enum):
        GPU_FALLBACK = 0
        TF32 = 1

    class ITensor:
        def __init__(self, info: onnx.ValueInfoProto) -> None:
            self.name = info.name
            dims = info.type.tensor_type.shape.dim
            self.shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)

    class ILayer:
        pass

    class INetworkDefinition:
        def __init__(self) -> None:
            self._model = onnx.ModelProto()
            self._onnx = b""

        @property
        def num_inputs(self) -> int:
            return len(self._model.graph.input)

        @property
        def num_outputs(self) -> int:
            return len(self._model.graph.output)

        @property
        def num_layers(self) -> int:
            return len(self._model.graph.node)

        def get_input(self, index: int) -> ITensor:
            return ITensor(self._model.graph.input[index])

        def get_output(self, index: int) -> ITensor:
            return ITensor(self._model.graph.output[index])

        def get_layer(self, index: int) -> ILayer:
            return ILayer()

    class ParserError:
        def __init__(self, what: str) -> None:
            self._what = what

        def node(self) -> int:
            return 0

        def node_name(self) -> str:
            return ""

        def node_operator(self) -> str:
            return ""

        def desc(self) -> str:
            return self._what

    class OnnxParser:
        def __init__(self, network: INetworkDefinition, logger: Any) -> None:
            trt._loggers.add(logger)
            self._network = weakref.ref(network)  # like TensorRT's, it does not keep the network alive
            self._errors: list[ParserError] = []

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

        def parse(self, model: bytes) -> bool:
            network = self._network()
            if network is None:
                raise gpu.mistake("the parser's network is gone: TensorRT would crash")
            try:
                network._model.ParseFromString(model)
                network._onnx = bytes(model)
            except google.protobuf.message.DecodeError as error:
                self._errors.append(ParserError(str(error)))
                return False
            return True

    class ITimingCache:
        def serialize(self) -> bytes:
            return b"pretend timings"

    class IBuilderConfig:
        builder_optimization_level = 3
        progress_monitor: Any = None
        default_device_type = DeviceType.GPU
        DLA_core = -1

        def __init__(self) -> None:
            self._cache: ITimingCache | None = None
            self.flags = {BuilderFlag.TF32}  # TensorRT's default

        def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
            if pool_size <= 0:
                raise gpu.mistake(f"a workspace of {pool_size} bytes")

        def set_flag(self, flag: BuilderFlag) -> None:
            self.flags.add(BuilderFlag(flag))

        def clear_flag(self, flag: BuilderFlag) -> None:
            self.flags.discard(BuilderFlag(flag))

        def can_run_on_DLA(self, layer: ILayer) -> bool:  # noqa: N802  # TensorRT's name
            return True

        def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
            return ITimingCache()

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            self._cache = cache
            return True

        def get_timing_cache(self) -> ITimingCache | None:
            return self._cache

    class Builder:
        num_DLA_cores = 2  # noqa: N815  # TensorRT's name

        def __init__(self, logger: Any) -> None:
            if gpu.unusable:
                raise TypeError("pybind11::init(): factory function returned nullptr")
            trt._loggers.add(logger)

        def create_network(self, flags: int) -> INetworkDefinition:
            if flags != 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED:
                raise gpu.mistake("a network that is not strongly typed: TensorRT may choose its own types")
            return INetworkDefinition()

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
            gpu.made["build"] += 1
            if BuilderFlag.TF32 in config.flags:
                raise gpu.mistake("float32 products would be computed in TF32: ten bits of mantissa")
            monitor = config.progress_monitor
            if monitor is not None:
                monitor.phase_start("Building", None, 2)
                for step in range(2):
                    if not monitor.step_complete("Building", step):
                        return None
                monitor.phase_finish("Building")
            on_dla = config.default_device_type is DeviceType.DLA
            return plan_of(network._onnx, dla_core=config.DLA_core if on_dla else None)

    class IProgressMonitor:
        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...

        def step_complete(self, phase_name: str, step: int) -> bool:
            return True

        def phase_finish(self, phase_name: str) -> None: ...

    return {
        made.__name__: made
        for made in (
            NetworkDefinitionCreationFlag,
            MemoryPoolType,
            DeviceType,
            BuilderFlag,
            ITensor,
            ILayer,
            INetworkDefinition,
            ParserError,
            OnnxParser,
            ITimingCache,
            IBuilderConfig,
            Builder,
            IProgressMonitor,
        )
    } | {"IHostMemory": bytes}
