"""Whether FP16 holds what a graph computes: what is found, what is not, on which inputs it is looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge.bundle import Bundle, StageSpec, load_bundle
from edge.errors import ExportError
from edge.frame import Frame
from edge.framing import FramingConfig
from edge.golden import read_golden
from edge.preprocessing import Preprocessing, ZConfig, preprocess, tensor_shapes
from edge.simulation import RigScene
from edge.simulation.dataset import frame_from_shot
from export.adversarial import adversarial_inputs, tampered_frames, tampered_tensors
from export.precision import in_precision, supports
from export.ranges import check_fp16_ranges
from tests.export.small_graphs import run, small_graph

ALL = frozenset({"image", "normals", "depth", "z", "mask"})


def stage(name: str, **inputs: str) -> StageSpec:
    return StageSpec(
        name=name, file=f"{name}.onnx", precision="fp16", inputs=inputs, outputs={"y": f"{name}_out"}
    )


def in_half(*nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    """x → FP16 → the nodes (from `a` to `b`) → float32 y; all (1, 4)."""
    return small_graph(
        [
            helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT16),
            *nodes,
            helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
        ],
        {"x": (1, 4)},
        {"y": (1, 4)},
        constants,
    )


X = np.float32([[1, 2, 3, 12]])
LOG_OF_EXP = in_half(helper.make_node("Exp", ["a"], ["e"]), helper.make_node("Log", ["e"], ["b"]))


def test_an_overflow_that_onnx_runtime_hides_is_found() -> None:
    assert run(LOG_OF_EXP, {"x": X})[0, 3] == pytest.approx(12)  # it keeps exp(12) in float32: no GPU does
    with pytest.raises(ExportError) as caught:
        check_fp16_ranges([stage("odd", x="x")], {"odd.onnx": LOG_OF_EXP}, {"the third part": {"x": X}})
    assert "stage 'odd': FP16 tensor 'e' reaches 162755 on the third part, and FP16 ends at 65504" in str(
        caught.value
    )
    assert "--precision odd=fp32" in str(caught.value)


def test_it_says_how_near_to_the_end_a_stage_came_and_on_what() -> None:
    inputs = {"low": {"x": X - 9}, "high": {"x": X - 2}, "middle": {"x": X - 5}}
    (peak,) = check_fp16_ranges([stage("odd", x="x")], {"odd.onnx": LOG_OF_EXP}, inputs)
    assert (peak.stage, peak.tensor, peak.input) == ("odd", "e", "high")
    assert peak.value == pytest.approx(np.exp(10), rel=2**-10)


@settings(deadline=None, max_examples=40)
@given(st.floats(-70000, 70000, width=32))
def test_just_what_fp16_holds_is_let_through(value: float) -> None:
    identity = in_half(helper.make_node("Identity", ["a"], ["b"]))
    inputs = {"it": {"x": np.full((1, 4), value, np.float32)}}
    # What lies from 65488 on is rounded to the end: FP16 has nothing in between.
    if abs(value) < 65488:
        (peak,) = check_fp16_ranges([stage("odd", x="x")], {"odd.onnx": identity}, inputs)
        assert peak.value == pytest.approx(abs(value), rel=2**-10, abs=2**-24)
    else:
        with pytest.raises(ExportError, match=r"'a' reaches .* on it"):
            check_fp16_ranges([stage("odd", x="x")], {"odd.onnx": identity}, inputs)


def test_it_says_what_rounding_between_nodes_does_and_onnx_runtime_does_not() -> None:
    """2048 + 1 is 2048 in FP16: taking 2048 off again gives 0, not 1."""
    large = np.full((1, 4), 2048, np.float16)
    model = in_half(
        helper.make_node("Add", ["a", "large"], ["c"]),
        helper.make_node("Sub", ["c", "large"], ["b"]),
        large=large,
    )
    x = np.float32([[1, 2, 3, 4]])
    assert np.array_equal(run(model, {"x": x}), x)
    (peak,) = check_fp16_ranges([stage("odd", x="x")], {"odd.onnx": model}, {"it": {"x": x}})
    assert peak.rounding == pytest.approx(1 / x.std())


@pytest.mark.parametrize("kind", ["MatMul", "Gemm", "Conv"])
def test_a_sum_that_may_overflow_on_the_way_is_found(kind: str) -> None:
    """60000 + 60000 − 60000 is what FP16 holds, and it depends on the order whether it gets there."""
    weights = np.zeros((4, 4), np.float16)
    weights[:3, 0] = 1, 1, -1
    x = np.full((1, 4), 60000, np.float32)
    if kind == "Conv":
        nodes = [
            helper.make_node("Reshape", ["a", "square"], ["wide"]),
            helper.make_node("Conv", ["wide", "w"], ["c"]),
            helper.make_node("Reshape", ["c", "flat"], ["b"]),
        ]
        product = in_half(
            *nodes, w=weights.T.reshape(4, 4, 1, 1), square=np.array([1, 4, 1, 1]), flat=np.array([1, 4])
        )
    else:
        product = in_half(helper.make_node(kind, ["a", "w"], ["b"]), w=weights)
    assert run(product, {"x": x})[0, 0] == 60000
    words = r"'[bc], sum of absolute values' reaches 180000 on sums"
    with pytest.raises(ExportError, match=words):
        check_fp16_ranges([stage("odd", x="x")], {"odd.onnx": product}, {"sums": {"x": x}})
    (peak,) = check_fp16_ranges([stage("odd", x="x")], {"odd.onnx": product}, {"sums": {"x": x / 3}})
    assert peak.value == 60000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_found(value: float) -> None:
    x = X.copy()
    x[0, 1] = value
    with pytest.raises(ExportError, match=r"'a' reaches 1 values that are not finite on a broken part"):
        check_fp16_ranges([stage("odd", x="x")], {"odd.onnx": LOG_OF_EXP}, {"a broken part": {"x": x}})


def test_a_weight_that_is_infinite_is_found_before_anything_runs() -> None:
    weights = np.full((1, 4), np.inf, np.float16)
    model = in_half(helper.make_node("Add", ["a", "w"], ["b"]), w=weights)
    with pytest.raises(
        ExportError, match=r"FP16 tensor 'w' reaches 4 values .* on any input: it is a weight"
    ):
        check_fp16_ranges([stage("odd", x="x")], {"odd.onnx": model}, {})


def test_a_stage_without_fp16_has_no_peak_and_is_run_for_those_behind_it() -> None:
    double = small_graph([helper.make_node("Add", ["x", "x"], ["y"])], {"x": (1, 4)}, {"y": (1, 4)})
    stages = [stage("first", x="x"), stage("odd", x="first_out")]
    models = {"first.onnx": double, "odd.onnx": LOG_OF_EXP}
    (peak,) = check_fp16_ranges(stages, models, {"it": {"x": X / 4}})
    assert (peak.stage, peak.value) == ("odd", pytest.approx(np.exp(6), rel=2**-10))
    with pytest.raises(ExportError, match="stage 'odd': FP16 tensor 'e'"):
        check_fp16_ranges(stages, models, {"it": {"x": X}})


def test_a_graph_that_can_t_be_run_is_told() -> None:
    graph = small_graph(
        [helper.make_node("Odd", ["x"], ["y"], domain="nowhere")],
        {"x": (1, 4)},
        {"y": (1, 4)},
        opsets=(("", 18), ("nowhere", 1)),
    )
    with pytest.raises(ExportError, match=r"odd\.onnx: ONNX Runtime can't run it in float32"):
        check_fp16_ranges([stage("odd", x="x")], {"odd.onnx": graph}, {})


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)


@pytest.fixture(scope="module")
def golden(bundle: Bundle) -> dict[str, dict[str, np.ndarray]]:
    return {path.stem: read_golden(path, bundle.manifest) for path in bundle.golden_files()[:3]}


@pytest.fixture(scope="module")
def halves(bundle: Bundle) -> dict[str, onnx.ModelProto]:
    """Each stage of a small run in FP16, where it has that."""
    models = {spec.file: onnx.load(bundle.path / spec.file) for spec in bundle.manifest.stages}
    return {
        file: in_precision(model, "fp16", name=file) if supports(model, "fp16") else model
        for file, model in models.items()
    }


def test_a_real_bundle_stays_in_range_on_golden_and_on_adversarial_inputs(
    bundle: Bundle, golden: dict[str, dict[str, np.ndarray]], halves: dict[str, onnx.ModelProto]
) -> None:
    inputs = golden | adversarial_inputs(bundle.manifest.preprocessing, bundle.wanted, golden)
    peaks = check_fp16_ranges(bundle.manifest.stages, halves, inputs)
    assert [peak.stage for peak in peaks] == ["backbone", "backbone_normals", "teacher", "student"]
    assert all(0 < peak.value < 65504 and peak.input in inputs for peak in peaks)


def test_what_good_parts_alone_would_not_show_is_found(
    bundle: Bundle, golden: dict[str, dict[str, np.ndarray]]
) -> None:
    """A stage whose numbers just fit while parts are good."""
    preprocessing = bundle.manifest.preprocessing
    shape = tensor_shapes(preprocessing)["z"][1]
    highest = max(float(np.abs(tensors["z"]).max()) for tensors in golden.values())
    assert 0 < highest < 1  # a centimetre
    model = small_graph(
        [
            helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT16),
            helper.make_node("Mul", ["a", "gain"], ["b"]),
            helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
        ],
        {"x": shape},
        {"y": shape},
        {"gain": np.float16(50000)},
    )
    stages, models = [stage("odd", x="z")], {"odd.onnx": model}
    (peak,) = check_fp16_ranges(stages, models, golden)
    assert peak.input in golden
    found = set()
    for name, tensors in adversarial_inputs(preprocessing, frozenset({"z"}), golden).items():
        try:
            check_fp16_ranges(stages, models, {name: tensors})
        except ExportError:
            found.add(name)
    first = min(golden)
    assert found >= {
        f"{first} with {name}" for name in ("a spike of 5 cm", "an unfilled hole", "saturated z")
    }
    assert found >= {f"a simulated part with {name}" for name in ("a spike of 5 cm", "saturated z")}


WHOLE = Preprocessing(
    image_px=96, depth_px=48, map_cells=12, framing=FramingConfig(mode="part", window_px=150)
)


@pytest.fixture(scope="module")
def frame() -> Frame:
    scene = RigScene("ring", 3, defective_share=0.0, width_px=320, height_px=240)
    shot = scene.shot(0)
    assert shot is not None
    return frame_from_shot(scene, 0, shot)


def test_tampered_frames_are_what_they_are_called(frame: Frame) -> None:
    frames = tampered_frames(frame, WHOLE)
    part = preprocess(frame, WHOLE, frozenset()).part
    before = frame.depth_m
    known = before > 0
    changed = {name: one.depth_m != before for name, one in frames.items()}
    for name, rise_m in (("a spike of 5 cm", 0.05), ("a foreign body of 2 cm", 0.02)):
        where = changed[name]
        assert (before - frames[name].depth_m)[where] == pytest.approx(rise_m, abs=1e-6)
        assert (where & part).any()
    assert changed["a spike of 5 cm"].sum() <= 25
    assert changed["a foreign body of 2 cm"].sum() > 25
    assert not frames["a hole"].depth_m[changed["a hole"]].any()
    assert (changed["saturated z"] == (changed["saturated z"] & part & known)).all()
    assert not frames["no light"].rgb.any()
    assert (frames["glare"].rgb == 255).all()
    for name in ("no light", "glare"):
        assert not changed[name].any()
    prepared = preprocess(frames["saturated z"], WHOLE, frozenset({"z"})).tensors["z"]
    assert {float(prepared.min()), float(prepared.max())} == {-8.0, 8.0}


def test_a_frame_without_a_part_gives_none(frame: Frame) -> None:
    thresholds = WHOLE.foreground.model_copy(update={"part_threshold_m": 0.1, "mask_threshold_m": 0.1})
    assert tampered_frames(frame, WHOLE.model_copy(update={"foreground": thresholds})) == {}


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([None, 8.0]),
    st.sampled_from(["raw", "height"]),
    st.sets(st.sampled_from(sorted(ALL - {"mask"})), min_size=1),
)
def test_tampered_tensors_are_of_the_same_kind(
    clamp: float | None, source: Literal["raw", "height"], wanted: set[str]
) -> None:
    preprocessing = WHOLE.model_copy(update={"z": ZConfig(source=source, clamp=clamp)})
    shapes = tensor_shapes(preprocessing)
    rng = np.random.default_rng(0)
    given_ = {
        name: (rng.random(shape) * (255 if dtype == "uint8" else 1)).astype(dtype)
        for name, (dtype, shape) in shapes.items()
        if name in wanted | {"mask"}
    }
    made = tampered_tensors(given_, preprocessing)
    assert ("saturated z" in made) is ("z" in wanted)
    assert ("an unfilled hole" in made) is bool(wanted & {"z", "depth"})
    assert ("black pictures" in made) is bool(wanted & {"image", "normals"})
    for tensors in made.values():
        assert {name: (a.dtype.name, a.shape) for name, a in tensors.items()} == {
            name: shapes[name] for name in given_
        }
        assert any(not np.array_equal(a, given_[name]) for name, a in tensors.items())
        if clamp is not None and "z" in wanted:
            assert np.abs(tensors["z"]).max() <= clamp
        if "depth" in wanted:
            assert tensors["depth"].min() >= 0


def test_each_input_is_what_the_stages_ask_for(
    bundle: Bundle, golden: dict[str, dict[str, np.ndarray]]
) -> None:
    shapes = tensor_shapes(bundle.manifest.preprocessing)
    made = adversarial_inputs(bundle.manifest.preprocessing, bundle.wanted, golden)
    assert len(made) == 13
    for name, tensors in made.items():
        for tensor in bundle.wanted:
            assert (tensors[tensor].dtype.name, tensors[tensor].shape) == shapes[tensor], name
    assert adversarial_inputs(bundle.manifest.preprocessing, bundle.wanted, {}).keys() == {
        name for name in made if name.startswith("a simulated part")
    }
