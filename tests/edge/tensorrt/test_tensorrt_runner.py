"""The runner on a pretend GPU that forgives nothing, against the ONNX backend bit for bit."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle import ANOMALY_MAP, Bundle, StageSpec, load_bundle
from edge.config import TensorRTConfig
from edge.errors import GpuLost, RunnerError
from edge.runtime.onnx import OnnxRunner
from edge.runtime.tensorrt.provider import EngineProvider
from edge.runtime.tensorrt.runner import TensorRtRunner
from tests.edge.tensorrt.fake_tensorrt import fake_plan, fake_tensorrt
from tests.edge.tensorrt.pretending import (
    Machine,
    StageShape,
    assert_like_onnx,
    machine,
    random_tensors,
    wired_bundle,
)
from tests.tiny_bundle import make_tiny_bundle

DEMO = Path(__file__).parents[3] / "edge" / "demo" / "bundle"
FRAME = ("image", "z", "mask", "depth", "normals")
DIAMOND = (
    StageShape(("image", "mask")),
    StageShape(("t0_0", "z"), outputs=2, seed=1),
    StageShape(("t0_0",), seed=2, unused_output=True),
    StageShape(("t1_0", "t2_0", "mask"), seed=3),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(make_tiny_bundle(tmp_path_factory.mktemp("trt") / "b", colour=(0.2, 0.5, 0.7)))


@pytest.fixture(scope="module")
def diamond(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return wired_bundle(tmp_path_factory.mktemp("diamond"), DIAMOND)


@st.composite
def wirings(draw: st.DrawFn) -> list[StageShape]:
    """Up to seven stages, each of which takes from the frame or from any earlier stage."""
    made: list[str] = []
    shapes = []
    for number in range(draw(st.integers(1, 7))):
        takes = draw(st.lists(st.sampled_from([*FRAME, *made]), min_size=1, max_size=3))
        outputs = draw(st.integers(1, 2))
        shapes.append(StageShape(tuple(takes), outputs, draw(st.integers(0, 2)), draw(st.booleans())))
        made += [f"t{number}_{i}" for i in range(outputs)]
    return shapes


@settings(max_examples=20, deadline=None)
@given(shapes=wirings(), streams=st.integers(1, 4), data=st.data())
def test_any_wiring_gives_bit_for_bit_what_the_onnx_backend_gives(
    shapes: list[StageShape], streams: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder, machine() as there:
        bundle = wired_bundle(Path(folder), shapes)
        with OnnxRunner(bundle) as onnx, there.runner(bundle, streams) as runner:
            for seed in range(3):
                names = sorted(bundle.manifest.tensors)
                fetch = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=4))
                tensors = random_tensors(bundle, seed)
                expected, result = onnx.run(tensors, fetch), runner.run(tensors, fetch)
                assert list(result) == list(dict.fromkeys(fetch))
                for name in fetch:
                    assert result[name].tobytes() == expected[name].tobytes()


def test_the_demo_s_bundle_runs_as_on_onnx_runtime() -> None:
    bundle = load_bundle(DEMO)
    samples = []
    for path in bundle.golden_files():
        with np.load(path) as stored:
            samples.append({name: stored[name] for name in bundle.wanted})
    assert samples[0]["image"].dtype == np.uint8
    assert_like_onnx(bundle, samples)


def test_a_tiny_bundle_runs_as_on_onnx_runtime(tiny: Bundle) -> None:
    assert_like_onnx(tiny, [random_tensors(tiny, seed) for seed in range(3)])


def test_teacher_and_student_run_beside_each_other_where_the_backbone_left_its_features() -> None:
    bundle = load_bundle(DEMO)
    with machine() as there, there.runner(bundle) as runner:
        runner.run(random_tensors(bundle, 0))
        stream = {name: stream for stream, names in there.pretend.ran for name in names}
        assert stream["teacher_out"] != stream["student_out"]
        assert stream["features"] in (stream["teacher_out"], stream["student_out"])
        # The picture and the mask go up, the map comes down; what lies between the stages stays there.
        assert there.pretend.copied == ["to device", "to device", "to host"]
        # Six tensors, and scratch memory for each of the two streams.
        assert there.pretend.live["device memory"] == 6 + 2


def test_stages_in_a_row_share_a_stream_and_its_scratch_memory(tmp_path: Path) -> None:
    chain = [StageShape(("mask",)), StageShape(("t0_0",)), StageShape(("t1_0",))]
    bundle = wired_bundle(tmp_path, chain)
    with machine() as there, there.runner(bundle, streams=4):
        assert there.pretend.live["stream"] == 1
        assert there.pretend.live["event"] == 0
        assert there.pretend.live["device memory"] == 4 + 1


def test_one_file_that_two_stages_name_is_one_engine_with_two_contexts(tmp_path: Path) -> None:
    shapes = [StageShape(("image",)), StageShape(("normals",)), StageShape(("t0_0", "t1_0"))]
    bundle = wired_bundle(tmp_path, shapes)
    assert len({stage.file for stage in bundle.manifest.stages}) == 2
    with machine() as there:
        asked: list[str] = []
        there.plan = lambda stage, onnx: (asked.append(stage.name), fake_plan(onnx))[1]
        with there.runner(bundle) as runner, OnnxRunner(bundle) as onnx:
            tensors = random_tensors(bundle, 5)
            assert (runner.run(tensors)[ANOMALY_MAP] == onnx.run(tensors)[ANOMALY_MAP]).all()
            assert there.pretend.live["engine"] == 2
            assert there.pretend.live["execution context"] == 3
            assert asked == ["s0", "s2"]


def test_a_stage_on_the_dla_has_an_engine_of_its_own(tmp_path: Path) -> None:
    bundle = wired_bundle(tmp_path, [StageShape(("image",)), StageShape(("normals",))])
    assert len({stage.file for stage in bundle.manifest.stages}) == 1
    with machine() as there:
        there.dla = {"s1": 1}
        there.plan = lambda stage, onnx: fake_plan(onnx, dla_core=there.dla.get(stage.name))
        with there.runner(bundle) as runner:
            runner.run(random_tensors(bundle, 0))
            assert there.pretend.live["engine"] == 2


def test_results_are_the_caller_s_own(diamond: Bundle) -> None:
    with machine() as there, there.runner(diamond) as runner:
        first = runner.run(random_tensors(diamond, 1), ("t0_0", ANOMALY_MAP))
        kept = {name: array.copy() for name, array in first.items()}
        second = runner.run(random_tensors(diamond, 2), ("t0_0", ANOMALY_MAP))
        for name, array in first.items():
            assert (array == kept[name]).all()
            assert (array != second[name]).any()
            array[...] = 0
        again = runner.run(random_tensors(diamond, 1), ("t0_0", ANOMALY_MAP))
        assert all((again[name] == kept[name]).all() for name in kept)
    assert (again["t0_0"] == kept["t0_0"]).all()  # also when the runner's memory is gone


def test_arrays_that_are_not_contiguous_are_taken_as_they_are_meant(diamond: Bundle) -> None:
    tensors = random_tensors(diamond, 3)
    turned = {name: np.asfortranarray(array) for name, array in tensors.items()}
    assert not turned["image"].flags["C_CONTIGUOUS"]
    with machine() as there, there.runner(diamond) as runner:
        assert (runner.run(turned)[ANOMALY_MAP] == runner.run(tensors)[ANOMALY_MAP]).all()


def test_whichever_thread_asks_the_gpu_s_own_does_the_work(diamond: Bundle) -> None:
    tensors = random_tensors(diamond, 4)
    with machine() as there:
        runner = there.runner(diamond)
        expected = runner.run(tensors)[ANOMALY_MAP]
        found: list[Any] = []

        def other() -> None:
            found.append(runner.run(tensors)[ANOMALY_MAP])
            runner.close()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert (found[0] == expected).all()


def test_a_closed_runner_says_so(diamond: Bundle) -> None:
    with machine() as there:
        runner = there.runner(diamond)
        runner.close()
        runner.close()
        assert +there.pretend.live == {}
        with pytest.raises(RunnerError, match="is closed; make a new one"):
            runner.run(random_tensors(diamond, 0))


LIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "dtype": (
        "in0",
        {"dtype": "FLOAT"},
        r"'in0' of the engine of .* is float32\(1, 16, 16, 3\), tensor 'image'",
    ),
    "half": ("out0", {"dtype": "HALF"}, r"'out0' of the engine of .* is float16"),
    "shape": ("out0", {"shape": (1, 1, 4, 5)}, r"is float32\(1, 1, 4, 5\), tensor 't0_0' of stage 's0'"),
    "dynamic": ("out0", {"shape": (1, 1, -1, 4)}, r"\(1, 1, -1, 4\)"),
    "name": ("in1", {"name": "in7"}, r"has inputs \['in0', 'in7'\]"),
    "mode": ("in1", {"mode": "OUTPUT"}, r"has inputs \['in0'\] and outputs \['in1', 'out0'\]"),
    "missing output": ("out0", {"hidden": True}, r"and outputs \[\]"),
    "host": ("in1", {"location": "HOST"}, "must lie row by row in the device's memory"),
    "format": ("in1", {"format": "CHW32"}, "must lie row by row in the device's memory"),
}


@pytest.mark.parametrize("lie", list(LIES))
def test_an_engine_that_does_not_fit_the_manifest_is_refused(diamond: Bundle, lie: str) -> None:
    tensor, said, message = LIES[lie]
    with machine() as there:
        there.plan = lambda stage, onnx: fake_plan(onnx, lies={tensor: said} if stage.name == "s0" else {})
        with pytest.raises(RunnerError, match=message) as caught:
            there.runner(diamond)
        assert "build the engine anew" in str(caught.value)
        assert +there.pretend.live == {}


def test_memory_that_runs_out_at_any_point_leaves_nothing_behind(diamond: Bundle) -> None:
    with machine() as there, there.runner(diamond) as runner:
        runner.run(random_tensors(diamond, 0))
        allocations = there.pretend.made["allocation"]
    assert allocations > 15
    for full_at in range(allocations):
        with machine() as there:
            there.pretend.full_at = full_at
            with (
                pytest.raises(RunnerError, match=r"the GPU's memory is full \(cu.* failed: out of memory\)"),
                there.runner(diamond) as runner,
            ):
                runner.run(random_tensors(diamond, 0))
            assert +there.pretend.live == {}


def _no_contexts(there: Machine) -> None:
    there.pretend.refuses_contexts = True


def _no_cuda(there: Machine) -> None:
    there.pretend.unusable = True


def _no_plan(there: Machine) -> None:
    def plan(stage: StageSpec, onnx: bytes) -> bytes:
        if stage.name == "s2":
            raise RunnerError("no plan for s2")
        return fake_plan(onnx)

    there.plan = plan


def _interrupted(there: Machine) -> None:
    def plan(stage: StageSpec, onnx: bytes) -> bytes:
        if stage.name == "s1":
            raise KeyboardInterrupt("while an engine was built")
        return fake_plan(onnx)

    there.plan = plan


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (_no_contexts, "gives no execution context"),
        (_no_cuda, "can't make its Runtime"),
        (_no_plan, "no plan for s2"),
        (_interrupted, "while an engine was built"),
    ],
)
def test_a_runner_that_can_t_be_made_leaves_nothing_behind(
    diamond: Bundle, wrong: Callable[[Machine], None], message: str
) -> None:
    with machine() as there:
        wrong(there)
        with pytest.raises((RunnerError, KeyboardInterrupt), match=message):
            there.runner(diamond)
        assert +there.pretend.live == {}


def test_a_run_that_tensorrt_refuses_is_an_error_with_its_reason_and_no_more(diamond: Bundle) -> None:
    tensors = random_tensors(diamond, 6)
    with machine() as there, there.runner(diamond) as runner:
        expected = runner.run(tensors)[ANOMALY_MAP]
        there.pretend.refuses_runs = True
        with pytest.raises(
            RunnerError, match=r"stage 's0' .*refuses to run it \(.*pretended refusal\)"
        ) as caught:
            runner.run(random_tensors(diamond, 7))
        assert not isinstance(caught.value, GpuLost)
        there.pretend.refuses_runs = False
        assert (runner.run(tensors)[ANOMALY_MAP] == expected).all()


def test_a_lost_gpu_is_an_error_of_its_own_for_the_rest_of_the_process(
    diamond: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    with machine(broken=True) as there:
        runner, bystander = there.runner(diamond), there.runner(diamond)
        there.pretend.fail = "an illegal memory access was encountered"
        with pytest.raises(GpuLost, match=r"an illegal memory access was .*: restart the process"):
            runner.run(random_tensors(diamond, 0))
        there.pretend.fail = None
        for one in (runner, bystander):
            with pytest.raises(GpuLost, match="an illegal memory access was encountered"):
                one.run(random_tensors(diamond, 0))
        with pytest.raises(GpuLost, match="an illegal memory access was encountered"):
            there.runner(diamond)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            runner.close()
            bystander.close()
        assert caplog.text.count("nothing of it is freed") == 2
        del runner, bystander, one
        assert there.pretend.live["device memory"] > 0  # to free in a broken context can end the process


@pytest.fixture
def provided(tmp_path: Path) -> Callable[[Machine, Bundle], TensorRtRunner]:
    def make(there: Machine, bundle: Bundle) -> TensorRtRunner:
        config = TensorRTConfig(backend="tensorrt", engines_dir=tmp_path / "engines")
        engines = EngineProvider(there.trt, config, there.gpu.identity)
        return TensorRtRunner(bundle, trt=there.trt, gpu=there.gpu, engines=engines)

    return make


def test_engines_are_built_once_and_then_come_from_the_cache(
    tiny: Bundle, provided: Callable[[Machine, Bundle], TensorRtRunner]
) -> None:
    tensors = random_tensors(tiny, 0)
    with OnnxRunner(tiny) as onnx:
        expected = onnx.run(tensors)[ANOMALY_MAP]
    for builds in (3, 0):
        with machine() as there, provided(there, tiny) as runner:
            assert there.pretend.made["build"] == builds
            assert (runner.run(tensors)[ANOMALY_MAP] == expected).all()


def test_a_foreign_engine_is_built_anew(
    tiny: Bundle,
    tmp_path: Path,
    provided: Callable[[Machine, Bundle], TensorRtRunner],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with machine() as there:
        # As after an update that kept TensorRT's number: the cache's key fits, TensorRT says no.
        foreign = dataclasses.replace(there, trt=fake_tensorrt(there.pretend))
        foreign.trt.Builder.build_serialized_network = lambda self, network, config: fake_plan(
            network._onnx, tensorrt="10.2.0"
        )
        with pytest.raises(RunnerError, match="refuses the engine that it has just built"):
            provided(foreign, tiny)
    with machine() as there:
        provided(there, tiny).close()
        path = sorted((tmp_path / "engines").glob("*.plan"))[0]
        path.write_bytes(path.read_bytes()[:-1])
    with machine() as there, provided(there, tiny) as runner:
        assert there.pretend.made["build"] == 1
        assert "differ from the sha256 in its sidecar; it is deleted and built anew" in caplog.text
        runner.run(random_tensors(tiny, 0))
