"""An engine in the GPU's memory, what it says of its tensors, and the contexts that run it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.bundle import StageSpec
from edge.errors import RunnerError
from edge.runtime.tensorrt.cuda import DeviceBuffer, Stream

__all__ = ["Context", "Engine", "EngineTensor", "check_engine"]


@dataclass(frozen=True, slots=True)
class EngineTensor:
    """What an engine says of one of its inputs or outputs; `dtype` in NumPy's words, "" where it has none."""

    is_input: bool
    dtype: str
    shape: tuple[int, ...]
    linear: bool
    on_device: bool

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class Engine:
    """A deserialised plan; all of it on the GPU's thread.

    `scratch_bytes` is the device memory that a context of it needs while it runs.
    """

    def __init__(self, trt: Any, raw: Any) -> None:
        self._trt = trt
        self._raw: Any = raw

    @property
    def scratch_bytes(self) -> int:
        return int(self._raw.device_memory_size_v2)

    def tensors(self) -> dict[str, EngineTensor]:
        """Its inputs and outputs, by the graph's names."""
        trt, raw = self._trt, self._raw
        dtypes = {
            trt.DataType.FLOAT: "float32",
            trt.DataType.HALF: "float16",
            trt.DataType.UINT8: "uint8",
            trt.DataType.INT8: "int8",
            trt.DataType.INT32: "int32",
            trt.DataType.INT64: "int64",
            trt.DataType.BOOL: "bool",
        }
        names = [str(raw.get_tensor_name(number)) for number in range(raw.num_io_tensors)]
        return {
            name: EngineTensor(
                is_input=raw.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
                dtype=dtypes.get(raw.get_tensor_dtype(name), ""),
                shape=tuple(int(side) for side in raw.get_tensor_shape(name)),
                linear=raw.get_tensor_format(name) == trt.TensorFormat.LINEAR,
                on_device=raw.get_tensor_location(name) == trt.TensorLocation.DEVICE,
            )
            for name in names
        }

    def context(self) -> Context:
        """A new way to run it, with scratch memory that is given to it; raises `RunnerError`."""
        raw = self._raw.create_execution_context(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if raw is None:
            raise RunnerError(
                "TensorRT gives no execution context; the GPU's memory may be full: stop what else uses it"
            )
        return Context(raw)

    def free(self) -> None:
        """Give it back, after its contexts: TensorRT does when nobody holds it."""
        self._raw = None


class Context:
    """One way to run an engine, on fixed addresses."""

    def __init__(self, raw: Any) -> None:
        self._raw: Any = raw

    def bind(self, addresses: Mapping[str, int], scratch: DeviceBuffer) -> None:
        """Where its tensors lie, and its scratch memory, which nothing may use that runs at the same time."""
        for name, address in addresses.items():
            if not self._raw.set_tensor_address(name, address):
                raise RunnerError(f"TensorRT refuses an address for tensor {name!r}; build the engine anew")
        self._raw.set_device_memory(scratch.address, scratch.size_bytes)

    def queue(self, stream: Stream) -> bool:
        """Queue one run; False where TensorRT refuses, and tells its log why."""
        return bool(self._raw.execute_async_v3(stream.handle))

    def free(self) -> None:
        """Give it back: TensorRT does when nobody holds it."""
        self._raw = None


def check_engine(
    tensors: Mapping[str, EngineTensor],
    stage: StageSpec,
    specs: Mapping[str, tuple[str, tuple[int, ...]]],
    where: str,
) -> None:
    """That an engine of these tensors takes and gives what the manifest wires for this stage.

    `specs` is dtype and shape by the tensor's name, `where` names the bundle. Outputs that the manifest
    leaves out are no mistake. Raises `RunnerError`.
    """
    mend = (
        "build the engine anew (delete it, or edge-build --force); if that does not help the manifest is "
        "wrong: export the bundle anew"
    )
    inputs = sorted(name for name, tensor in tensors.items() if tensor.is_input)
    outputs = sorted(name for name, tensor in tensors.items() if not tensor.is_input)
    if inputs != sorted(stage.inputs) or not set(stage.outputs) <= set(outputs):
        raise RunnerError(
            f"{where}: stage {stage.name!r} wires the inputs {sorted(stage.inputs)} and outputs "
            f"{sorted(stage.outputs)}, the engine of {stage.file} has inputs {inputs} and outputs {outputs}; "
            f"{mend}"
        )
    for name, tensor in {**stage.inputs, **stage.outputs}.items():
        found = tensors[name]
        if (found.dtype, found.shape) != specs[tensor]:
            raise RunnerError(
                f"{where}: {name!r} of the engine of {stage.file} is {found.dtype}{found.shape}, tensor "
                f"{tensor!r} of stage {stage.name!r} is {specs[tensor][0]}{specs[tensor][1]}; {mend}"
            )
    for name, found in tensors.items():
        if not (found.dtype and found.linear and found.on_device and min(found.shape, default=0) >= 0):
            raise RunnerError(
                f"{where}: {name!r} of the engine of {stage.file} is {found}; it must lie row by row in the "
                f"device's memory, with a fixed shape and a type that NumPy has; {mend}"
            )
