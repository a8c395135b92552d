"""The GPU by CUDA's driver API: one thread that owns it, and what that thread makes and frees.

Only here is `pycuda` imported. pycuda frees nothing on a thread that did not make the context, and says
nothing of it; so all that belongs to CUDA is made, used and freed on `Gpu`'s own thread, freed explicitly,
and in order. The context is the device's primary one, which TensorRT (through CUDA's runtime API) uses too;
it is retained once per process and never detached: pycuda's detach leaves the thread's stack of contexts
one deeper than it was, and `pycuda.autoinit` makes another context, in which TensorRT would not find our
memory.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edge.errors import GpuLost, RunnerError
from edge.runtime.tensorrt.gpu import GpuIdentity, jetson_release

__all__ = ["DeviceBuffer", "Event", "Gpu", "HostBuffer", "Stream", "load_driver", "this_gpu"]

_T = TypeVar("_T")

_INSTALL = "install it with `pip install 'edge-inspect[tensorrt]'`, or set runtime.backend: onnx"


def load_driver() -> Any:
    """The module `pycuda.driver`; raises `RunnerError` where it is missing, or CUDA's driver is."""
    try:
        return importlib.import_module("pycuda.driver")
    except ModuleNotFoundError as error:
        if error.name not in ("pycuda", "pycuda.driver"):
            raise RunnerError(f"pycuda can't be imported: {error}; {_INSTALL}") from error
        raise RunnerError(f"pycuda is not installed for this Python; {_INSTALL}") from error
    except (ImportError, OSError) as error:
        raise RunnerError(
            f"pycuda is installed but can't be loaded ({error}): it was built for another CUDA, or CUDA's "
            "driver is missing; check nvidia-smi (tegrastats on a Jetson), then build it anew: "
            "`pip install --force-reinstall --no-cache-dir pycuda`"
        ) from error


@functools.cache
def this_gpu(ordinal: int = 0) -> Gpu:
    """The GPU of this number, the same object for the whole process; raises `RunnerError`."""
    return Gpu(load_driver(), ordinal)


class Gpu:
    """One GPU: its primary context, and the thread that alone uses it, for as long as the process lives.

    `driver` is the module `pycuda.driver`. Raises `RunnerError` where there is no usable GPU.
    """

    def __init__(self, driver: Any, ordinal: int = 0) -> None:
        self._driver = driver
        self._lost: str | None = None
        self._context: Any = None
        self._kept: list[object] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cuda")
        try:
            self.identity = self._thread.submit(self._open, ordinal).result()
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    def call(self, work: Callable[[], _T]) -> _T:
        """What `work` returns or raises, run on the GPU's thread with its context pushed.

        Raises `GpuLost` where the GPU is beyond use for this process, in this call or since an earlier
        one; `RunnerError` for any other error of CUDA. When it raises, nothing is left running on the GPU.
        Not to be called by `work` itself: it would wait for itself.
        """
        return self._thread.submit(self._within, work).result()

    def keep(self, thing: object) -> None:
        """Hold something for as long as the process lives: what can't be freed since the GPU is lost."""
        self._kept.append(thing)

    def device_buffer(self, size_bytes: int) -> DeviceBuffer:
        """Memory on the device; only within `call`, like all that follows."""
        return DeviceBuffer(self._driver, size_bytes)

    def host_buffer(self, dtype: str, shape: tuple[int, ...]) -> HostBuffer:
        """Page-locked memory on the host, which the device can reach by itself."""
        return HostBuffer(self._driver, dtype, shape)

    def stream(self) -> Stream:
        """A queue of work."""
        return Stream(self._driver)

    def event(self) -> Event:
        """A point in a queue that another queue can wait for."""
        return Event(self._driver)

    def synchronize(self) -> None:
        """Wait until all that was queued is done."""
        self._driver.Context.synchronize()

    def _open(self, ordinal: int) -> GpuIdentity:
        driver = self._driver
        try:
            driver.init()
            count = driver.Device.count()
            if ordinal >= count:
                raise RunnerError(
                    f"CUDA finds {count} GPUs, number {ordinal} is not among them; check the driver "
                    "(nvidia-smi, or tegrastats on a Jetson), or set runtime.backend: onnx"
                )
            device = driver.Device(ordinal)
            self._context = device.retain_primary_context()
            major, minor = device.compute_capability()
            version = driver.get_driver_version()
            name = device.name()
        except driver.Error as error:
            raise RunnerError(
                f"CUDA can't open GPU {ordinal} ({error}); check the driver (nvidia-smi, or tegrastats on a "
                "Jetson), and that this user is in the groups video and render, or set runtime.backend: onnx"
            ) from error
        return GpuIdentity(
            name=name,
            sm=f"{major}.{minor}",
            driver=f"{version // 1000}.{version % 1000 // 10}",
            platform=jetson_release(),
        )

    def _within(self, work: Callable[[], _T]) -> _T:
        if self._lost is not None:
            raise GpuLost(self._lost)
        try:
            self._context.push()
            try:
                return self._quiet(work)
            finally:
                self._driver.Context.pop()
        except self._driver.MemoryError as error:
            raise RunnerError(
                f"the GPU's memory is full ({error}); stop what else uses it, or export a smaller model"
            ) from error
        except self._driver.Error as error:
            raise RunnerError(f"CUDA failed: {error}") from error

    def _quiet(self, work: Callable[[], _T]) -> _T:
        """Do it. Where it fails, wait until the GPU rests: buffers may still be in use.

        An error that comes back then is not of the call but of the context, and stays for good.
        """
        try:
            return work()
        except BaseException as error:
            try:
                self.synchronize()
            except self._driver.Error as sticky:
                self._lost = (
                    f"the GPU is lost to this process ({sticky}, after: {error}); every later use of it "
                    "fails: restart the process (systemd does), and if it happens again look for the reason "
                    "in `dmesg`"
                )
                raise GpuLost(self._lost) from error
            raise


