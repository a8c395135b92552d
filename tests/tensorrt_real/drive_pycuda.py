"""The device's CUDA code over the real pycuda, and that over a host that plays GPU; run as a program.

It prints JSON: what came back from the device, the errors as they were told, and what was left behind.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import numpy as np

from edge.errors import GpuLost, RunnerError
from edge.runtime.tensorrt.cuda import Gpu, this_gpu
from tests.edge.tensorrt.allowed_names import PYCUDA_DRIVER
from tests.tensorrt_real.names import names_of_module

BYTES = 5 * 3 * 4


def left(library: ctypes.CDLL) -> list[int]:
    """Blocks of memory, streams and events that live."""
    return [library.host_living(what) for what in range(3)]


def there_and_back(gpu: Gpu) -> dict[str, object]:
    """An array to the device and back over two streams with an event between them."""
    sent = np.arange(15, dtype=np.float32).reshape(5, 3)
    source, target = gpu.host_buffer("float32", (5, 3)), gpu.host_buffer("float32", (5, 3))
    device = gpu.device_buffer(BYTES)
    up, down, event = gpu.stream(), gpu.stream(), gpu.event()
    source.array[:] = sent
    source.upload(device, up)
    event.record(up)
    down.wait_for(event)
    target.download(device, down)
    down.synchronize()
    got = target.array.copy()
    report = {
        "equal": bool(np.array_equal(got, sent)),
        "handles": [type(stream.handle).__name__ for stream in (up, down)],
        "address": type(device.address).__name__,
        "living": left(ctypes.CDLL("libcuda.so.1")),
    }
    for one in (event, up, down, device, source, target):
        one.free()
    return report


def told(gpu: Gpu, work: Any) -> str:
    """The error of a piece of work, with its kind."""
    try:
        gpu.call(work)
    except RunnerError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def main() -> None:
    library = ctypes.CDLL("libcuda.so.1")
    gpu = this_gpu()
    driver = gpu._driver
    names = frozenset(name for name, _ in names_of_module(driver))
    report: dict[str, object] = {
        "identity": gpu.identity.model_dump(),
        "lacking": sorted(PYCUDA_DRIVER - names),
        "names": len(names),
        "round_trip": gpu.call(lambda: there_and_back(gpu)),
        "after": left(library),
        "depth": gpu._thread.submit(library.host_depth).result(),
        "no_memory": told(gpu, lambda: gpu.device_buffer(1 << 40)),
        "no_such_gpu": "",
    }
    try:
        Gpu(driver, 1)
    except RunnerError as error:
        report["no_such_gpu"] = str(error)
    report["after_errors"] = left(library)
    report["retained"] = library.host_living(3)

    def breaks() -> None:
        library.host_break()
        gpu.synchronize()

    report["broken"] = told(gpu, breaks)
    report["later"] = told(gpu, lambda: None)
    report["is_lost"] = GpuLost.__name__
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
