"""The real builder of TensorRT-RTX, through the code that builds engines on a device."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnx
import pytest

from edge.bundle import load_bundle
from edge.config import TensorRTConfig
from edge.errors import RunnerError
from edge.runtime.tensorrt.building import BuildCancelled, build_engine
from edge.runtime.tensorrt.gpu import GpuIdentity
from edge.runtime.tensorrt.options import BuildOptions
from edge.runtime.tensorrt.progress import BuildStep
from edge.runtime.tensorrt.provider import EngineProvider
from edge.runtime.tensorrt.timing import TimingCache
from tests.tensorrt_real.bad_graphs import BAD, GOOD, good_graph, graph_of
from tests.tiny_bundle import make_tiny_bundle

# RTX takes and gives timing caches, but keeps no timings in them: what is tested of them is the calls.
pytestmark = pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")

NOWHERE = GpuIdentity(name="none", sm="8.7")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "graph.onnx"
    path.write_bytes(good_graph(channels=8, depth=6))
    return path


@pytest.mark.parametrize("what", list(GOOD))
def test_builds_what_tensorrt_can_run(what: str, rtx: Any, tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(GOOD[what])
    plan = build_engine(rtx, path, BuildOptions(workspace_mb=64, optimization_level=1))
    assert len(plan) > 1000


@pytest.mark.parametrize("what", list(BAD))
def test_refuses_what_tensorrt_cannot_run(what: str, rtx: Any, tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(BAD[what])
    with pytest.raises(RunnerError) as raised:
        build_engine(rtx, path, BuildOptions())
    said = str(raised.value)
    assert said.startswith(f"{path}: TensorRT {rtx.__version__} can't ")
    assert "export the bundle" in said  # how to mend it
    assert "culprit" in said  # where it is, in the parser's or the builder's own words


def test_the_parsers_words_reach_the_reader(rtx: Any, tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(BAD["asymmetric quantisation"])
    with pytest.raises(RunnerError, match=r"'culprit' QuantizeLinear: .*zero point"):
        build_engine(rtx, path, BuildOptions())


def test_refuses_a_shape_that_only_a_run_would_fix(rtx: Any, tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    moving = (onnx.TensorProto.FLOAT, ("n", 4))
    path.write_bytes(graph_of([onnx.helper.make_node("Relu", ["x"], ["y"])], {"x": moving}, {"y": moving}))
    with pytest.raises(RunnerError, match=r"x \(-1, 4\), y \(-1, 4\).*fixed shapes"):
        build_engine(rtx, path, BuildOptions())


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_refuses_a_file_that_is_no_graph(damage: str, rtx: Any, graph: Path) -> None:
    whole = graph.read_bytes()
    graph.write_bytes({"cut": whole[: len(whole) // 2], "text": b"no graph", "empty": b""}[damage])
    with pytest.raises(RunnerError, match=r"can't (parse|build) it"):
        build_engine(rtx, graph, BuildOptions())


def test_a_failed_build_leaves_the_next_one_alone(rtx: Any, graph: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(BAD["TopK beyond 3840"])
    for _ in range(3):
        with pytest.raises(RunnerError, match="K exceeds"):
            build_engine(rtx, bad, BuildOptions())
        assert build_engine(rtx, graph, BuildOptions())


def test_tells_how_far_it_is(rtx: Any, graph: Path) -> None:
    steps: list[BuildStep] = []
    build_engine(rtx, graph, BuildOptions(), progress=steps.append)
    fractions = [step.fraction for step in steps]
    assert len(steps) > 10
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.1
    assert fractions[-1] > 0.9
    assert {step.onnx for step in steps} == {"graph.onnx"}
    assert len({step.phase for step in steps}) > 3


@pytest.mark.parametrize("after", [0, 1, 10, 40])
def test_a_build_can_be_given_up(after: int, rtx: Any, graph: Path) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > after

    with pytest.raises(BuildCancelled, match="was cancelled"):
        build_engine(rtx, graph, BuildOptions(), cancelled=cancelled)
    assert asked > after
    assert build_engine(rtx, graph, BuildOptions(), cancelled=lambda: False)


def test_a_build_can_be_given_up_from_another_thread(rtx: Any, graph: Path) -> None:
    going, stop = threading.Event(), threading.Event()

    def progress(step: BuildStep) -> None:
        going.set()
        stop.wait(20)  # holds the build where it is until it is told to stop

    with ThreadPoolExecutor(1) as builder:
        building = builder.submit(
            build_engine, rtx, graph, BuildOptions(), progress=progress, cancelled=stop.is_set
        )
        assert going.wait(60)
        stop.set()
        with pytest.raises(BuildCancelled):
            building.result(60)


def test_what_progress_raises_ends_the_build_and_not_the_process(rtx: Any, graph: Path) -> None:
    def progress(step: BuildStep) -> None:
        if step.fraction > 0:
            raise KeyError("the bar broke")

    with pytest.raises(KeyError, match="the bar broke"):
        build_engine(rtx, graph, BuildOptions(), progress=progress)


def test_timings_are_kept_for_the_next_build(
    rtx: Any, graph: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "timing.cache"
    build_engine(rtx, graph, BuildOptions(), timing=TimingCache(path, NOWHERE))
    head, _, kept = path.read_bytes().partition(b"\n")
    assert f"TensorRT {rtx.__version__} on none, SM 8.7".encode() in head
    assert kept
    again = TimingCache(path, NOWHERE)
    build_engine(rtx, graph, BuildOptions(), timing=again)
    assert not [record for record in caplog.records if str(path) in record.getMessage()]
    path.write_bytes(head + b"\n" + kept[:-1] + b"?")
    build_engine(rtx, graph, BuildOptions(), timing=TimingCache(path, NOWHERE))
    assert [record for record in caplog.records if f"{path}: is damaged" in record.getMessage()]
    assert path.read_bytes().startswith(head)


def test_a_dla_that_is_not_there_is_an_error(rtx: Any, graph: Path) -> None:
    with pytest.raises(RunnerError, match="has 0 DLA cores"):
        build_engine(rtx, graph, BuildOptions(dla_core=0))


def test_engines_of_a_bundle_are_built_once(rtx: Any, tmp_path: Path) -> None:
    bundle = load_bundle(make_tiny_bundle(tmp_path / "bundle"))
    config = TensorRTConfig(engines_dir=tmp_path / "engines")
    for cached in (False, True):
        steps: list[BuildStep] = []
        provider = EngineProvider(rtx, config, NOWHERE, progress=steps.append)
        for stage in bundle.manifest.stages:
            engine = provider.engine(bundle, stage, lambda plan: plan)
            assert engine.cached is cached
            assert engine.record.onnx == stage.file
            assert engine.record.key.tensorrt == rtx.__version__
        assert bool(steps) is not cached
