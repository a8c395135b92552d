"""The pretend GPU and TensorRT have the allowed names and no others, and see each mistake."""

from __future__ import annotations

import enum
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import pytest

from tests.edge.tensorrt.allowed_names import PYCUDA_DRIVER, TENSORRT
from tests.edge.tensorrt.fake_cuda import Mistake
from tests.edge.tensorrt.fake_tensorrt import fake_plan
from tests.edge.tensorrt.misuse import DISTANCE, MISTAKES, Bench, bench


def test_done_right_it_works() -> None:
    with bench() as b:
        b.upload()
        assert b.execute()
        b.download()
        assert np.isnan(b.pinned).all() or (b.pinned == b.pinned.flat[0]).all()  # nothing has run yet
        before = b.pinned.tobytes()
        b.streams[0].synchronize()
        assert b.pinned.tobytes() != before
        assert (b.pinned == 0).all()  # teacher and student agree
        assert b.gpu.mistakes == []


def test_two_streams_with_an_event_between_work() -> None:
    with bench() as b:
        b.upload(0)
        event = b.driver.Event(b.driver.event_flags.DISABLE_TIMING)
        event.record(b.streams[0])
        b.streams[1].wait_for_event(event)
        assert b.execute(1)
        b.download(1)
        b.streams[1].synchronize()
        assert (b.pinned == 0).all()
        assert b.gpu.mistakes == []


@pytest.mark.parametrize("mistake", list(MISTAKES), ids=lambda made: made.__name__)
def test_each_mistake_is_seen(mistake: Callable[[Bench], None]) -> None:
    with bench() as b:
        assert b.gpu.mistakes == []
        with suppress(Mistake):  # it is kept in `mistakes` all the same
            mistake(b)
        assert any(MISTAKES[mistake] in seen for seen in b.gpu.mistakes), b.gpu.mistakes


def test_a_foreign_plan_gives_none() -> None:
    with bench() as b:
        onnx = DISTANCE.read_bytes()
        for plan in (b"", onnx, fake_plan(onnx, tensorrt="10.13.3.9"), fake_plan(onnx, dla_core=1)):
            assert b.runtime.deserialize_cuda_engine(plan) is None
        b.runtime.DLA_core = 1
        assert b.runtime.deserialize_cuda_engine(fake_plan(onnx, dla_core=1)) is not None


def test_a_broken_context_stays_broken() -> None:
    with bench() as b:
        b.upload()
        b.gpu.fail = "an illegal memory access was encountered"
        for call in (b.streams[0].synchronize, b.driver.Context.synchronize, b.execute, b.driver.Stream):
            with pytest.raises(b.driver.LogicError, match="an illegal memory access"):
                call()
            b.gpu.fail = None


def _public(owner: object, prefix: str = "") -> Iterator[str]:
    """The names that a fake has, of itself and of its classes."""
    for name, member in vars(owner).items():
        if name.startswith("_") and name != "__version__":
            continue
        if isinstance(owner, type) and issubclass(owner, BaseException):
            continue
        yield f"{prefix}{name}"
        if inspect.isclass(member) and member is not bytes:
            inner = member.__members__ if issubclass(member, enum.Enum) else None
            yield from (f"{prefix}{name}.{one}" for one in inner or ())
            if inner is None:
                yield from _public(member, f"{prefix}{name}.")


def _of_instances(names: set[str], made: dict[str, object]) -> set[str]:
    return names | {
        f"{owner}.{name}" for owner, one in made.items() for name in vars(one) if not name.startswith("_")
    }


def test_the_fakes_have_the_allowed_names_and_no_others() -> None:
    with bench() as b:
        driver = set(_public(b.driver)) - {"initialised"}
        driver = _of_instances(driver, {"Stream": b.streams[0], "event_flags": b.driver.event_flags})
        assert driver - {"PagelockedHostAllocation.address"} == PYCUDA_DRIVER
        with pytest.raises(AttributeError):
            b.driver.memcpy_dtod_async  # noqa: B018
        extra = {"ITensor.name", "ITensor.shape"}  # of its instances
        later = {"DeviceType.GPU", "IHostMemory"}
        assert (set(_public(b.trt)) | extra) - later == TENSORRT - later
        with pytest.raises(AttributeError):
            b.engine.device_memory_size  # noqa: B018
        with pytest.raises(AttributeError):
            b.trt.BuilderFlag.FP16  # noqa: B018


def test_threads_have_stacks_of_their_own() -> None:
    with bench() as b:
        found: list[bool] = []
        thread = threading.Thread(target=lambda: found.append(b.gpu.here()))
        thread.start()
        thread.join()
        assert found == [False]
        assert b.gpu.here()
