"""A pretend TensorRT over a pretend GPU: plans hold the ONNX graph, ONNX Runtime does the sums.

It has the names of `allowed_names.TENSORRT` and no others, returns what TensorRT returns (False, None) where
TensorRT does, and calls a mistake what would crash TensorRT or give wrong numbers in silence.
"""

from __future__ import annotations

import enum
import json
import weakref
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort

from edge.runtime.onnx import session_options
from tests.edge.tensorrt.fake_building import builder_names
from tests.edge.tensorrt.fake_cuda import PretendGpu

__all__ = ["VERSION", "fake_plan", "fake_tensorrt"]

VERSION = "10.3.0"
_MAGIC = b"pretend plan "
_TYPES = {
    "tensor(float)": ("FLOAT", "float32"),
    "tensor(float16)": ("HALF", "float16"),
    "tensor(uint8)": ("UINT8", "uint8"),
    "tensor(int8)": ("INT8", "int8"),
    "tensor(int32)": ("INT32", "int32"),
    "tensor(int64)": ("INT64", "int64"),
    "tensor(bool)": ("BOOL", "bool"),
}


def fake_plan(
    onnx: bytes,
    *,
    tensorrt: str = VERSION,
    dla_core: int | None = None,
    scratch_bytes: int = 4096,
    lies: dict[str, dict[str, Any]] | None = None,
) -> bytes:
    """A plan of this graph. `lies`: what its engine says wrongly of a tensor: name, mode, dtype, shape, …"""
    header = {"tensorrt": tensorrt, "dla_core": dla_core, "scratch": scratch_bytes, "lies": lies or {}}
    return _MAGIC + json.dumps(header).encode() + b"\n" + onnx


@dataclass(eq=False)
class _State:
    """What outlives the Python objects, so that a use after they are gone is seen."""

    gpu: PretendGpu
    name: str
    alive: bool = True
    children: int = 0
    parent: _State | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def use(self, what: str) -> None:
        if not self.alive:
            raise self.gpu.mistake(f"{what}: the {self.name} is gone")
        if not self.gpu.here():
            raise self.gpu.mistake(f"{what}: on a thread without the context")

    def born(self, parent: _State | None) -> None:
        self.gpu.new_handle(self.name)
        self.parent = parent
        if parent is not None:
            parent.children += 1

    def dies(self) -> None:
        self.alive = False
        self.gpu.gone(self.name)
        if self.children:
            self.gpu.mistakes.append(f"a {self.name} died before what was made of it")
        if self.parent is not None:
            self.parent.children -= 1


class _Tensor:
    """An input or output of a graph, as its engine tells of it."""

    def __init__(self, node: Any, mode: Any, trt: Any, lies: dict[str, Any]) -> None:
        word, self.numpy = _TYPES[node.type]
        self.real_name = node.name
        self.size_bytes = int(np.prod(node.shape)) * np.dtype(self.numpy).itemsize
        self.real_shape = tuple(node.shape)
        self.name = lies.get("name", node.name)
        self.mode = trt.TensorIOMode[lies["mode"]] if "mode" in lies else mode
        self.dtype = trt.DataType[lies.get("dtype", word)]
        self.shape = tuple(lies.get("shape", node.shape))
        self.format = lies.get("format", trt.TensorFormat.LINEAR)
        self.location = trt.TensorLocation[lies.get("location", "DEVICE")]


