from __future__ import annotations

import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, compose, helper

from edge.bundle import ANOMALY_MAP, Bundle, FileSpec, load_bundle, write_manifest
from edge.config import TensorRTConfig
from edge.errors import BundleInvalid, RunnerError
from edge.preprocessing import tensor_shapes
from edge.runtime import Runner, runner_for
from edge.runtime.onnx import session_options
from edge.sealed import file_sha256
from tests.tiny_bundle import make_tiny_bundle

_Tensors = dict[str, npt.NDArray[np.generic]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(make_tiny_bundle(tmp_path_factory.mktemp("runtime") / "b", colour=(0.2, 0.5, 0.7)))


@pytest.fixture(scope="module")
def runner(bundle: Bundle) -> Runner:
    return runner_for(bundle)


def tensors_for(bundle: Bundle, seed: int = 0) -> _Tensors:
    rng = np.random.default_rng(seed)
    shapes = tensor_shapes(bundle.manifest.preprocessing)
    return {
        name: (rng.random(shapes[name][1]) * (255 if shapes[name][0] == "uint8" else 1)).astype(
            shapes[name][0]
        )
        for name in sorted(bundle.wanted)
    }


def with_graph(bundle: Bundle, folder: Path, name: str, graph: bytes) -> Bundle:
    """The bundle with another ONNX file, under a manifest that was written for it."""
    shutil.copytree(bundle.path, folder)
    (folder / "calibration.yaml").unlink()
    (folder / name).write_bytes(graph)
    spec = FileSpec(sha256=file_sha256(folder / name), bytes=len(graph))
    files = {**bundle.manifest.files, name: spec}
    write_manifest(folder, bundle.manifest.model_copy(update={"files": files}))
    return load_bundle(folder)


def test_three_chained_stages_give_what_one_fused_graph_gives(bundle: Bundle, runner: Runner) -> None:
    colour, shape, distance = (
        compose.add_prefix(onnx.load(bundle.path / f"{name}.onnx"), f"{name}/", rename_inputs=False)
        for name in ("colour", "shape", "distance")
    )
    both = compose.merge_models(colour, shape, io_map=[])
    io_map = [("colour/colour_map", "colour_map"), ("shape/shape_map", "shape_map")]
    fused = compose.merge_models(both, distance, io_map=io_map)
    session = ort.InferenceSession(
        fused.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
    )
    for seed in range(5):
        tensors = tensors_for(bundle, seed)
        (expected,) = session.run(None, tensors)
        result = runner.run(tensors)[ANOMALY_MAP]
        assert np.ptp(expected) > 0.05
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_what_lies_between_the_stages_can_be_fetched(bundle: Bundle, runner: Runner) -> None:
    tensors = tensors_for(bundle)
    made = runner.run(tensors, fetch=("shape_map", ANOMALY_MAP, "colour_map"))
    assert list(made) == ["shape_map", ANOMALY_MAP, "colour_map"]
    np.testing.assert_allclose(made["shape_map"], np.abs(tensors["z"]).mean(axis=1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(
        made[ANOMALY_MAP], (made["colour_map"] + made["shape_map"]) * tensors["mask"], rtol=1e-6
    )
    assert (made[ANOMALY_MAP] == runner.run(tensors)[ANOMALY_MAP]).all()


@pytest.mark.parametrize("name", ["infrared", "image", ""])
def test_what_no_stage_gives_can_t_be_fetched(bundle: Bundle, runner: Runner, name: str) -> None:
    with pytest.raises(
        RunnerError, match=r"there are \['anomaly_map', 'colour_map', 'shape_map'\]"
    ) as caught:
        runner.run(tensors_for(bundle), fetch=(ANOMALY_MAP, name))
    assert repr(name) in str(caught.value)


def test_each_input_is_checked_for_its_name_dtype_and_shape(bundle: Bundle, runner: Runner) -> None:
    good = tensors_for(bundle)
    for name, array in good.items():
        missing = {key: value for key, value in good.items() if key != name}
        with pytest.raises(RunnerError, match=f"asks for tensor '{name}'; given are"):
            runner.run(missing)
        with pytest.raises(RunnerError, match=f"'{name}' is float64"):
            runner.run({**good, name: array.astype(np.float64)})
        with pytest.raises(RunnerError, match=rf"'{name}' is .*, must be .*\(1, "):
            runner.run({**good, name: array[0]})
    unasked = {**good, "depth": np.zeros(3)}  # a bundle takes what it asks for
    assert (runner.run(unasked)[ANOMALY_MAP] == runner.run(good)[ANOMALY_MAP]).all()


def test_arrays_that_are_not_contiguous_are_taken_as_they_are_meant(bundle: Bundle, runner: Runner) -> None:
    good = tensors_for(bundle)
    strided = {name: np.asfortranarray(array) for name, array in good.items()}
    strided["image"] = np.ascontiguousarray(good["image"][..., ::-1])[..., ::-1]
    assert (runner.run(strided)[ANOMALY_MAP] == runner.run(good)[ANOMALY_MAP]).all()


def test_results_are_the_same_run_after_run_and_their_own(bundle: Bundle, runner: Runner) -> None:
    tensors = tensors_for(bundle)
    kept = runner.run(tensors)[ANOMALY_MAP]
    first = kept.copy()
    other = runner.run(tensors_for(bundle, 1))[ANOMALY_MAP]
    assert (other != first).any()
    assert (kept == first).all()  # the next run wrote nothing into it
    for _ in range(5):
        assert runner.run(tensors)[ANOMALY_MAP].tobytes() == first.tobytes()


def test_two_runners_in_one_process_are_two(bundle: Bundle, tmp_path: Path) -> None:
    other = load_bundle(make_tiny_bundle(tmp_path / "other", colour=(1.0, 0.0, 0.0)))
    tensors = tensors_for(bundle)
    with runner_for(bundle) as one, runner_for(bundle) as same:
        with runner_for(other) as two:
            mine, theirs = one.run(tensors)[ANOMALY_MAP], two.run(tensors)[ANOMALY_MAP]
        assert (mine != theirs).any()
        assert (one.run(tensors)[ANOMALY_MAP] == mine).all()
        assert (same.run(tensors)[ANOMALY_MAP] == mine).all()


def test_a_runner_works_for_the_thread_that_has_it_and_two_beside_each_other(bundle: Bundle) -> None:
    expected = {seed: runner_for(bundle).run(tensors_for(bundle, seed))[ANOMALY_MAP] for seed in range(8)}
    barrier = threading.Barrier(2)

    def work(seeds: range) -> list[bool]:
        with runner_for(bundle) as own:
            barrier.wait()
            return [
                own.run(tensors_for(bundle, seed))[ANOMALY_MAP].tobytes() == expected[seed].tobytes()
                for seed in seeds
                for _ in range(20)
            ]

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(work, (range(4), range(4, 8))))
    assert all(all(result) for result in results)


def test_a_closed_runner_says_so_and_closes_twice(bundle: Bundle) -> None:
    runner = runner_for(bundle)
    runner.close()
    runner.close()
    with pytest.raises(RunnerError, match="is closed"):
        runner.run(tensors_for(bundle))


def test_a_backend_that_is_not_there_is_not_replaced_by_another(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # as where it is not installed
    with pytest.raises(RunnerError, match=r"TensorRT is not installed.*runtime\.backend: onnx"):
        runner_for(bundle, TensorRTConfig(engines_dir=tmp_path))


@pytest.mark.parametrize("graph", [b"", b"not a graph", bytes(range(256)) * 20, b"\x08\x0a"])
def test_a_file_that_is_no_graph_is_an_error_although_its_sha256_is_right(
    bundle: Bundle, tmp_path: Path, graph: bytes
) -> None:
    broken = with_graph(bundle, tmp_path / "b", "shape.onnx", graph)
    with pytest.raises(RunnerError, match=r"shape\.onnx: ONNX Runtime .* can't load it") as caught:
        runner_for(broken)
    assert "export" in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_graph_is_an_error_or_another_graph_but_never_anything_else(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    good = (bundle.path / "colour.onnx").read_bytes()
    changed = bytearray(good)
    positions = data.draw(st.lists(st.integers(0, len(good) - 1), min_size=1, max_size=3))
    for position in positions:
        changed[position] = data.draw(st.integers(0, 255))
    broken = with_graph(bundle, tmp_path_factory.mktemp("damaged") / "b", "colour.onnx", bytes(changed))
    try:
        with runner_for(broken) as runner:
            made = runner.run(tensors_for(bundle))[ANOMALY_MAP]
    except (RunnerError, BundleInvalid) as error:
        reason = str(error)
        assert "colour" in reason
    else:
        assert made.shape == (1, 1, 8, 8)


def test_names_that_are_not_text_are_an_error(
    bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = (bundle.path / "colour.onnx").read_bytes()
    changed = graph.replace(b"colour_map", b"colour\xe1map")
    assert changed != graph
    broken = with_graph(bundle, tmp_path / "b", "colour.onnx", changed)
    with pytest.raises(RunnerError, match=r"colour\.onnx: .* export the bundle anew"):
        runner_for(broken)
    assert capfd.readouterr().out == ""  # ONNX Runtime's own second try talks


def _of_any_shape() -> bytes:
    """In place of distance.onnx: gives (1, 1, 8, 8) as it says only if the mask begins so."""
    nodes = [
        helper.make_node("Slice", ["mask", "begin", "end", "axes"], ["first"]),
        helper.make_node("Cast", ["first"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Squeeze", ["whole", "single"], ["size"]),
        helper.make_node("Add", ["colour_map", "shape_map"], ["both"]),
        helper.make_node("Reshape", ["both", "size"], [ANOMALY_MAP]),
    ]
    constants = [
        helper.make_tensor("begin", TensorProto.INT64, [2], [0, 0]),
        helper.make_tensor("end", TensorProto.INT64, [2], [1, 4]),
        helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
        helper.make_tensor("single", TensorProto.INT64, [3], [0, 1, 2]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 1, 8, 8))
        for name in ("colour_map", "shape_map", "mask")
    ]
    outputs = [helper.make_tensor_value_info(ANOMALY_MAP, TensorProto.FLOAT, (1, 1, 8, 8))]
    graph = helper.make_graph(nodes, "distance", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def test_what_goes_wrong_only_while_it_runs_is_an_error_too(bundle: Bundle, tmp_path: Path) -> None:
    broken = with_graph(bundle, tmp_path / "b", "distance.onnx", _of_any_shape())
    tensors = tensors_for(bundle)
    with runner_for(broken) as runner:
        tensors["mask"][0, 0, 0, :4] = (1, 1, 8, 8)
        assert runner.run(tensors)[ANOMALY_MAP].shape == (1, 1, 8, 8)
        tensors["mask"][0, 0, 0, :4] = (1, 1, 5, 5)  # 64 cells don't fit
        with pytest.raises(RunnerError, match=r"stage 'distance' \(distance.onnx\) failed"):
            runner.run(tensors)
        tensors["mask"][0, 0, 0, :4] = (1, 1, 4, 16)  # they do, and are not what was promised
        with pytest.raises(RunnerError, match=r"'anomaly_map' came out as float32\(1, 1, 4, 16\)"):
            runner.run(tensors)
