"""The thread that owns the GPU, and pycuda where it is missing."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edge.errors import GpuLost, RunnerError
from edge.runtime.tensorrt import cuda
from edge.runtime.tensorrt.cuda import Gpu, load_driver, this_gpu
from tests.edge.tensorrt.fake_cuda import PretendGpu
from tests.edge.tensorrt.pretending import machine


def test_all_work_is_done_by_one_thread_with_the_context_pushed_and_popped() -> None:
    with machine() as there:
        seen = []
        for _ in range(3):
            seen.append(there.gpu.call(lambda: (threading.get_ident(), there.pretend.here())))
            assert there.pretend.deepest_stack() == 0
        assert seen == [(seen[0][0], True)] * 3
        assert seen[0][0] != threading.get_ident()
        assert there.pretend.made["context"] == 1


def test_what_the_gpu_is() -> None:
    with machine() as there:
        identity = there.gpu.identity
        assert (identity.name, identity.sm, identity.driver) == ("Pretend Orin", "8.7", "12.6")


def test_what_work_raises_comes_back_and_the_context_is_popped() -> None:
    with machine() as there:

        def wrong() -> None:
            raise LookupError("a mistake of ours")

        with pytest.raises(LookupError, match="a mistake of ours"):
            there.gpu.call(wrong)
        assert there.pretend.deepest_stack() == 0
        assert there.gpu.call(lambda: 5) == 5


def test_an_error_of_cuda_s_that_passes_is_a_runner_error() -> None:
    with machine() as there:

        def full() -> None:
            raise there.pretend.driver.MemoryError("cuMemAlloc failed: out of memory")

        def wrong() -> None:
            raise there.pretend.driver.LogicError("cuMemcpy failed: invalid argument")

        with pytest.raises(RunnerError, match=r"memory is full \(cuMemAlloc failed"):
            there.gpu.call(full)
        with pytest.raises(RunnerError, match="CUDA failed: cuMemcpy failed: invalid argument") as caught:
            there.gpu.call(wrong)
        assert not isinstance(caught.value, GpuLost)
        assert there.gpu.call(lambda: 5) == 5


def test_an_error_of_cuda_s_that_stays_is_a_lost_gpu_and_it_is_left_alone() -> None:
    with machine(broken=True) as there:

        def wrong() -> None:
            there.pretend.broken = "unspecified launch failure"
            raise RunnerError("TensorRT refuses")  # it says False, and the reason is CUDA's

        with pytest.raises(GpuLost, match=r"unspecified launch failure, after: TensorRT refuses\)") as caught:
            there.gpu.call(wrong)
        assert isinstance(caught.value.__cause__, RunnerError)
        touched: list[int] = []
        with pytest.raises(GpuLost, match="restart the process"):
            there.gpu.call(lambda: touched.append(1))
        assert touched == []


def test_nothing_is_left_running_when_work_fails() -> None:
    with machine() as there:
        gpu = there.gpu
        host, device, stream = gpu.call(
            lambda: (gpu.host_buffer("float32", (4,)), gpu.device_buffer(16), gpu.stream())
        )

        def wrong() -> None:
            host.upload(device, stream)
            raise RunnerError("after something was queued")

        with pytest.raises(RunnerError, match="after something was queued"):
            gpu.call(wrong)
        for one in (host, device, stream):
            gpu.call(one.free)


def test_buffers_go_up_and_down() -> None:
    with machine() as there:
        gpu = there.gpu

        def work() -> list[int]:
            up, down = gpu.host_buffer("uint8", (2, 3)), gpu.host_buffer("uint8", (2, 3))
            device, stream = gpu.device_buffer(6), gpu.stream()
            up.array[...] = np.arange(6).reshape(2, 3)
            up.upload(device, stream)
            down.download(device, stream)
            stream.synchronize()
            found = [int(value) for value in down.array.reshape(-1)]
            for one in (stream, device, down, up):
                one.free()
            return found

        assert gpu.call(work) == [0, 1, 2, 3, 4, 5]


def test_a_copy_that_does_not_fit_is_refused() -> None:
    with machine() as there:
        gpu = there.gpu
        host, device, stream = gpu.call(
            lambda: (gpu.host_buffer("float32", (4,)), gpu.device_buffer(15), gpu.stream())
        )
        with pytest.raises(RunnerError, match="16 bytes don't fit a buffer of 15"):
            gpu.call(lambda: host.upload(device, stream))
        with pytest.raises(RunnerError, match="16 bytes don't fit a buffer of 15"):
            gpu.call(lambda: host.download(device, stream))
        for one in (stream, device, host):
            gpu.call(one.free)


def test_a_machine_without_a_gpu_says_so() -> None:
    pretend = PretendGpu()
    pretend.unusable = True
    with pytest.raises(RunnerError, match=r"finds 0 GPUs, number 0 is not among them; check the driver"):
        Gpu(pretend.driver)


def test_a_driver_that_can_t_start_says_why() -> None:
    pretend = PretendGpu()

    def init() -> None:
        raise pretend.driver.LogicError("cuInit failed: no CUDA-capable device is detected")

    pretend.driver.init = init
    with pytest.raises(RunnerError, match=r"can't open GPU 0 \(cuInit failed: no .* groups video and render"):
        Gpu(pretend.driver)


def test_a_process_has_one_gpu_however_often_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend = PretendGpu()
    monkeypatch.setattr(cuda, "load_driver", lambda: pretend.driver)
    this_gpu.cache_clear()
    try:
        assert this_gpu() is this_gpu()
        assert pretend.made["context"] == 1
    finally:
        this_gpu.cache_clear()


def test_pycuda_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.delitem(sys.modules, "pycuda.driver", raising=False)
    with pytest.raises(RunnerError, match=r"pycuda is not installed .*edge-inspect\[tensorrt\]"):
        load_driver()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise ImportError('libcuda.so.1: cannot open shared object file')", "libcuda.so.1: cannot open"),
        ("import pytools_that_is_not_there", "No module named 'pytools_that_is_not_there'"),
    ],
)
def test_pycuda_that_can_t_be_loaded_says_why(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").touch()
    (tmp_path / "pycuda" / "driver.py").write_text(source)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pycuda"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RunnerError, match=message):
        load_driver()
    sys.modules.pop("pycuda", None)