class DeviceBuffer:
    """Memory on the device, `size_bytes` at `address`; never empty, CUDA refuses that."""

    def __init__(self, driver: Any, size_bytes: int) -> None:
        self.size_bytes = max(1, size_bytes)
        self._raw: Any = driver.mem_alloc(self.size_bytes)
        self.address = int(self._raw)

    def free(self) -> None:
        """Give it back, once."""
        raw, self._raw = self._raw, None
        raw.free()


class HostBuffer:
    """Page-locked memory of the host as `array`: copies from and to it don't stop the host.

    `array` lies in CUDA's memory: take a copy of what must outlive the buffer.
    """

    def __init__(self, driver: Any, dtype: str, shape: tuple[int, ...]) -> None:
        self._driver = driver
        self.array: npt.NDArray[np.generic] = driver.pagelocked_empty(shape, dtype=np.dtype(dtype))

    def upload(self, to: DeviceBuffer, stream: Stream) -> None:
        """Queue the copy to the device; leave `array` alone until the stream has come past it."""
        self._check(to)
        self._driver.memcpy_htod_async(to.address, self.array, stream.raw)

    def download(self, source: DeviceBuffer, stream: Stream) -> None:
        """Queue the copy from the device; `array` is valid once the stream has come past it."""
        self._check(source)
        self._driver.memcpy_dtoh_async(self.array, source.address, stream.raw)

    def free(self) -> None:
        """Give it back, once."""
        array, self.array = self.array, np.empty(0)
        allocation: Any = array.base
        del array
        allocation.free()

    def _check(self, other: DeviceBuffer) -> None:
        if self.array.nbytes > other.size_bytes:  # CUDA would copy beyond its end
            raise RunnerError(f"{self.array.nbytes} bytes don't fit a buffer of {other.size_bytes}")


class Stream:
    """A queue of work on the device; queues run beside each other."""

    def __init__(self, driver: Any) -> None:
        self.raw: Any = driver.Stream()

    @property
    def handle(self) -> int:
        """CUDA's own, for TensorRT."""
        return int(self.raw.handle)

    def wait_for(self, event: Event) -> None:
        """What is queued after this waits for what was queued before the event's record."""
        self.raw.wait_for_event(event.raw)

    def synchronize(self) -> None:
        """Wait until all that was queued is done."""
        self.raw.synchronize()

    def free(self) -> None:
        """Give it back: pycuda does when nobody holds it."""
        self.raw = None


class Event:
    """A point in a stream; without the time of day, which would cost something."""

    def __init__(self, driver: Any) -> None:
        self.raw: Any = driver.Event(driver.event_flags.DISABLE_TIMING)

    def record(self, stream: Stream) -> None:
        """Mark what was queued there so far."""
        self.raw.record(stream.raw)

    def free(self) -> None:
        """Give it back: pycuda does when nobody holds it."""
        self.raw = None