def fake_tensorrt(gpu: PretendGpu, version: str = VERSION) -> Any:
    """The module `tensorrt` for this GPU."""
    trt: Any = ModuleType("tensorrt")  # hashable, as a module is

    class IExecutionContext:
        def __init__(self, engine: _State) -> None:
            self._state = _State(gpu, "execution context")
            self._state.born(engine)
            self._engine = engine
            self._addresses: dict[str, int] = {}
            self._scratch: tuple[int, int] | None = None

        def __del__(self) -> None:
            self._state.dies()

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._use("set_tensor_address")
            tensors: dict[str, _Tensor] = self._engine.extra["tensors"]
            if name not in tensors or memory % 256:
                trt._log("ERROR", f"setTensorAddress: {name} at {memory:#x} is no tensor, or not aligned")
                return False
            gpu.block_at(memory, tensors[name].size_bytes, f"tensor {name!r}")
            self._addresses[name] = memory
            return True

        def set_device_memory(self, memory: int, size: int) -> None:
            self._use("set_device_memory")
            if size < self._engine.extra["scratch"] or memory % 256:
                raise gpu.mistake(f"{size} bytes of scratch at {memory:#x}: too few, or not aligned")
            gpu.block_at(memory, size, "scratch")
            self._scratch = (memory, size)

        def execute_async_v3(self, stream_handle: int) -> bool:
            self._use("execute_async_v3")
            gpu.check("enqueueV3")
            extra = self._engine.extra
            missing = sorted(set(extra["tensors"]) - set(self._addresses))
            if missing:
                raise gpu.mistake(f"run before the addresses of {missing} were set")
            if self._scratch is None:
                raise gpu.mistake("run before its scratch memory was given")
            queue = gpu.queue_at(stream_handle)
            if gpu.refuses_runs:
                trt._log("ERROR", "IExecutionContext::enqueueV3: pretended refusal")
                return False
            blocks = {
                name: gpu.block_at(self._addresses[name], tensor.size_bytes, f"tensor {name!r}")
                for name, tensor in extra["tensors"].items()
            }
            inputs = {n: b for n, b in blocks.items() if extra["tensors"][n].mode == trt.TensorIOMode.INPUT}
            outputs = {n: b for n, b in blocks.items() if n not in inputs}
            scratch = gpu.block_at(*self._scratch, "scratch")
            session, tensors = extra["session"], extra["tensors"]

            def run() -> None:
                feed = {
                    tensors[n].real_name: b.data[: tensors[n].size_bytes]
                    .view(tensors[n].numpy)
                    .reshape(tensors[n].real_shape)
                    for n, b in inputs.items()
                }
                made = session.run([tensors[n].real_name for n in outputs], feed)
                for block, array in zip(outputs.values(), made, strict=True):
                    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                    block.data[: flat.nbytes] = flat

            gpu.ran.append((stream_handle, frozenset(outputs)))
            writes = [*outputs.values(), scratch]
            gpu.enqueue(f"a run for {sorted(outputs)}", queue, list(inputs.values()), writes, run)
            return True

        def _use(self, what: str) -> None:
            self._state.use(what)
            if not self._engine.alive:
                raise gpu.mistake(f"{what}: the context's engine is gone")

    class ICudaEngine:
        def __init__(self, runtime: _State, session: Any, header: dict[str, Any]) -> None:
            self._state = _State(gpu, "engine")
            self._state.born(runtime)
            modes = trt.TensorIOMode
            found = [
                _Tensor(node, mode, trt, header["lies"].get(node.name, {}))
                for nodes, mode in (
                    (session.get_inputs(), modes.INPUT),
                    (session.get_outputs(), modes.OUTPUT),
                )
                for node in nodes
                if not header["lies"].get(node.name, {}).get("hidden")
            ]
            self._state.extra = {
                "tensors": {tensor.name: tensor for tensor in found},
                "session": session,
                "scratch": header["scratch"],
            }

        def __del__(self) -> None:
            self._state.dies()

        @property
        def num_io_tensors(self) -> int:
            return len(self._tensors())

        @property
        def device_memory_size_v2(self) -> int:
            return int(self._state.extra["scratch"])

        def get_tensor_name(self, index: int) -> str:
            return list(self._tensors())[index]

        def get_tensor_mode(self, name: str) -> Any:
            return self._tensors()[name].mode

        def get_tensor_dtype(self, name: str) -> Any:
            return self._tensors()[name].dtype

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return self._tensors()[name].shape

        def get_tensor_format(self, name: str) -> Any:
            return self._tensors()[name].format

        def get_tensor_location(self, name: str) -> Any:
            return self._tensors()[name].location

        def create_execution_context(self, strategy: Any) -> IExecutionContext | None:
            self._tensors()
            if strategy is not trt.ExecutionContextAllocationStrategy.USER_MANAGED:
                raise gpu.mistake("the context would take scratch memory of its own")
            return None if gpu.refuses_contexts else IExecutionContext(self._state)

        def _tensors(self) -> dict[str, _Tensor]:
            self._state.use("an engine")
            tensors: dict[str, _Tensor] = self._state.extra["tensors"]
            return tensors

    class Runtime:
        DLA_core = -1

        def __init__(self, logger: Any) -> None:
            if gpu.unusable:
                raise TypeError("pybind11::init(): factory function returned nullptr")
            trt._loggers.add(logger)
            self._state = _State(gpu, "runtime")
            self._state.born(None)
            self._state.use("a runtime")

        def __del__(self) -> None:
            if hasattr(self, "_state"):
                self._state.dies()

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            self._state.use("deserialize_cuda_engine")
            plan = bytes(serialized_engine)
            header, newline, onnx = plan.removeprefix(_MAGIC).partition(b"\n")
            if not plan.startswith(_MAGIC) or not newline:
                trt._log("ERROR", "IRuntime::deserializeCudaEngine: the plan's magic tag does not match")
                return None
            said = json.loads(header)
            if said["tensorrt"] != version:
                trt._log("ERROR", f"the plan is of version {said['tensorrt']}, this is {version}")
                return None
            if said["dla_core"] is not None and said["dla_core"] != self.DLA_core:
                trt._log("ERROR", f"the plan runs on DLA core {said['dla_core']}, not {self.DLA_core}")
                return None
            session = ort.InferenceSession(
                onnx, session_options(), providers=["CPUExecutionProvider"], enable_fallback=0
            )
            return ICudaEngine(self._state, session, said)

    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    class ILogger:
        def log(self, severity: Severity, msg: str) -> None:
            raise NotImplementedError

    ILogger.Severity = Severity  # type: ignore[attr-defined]  # as the bindings have it

    def log(severity: str, message: str) -> None:
        for logger in list(trt._loggers):
            logger.log(Severity[severity], message)

    trt._log, trt._loggers = log, weakref.WeakSet()
    vars(trt).update(
        __version__=version,
        ILogger=ILogger,
        Runtime=Runtime,
        ICudaEngine=ICudaEngine,
        IExecutionContext=IExecutionContext,
        DataType=enum.Enum("DataType", "FLOAT HALF UINT8 INT8 INT32 INT64 BOOL"),
        TensorIOMode=enum.Enum("TensorIOMode", "INPUT OUTPUT"),
        TensorFormat=enum.Enum("TensorFormat", "LINEAR"),
        TensorLocation=enum.Enum("TensorLocation", "DEVICE HOST"),
        ExecutionContextAllocationStrategy=enum.Enum(
            "ExecutionContextAllocationStrategy", "STATIC USER_MANAGED"
        ),
        **builder_names(gpu, trt, fake_plan),
    )
    return trt
