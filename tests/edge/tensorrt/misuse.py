"""Every way to misuse CUDA and TensorRT that the fakes must see, each on a bench with one engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.edge.tensorrt.fake_cuda import PretendGpu
from tests.edge.tensorrt.fake_tensorrt import fake_plan, fake_tensorrt

__all__ = ["DISTANCE", "MISTAKES", "Bench", "bench"]

DISTANCE = Path(__file__).parents[3] / "edge" / "demo" / "bundle" / "distance.onnx"
"""A graph of three inputs and one output, all small."""

INPUTS = ("teacher", "student", "mask")


@dataclass
class Bench:
    """One engine on a pretend GPU, bound to memory of its own; `made` keeps all of it alive."""

    gpu: PretendGpu
    driver: Any
    trt: Any
    runtime: Any
    engine: Any
    context: Any
    memory: dict[str, Any]
    streams: list[Any]
    pinned: Any

    def execute(self, stream: int = 0) -> bool:
        return bool(self.context.execute_async_v3(self.streams[stream].handle))

    def upload(self, stream: int = 0) -> None:
        for name in INPUTS:
            size = self.sizes()[name] // 4
            source = self.driver.pagelocked_empty((size,), np.float32)
            source[:] = 1
            self.driver.memcpy_htod_async(int(self.memory[name]), source, self.streams[stream])
            self.kept().append(source)

    def download(self, stream: int = 0) -> None:
        address = int(self.memory["anomaly_map"])
        self.driver.memcpy_dtoh_async(self.pinned, address, self.streams[stream])

    def sizes(self) -> dict[str, int]:
        return {
            name: int(np.prod(self.engine.get_tensor_shape(name))) * 4 for name in (*INPUTS, "anomaly_map")
        }

    def kept(self) -> list[Any]:
        kept: list[Any] = self.__dict__.setdefault("_kept", [])
        return kept


@contextmanager
def bench() -> Iterator[Bench]:
    """In its context; whatever is wrong with how it ends does not count."""
    gpu = PretendGpu()
    trt: Any = fake_tensorrt(gpu)

    class Logger(trt.ILogger):  # type: ignore[misc]  # a class that is known only now
        def log(self, severity: object, msg: str) -> None:
            pass

    logger = Logger()
    gpu.driver.init()
    context = gpu.driver.Device(0).retain_primary_context()
    context.push()
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(fake_plan(DISTANCE.read_bytes()))
    made = Bench(
        gpu=gpu,
        driver=gpu.driver,
        trt=trt,
        runtime=runtime,
        engine=engine,
        context=engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED),
        memory={},
        streams=[gpu.driver.Stream(), gpu.driver.Stream()],
        pinned=gpu.driver.pagelocked_empty((1, 1, 24, 24), np.float32),
    )
    for name, size in made.sizes().items():
        made.memory[name] = gpu.driver.mem_alloc(size)
        assert made.context.set_tensor_address(name, int(made.memory[name]))
    made.memory["scratch"] = gpu.driver.mem_alloc(engine.device_memory_size_v2)
    made.context.set_device_memory(int(made.memory["scratch"]), engine.device_memory_size_v2)
    del runtime, engine  # who ends `made`'s ends them
    yield made


def no_event(b: Bench) -> None:
    b.upload(0)
    b.execute(1)


def download_without_event(b: Bench) -> None:
    b.upload(0)
    b.execute(0)
    b.download(1)


def event_too_early(b: Bench) -> None:
    event = b.driver.Event()
    event.record(b.streams[0])
    b.upload(0)
    b.streams[1].wait_for_event(event)
    b.execute(1)


def event_never_recorded(b: Bench) -> None:
    b.streams[1].wait_for_event(b.driver.Event())


def scratch_of_two_streams(b: Bench) -> None:
    b.upload(0)
    b.streams[0].synchronize()
    other = b.engine.create_execution_context(b.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    for name in INPUTS:
        other.set_tensor_address(name, int(b.memory[name]))
    output = b.driver.mem_alloc(b.sizes()["anomaly_map"])
    b.kept().extend([other, output])
    other.set_tensor_address("anomaly_map", int(output))
    other.set_device_memory(int(b.memory["scratch"]), 4096)
    b.execute(0)
    other.execute_async_v3(b.streams[1].handle)


def missing_address(b: Bench) -> None:
    other = b.engine.create_execution_context(b.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    b.kept().append(other)
    other.set_device_memory(int(b.memory["scratch"]), 4096)
    other.set_tensor_address("mask", int(b.memory["mask"]))
    other.execute_async_v3(b.streams[0].handle)


def missing_scratch(b: Bench) -> None:
    other = b.engine.create_execution_context(b.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    b.kept().append(other)
    for name in b.sizes():
        other.set_tensor_address(name, int(b.memory[name]))
    other.execute_async_v3(b.streams[0].handle)


def scratch_of_its_own(b: Bench) -> None:
    b.engine.create_execution_context(b.trt.ExecutionContextAllocationStrategy.STATIC)


def small_scratch(b: Bench) -> None:
    b.context.set_device_memory(int(b.memory["scratch"]), 100)


def small_tensor(b: Bench) -> None:
    b.memory["small"] = b.driver.mem_alloc(10)
    b.context.set_tensor_address("mask", int(b.memory["small"]))


def nowhere(b: Bench) -> None:
    b.context.set_tensor_address("mask", 256)


def never_uploaded(b: Bench) -> None:
    b.execute()


def freed_before_the_run(b: Bench) -> None:
    b.upload()
    b.streams[0].synchronize()
    b.memory["mask"].free()
    b.execute()


def freed_during_the_run(b: Bench) -> None:
    b.upload()
    b.execute()
    b.memory["mask"].free()


def freed_twice(b: Bench) -> None:
    b.memory["mask"].free()
    b.memory["mask"].free()


def host_freed_during_the_copy(b: Bench) -> None:
    b.upload()
    b.kept()[0].base.free()


def host_freed_twice(b: Bench) -> None:
    b.pinned.base.free()
    b.pinned.base.free()


def copy_from_ordinary_memory(b: Bench) -> None:
    b.driver.memcpy_htod_async(int(b.memory["mask"]), np.ones(4, np.float32), b.streams[0])


def copy_to_ordinary_memory(b: Bench) -> None:
    b.upload()
    b.driver.memcpy_dtoh_async(np.ones(4, np.float32), int(b.memory["mask"]), b.streams[0])


def copy_to_a_smaller_buffer(b: Bench) -> None:
    b.memory["small"] = b.driver.mem_alloc(10)
    b.driver.memcpy_htod_async(int(b.memory["small"]), b.pinned, b.streams[0])


def copy_from_a_smaller_buffer(b: Bench) -> None:
    b.memory["small"] = b.driver.mem_alloc(10)
    b.driver.memcpy_dtoh_async(b.pinned, int(b.memory["small"]), b.streams[0])


def copy_of_nothing(b: Bench) -> None:
    b.download()


def host_changed_during_the_copy(b: Bench) -> None:
    b.upload()
    b.kept()[0][:] = 2
    b.streams[0].synchronize()


def both_ways_at_once(b: Bench) -> None:
    b.upload()
    b.execute()
    b.download(0)
    b.driver.memcpy_htod_async(int(b.memory["mask"]), b.pinned, b.streams[1])


def default_stream(b: Bench) -> None:
    b.upload()
    b.context.execute_async_v3(0)


def engine_gone(b: Bench) -> None:
    b.upload()
    b.engine = None
    b.execute()


def runtime_gone(b: Bench) -> None:
    b.runtime = None


def memory_forgotten(b: Bench) -> None:
    del b.memory["mask"]


def stream_gone_during_the_run(b: Bench) -> None:
    b.upload()
    b.streams.clear()


def second_context(b: Bench) -> None:
    b.driver.Device(0).retain_primary_context()


def pushed_twice(b: Bench) -> None:
    type(b.gpu.stack()[0])().push()


def popped_twice(b: Bench) -> None:
    b.driver.Context.pop()
    b.driver.Context.pop()


def _elsewhere(work: Callable[[], object]) -> None:
    with ThreadPoolExecutor(1) as other:
        other.submit(work).result()


def freed_elsewhere(b: Bench) -> None:
    _elsewhere(b.memory["mask"].free)


def host_freed_elsewhere(b: Bench) -> None:
    _elsewhere(b.pinned.base.free)


def stream_gone_elsewhere(b: Bench) -> None:
    _elsewhere(b.streams.clear)


def engine_gone_elsewhere(b: Bench) -> None:
    _elsewhere(lambda: setattr(b, "context", None))


def allocated_elsewhere(b: Bench) -> None:
    _elsewhere(lambda: b.driver.mem_alloc(4))


def run_elsewhere(b: Bench) -> None:
    b.upload()
    _elsewhere(b.execute)


def deserialised_elsewhere(b: Bench) -> None:
    _elsewhere(lambda: b.runtime.deserialize_cuda_engine(b""))


MISTAKES: dict[Callable[[Bench], None], str] = {
    no_event: "nothing puts them in order",
    download_without_event: "nothing puts them in order",
    event_too_early: "nothing puts them in order",
    event_never_recorded: "never recorded",
    scratch_of_two_streams: "nothing puts them in order",
    missing_address: "before the addresses of ['anomaly_map', 'student', 'teacher'] were set",
    missing_scratch: "before its scratch memory was given",
    scratch_of_its_own: "scratch memory of its own",
    small_scratch: "too few",
    small_tensor: "2304 bytes in device memory",
    nowhere: "nothing lies at 0x100",
    never_uploaded: "which nobody has written",
    freed_before_the_run: "has been freed",
    freed_during_the_run: "is queued on it",
    freed_twice: "is freed twice",
    host_freed_during_the_copy: "is queued on it",
    host_freed_twice: "is freed twice",
    copy_from_ordinary_memory: "not page-locked",
    copy_to_ordinary_memory: "not page-locked",
    copy_to_a_smaller_buffer: "2304 bytes in device memory",
    copy_from_a_smaller_buffer: "2304 bytes in device memory",
    copy_of_nothing: "which nobody has written",
    host_changed_during_the_copy: "was changed while its copy",
    both_ways_at_once: "nothing puts them in order",
    default_stream: "there is no stream 0",
    engine_gone: "died before what was made of it",
    runtime_gone: "died before what was made of it",
    memory_forgotten: "left to the garbage collector",
    stream_gone_during_the_run: "with work in it",
    second_context: "retained twice",
    pushed_twice: "pushed onto another",
    popped_twice: "popped that is not there",
    freed_elsewhere: "without the context it leaks",
    host_freed_elsewhere: "without the context it leaks",
    stream_gone_elsewhere: "without the context it leaks",
    engine_gone_elsewhere: "without the context it leaks",
    allocated_elsewhere: "which has no context",
    run_elsewhere: "on a thread without the context",
    deserialised_elsewhere: "on a thread without the context",
}
