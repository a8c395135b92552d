"""The names of `pycuda.driver` that the code may use, over a pretend GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tests.edge.tensorrt.fake_cuda import Block, PretendGpu

__all__ = ["driver_of"]


def driver_of(gpu: PretendGpu) -> Any:
    """The names of `pycuda.driver` that the code may use; any other is an AttributeError."""

    class Error(Exception):
        pass

    class MemoryError(Error):  # noqa: A001  # pycuda's name
        pass

    class LogicError(Error):
        pass

    class Context:
        """The primary one."""

        def push(self) -> None:
            stack = gpu.stack()
            if stack:
                raise gpu.mistake("a context is pushed onto another")
            stack.append(self)

        @staticmethod
        def pop() -> None:
            if not gpu.stack():
                raise gpu.mistake("a context is popped that is not there")
            gpu.stack().pop()

        @staticmethod
        def synchronize() -> None:
            gpu.check("cuCtxSynchronize")
            gpu.run_until(
                {handle: len(q.operations) - 1 for handle, q in gpu.streams.items() if q.operations}
            )

    class Device:
        def __init__(self, ordinal: int) -> None:
            if not driver.initialised:
                raise LogicError("cuDeviceGet failed: not initialized")
            if ordinal != 0:
                raise LogicError("cuDeviceGet failed: invalid device ordinal")

        @staticmethod
        def count() -> int:
            return 0 if gpu.unusable else 1

        def name(self) -> str:
            return "Pretend Orin"

        def compute_capability(self) -> tuple[int, int]:
            return (8, 7)

        def retain_primary_context(self) -> Context:
            gpu.made["context"] += 1
            if gpu.made["context"] > 1:
                raise gpu.mistake("the primary context is retained twice")
            return Context()

    class DeviceAllocation:
        def __init__(self, address: int) -> None:
            self._address = address

        def __int__(self) -> int:
            return self._address

        def free(self) -> None:
            gpu.free_block("device memory", self._address)

        def __del__(self) -> None:
            if not gpu.blocks[self._address].freed:
                gpu.free_block("device memory", self._address, collected=True)

    class PagelockedHostAllocation:
        def __init__(self, address: int, block: Block, dtype: Any, shape: tuple[int, ...]) -> None:
            self.address = address
            self.__array_interface__ = {
                "shape": shape,
                "typestr": dtype.str,
                "data": (block.data.ctypes.data, False),
                "version": 3,
            }

        def free(self) -> None:
            gpu.free_block("host memory", self.address)

        def __del__(self) -> None:
            if not gpu.blocks[self.address].freed:
                gpu.free_block("host memory", self.address, collected=True)

    class Stream:
        def __init__(self) -> None:
            gpu.allocate("cuStreamCreate")
            self.handle = gpu.new_handle("stream")
            gpu.new_stream(self.handle)

        def synchronize(self) -> None:
            gpu.check("cuStreamSynchronize")
            gpu.run_until(gpu.queue_at(self.handle).clock)

        def wait_for_event(self, event: Event) -> None:
            gpu.check("cuStreamWaitEvent")
            if event._clock is None:
                raise gpu.mistake("a stream waits for an event that was never recorded: CUDA would not wait")
            gpu.wait(gpu.queue_at(self.handle), event._clock)

        def __del__(self) -> None:
            if not hasattr(self, "handle"):
                return
            gpu.gone("stream")
            if gpu.broken is None and not all(op.done for op in gpu.streams[self.handle].operations):
                gpu.mistakes.append("a stream was freed with work in it")

    class Event:
        def __init__(self, flags: int = 0) -> None:
            gpu.allocate("cuEventCreate")
            self._clock: dict[int, int] | None = None
            gpu.new_handle("event")

        def record(self, stream: Stream) -> Event:
            gpu.check("cuEventRecord")
            self._clock = dict(gpu.queue_at(stream.handle).clock)
            return self

        def __del__(self) -> None:
            if hasattr(self, "_clock"):
                gpu.gone("event")

    class Driver(SimpleNamespace):
        initialised = False

    def init() -> None:
        driver.initialised = True

    def mem_alloc(size_bytes: int) -> DeviceAllocation:
        gpu.allocate("cuMemAlloc")
        if size_bytes <= 0:
            raise LogicError("cuMemAlloc failed: invalid argument")
        return DeviceAllocation(gpu.new_block("device memory", size_bytes)[0])

    def pagelocked_empty(shape: tuple[int, ...], dtype: Any) -> Any:
        gpu.allocate("cuMemHostAlloc")
        dtype = np.dtype(dtype)
        size_bytes = int(np.prod(shape)) * dtype.itemsize
        return np.asarray(
            PagelockedHostAllocation(*gpu.new_block("host memory", size_bytes), dtype, tuple(shape))
        )

    def memcpy_htod_async(dest: int, src: Any, stream: Stream) -> None:
        gpu.check("cuMemcpyHtoDAsync")
        host = gpu.host_block_of(src, "copying to the device")
        device = gpu.block_at(dest, src.nbytes, "copying to the device")
        then = host.data.tobytes()

        def copy() -> None:
            if host.data.tobytes() != then:
                gpu.mistakes.append(f"{host.label} was changed while its copy to the device was queued")
            device.data[: host.data.nbytes] = host.data

        gpu.copied.append("to device")
        gpu.enqueue("copying to the device", gpu.queue_at(stream.handle), [host], [device], copy)

    def memcpy_dtoh_async(dest: Any, src: int, stream: Stream) -> None:
        gpu.check("cuMemcpyDtoHAsync")
        host = gpu.host_block_of(dest, "copying to the host")
        device = gpu.block_at(src, dest.nbytes, "copying to the host")

        def copy() -> None:
            host.data[:] = device.data[: host.data.nbytes]

        gpu.copied.append("to host")
        gpu.enqueue("copying to the host", gpu.queue_at(stream.handle), [device], [host], copy)
        host.spoil()  # who reads it before the copy has run reads neither the old nor the new

    driver = Driver(
        init=init,
        get_driver_version=lambda: 12060,
        mem_alloc=mem_alloc,
        pagelocked_empty=pagelocked_empty,
        memcpy_htod_async=memcpy_htod_async,
        memcpy_dtoh_async=memcpy_dtoh_async,
        Device=Device,
        Context=Context,
        Stream=Stream,
        Event=Event,
        event_flags=SimpleNamespace(DISABLE_TIMING=2),
        DeviceAllocation=DeviceAllocation,
        PagelockedHostAllocation=PagelockedHostAllocation,
        Error=Error,
        MemoryError=MemoryError,
        LogicError=LogicError,
    )
    return driver
