"""Graphs in fp16 and int8: what runs in what, how far off it is, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge.bundle import Precision, load_bundle
from edge.errors import ExportError
from edge.framing import FramingConfig
from edge.golden import read_golden
from edge.preprocessing import Preprocessing
from edge.runtime import runner_for
from export.onnx import export_graph
from export.precision import in_precision, supports
from tests.export.small_graphs import run, small_graph, types_of
from train.methods import FusionConfig, FusionModel, MemoryBankConfig, MemoryBankModel, build_method

Feed = Mapping[str, np.ndarray]

ISLANDS = {"Atan", "Exp", "Pow", "ReduceMean", "Sqrt", "Sub"}
WEIGHTED = {"Conv", "Gemm", "MatMul"}


@dataclass(frozen=True)
class Stages:
    """Graphs by name, and what each takes of the golden samples."""

    models: Mapping[str, onnx.ModelProto]
    feeds: Mapping[str, Sequence[Feed]]


@pytest.fixture(scope="module")
def msd(bundle_folder: Path) -> Stages:
    """The stages of a small run of msd."""
    bundle = load_bundle(bundle_folder)
    stages = bundle.manifest.stages
    feeds: dict[str, list[Feed]] = {stage.name: [] for stage in stages}
    with runner_for(bundle) as runner:
        for path in bundle.golden_files():
            tensors = dict(read_golden(path, bundle.manifest))
            tensors |= runner.run(tensors, tuple(bundle.manifest.tensors))
            for stage in stages:
                feeds[stage.name].append({node: tensors[name] for node, name in stage.inputs.items()})
    return Stages({stage.name: onnx.load(bundle.path / stage.file) for stage in stages}, feeds)


@pytest.fixture(scope="module")
def distances(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, onnx.ModelProto]:
    """The last stages of the other methods: a bank with every option, and a fusion."""
    folder = tmp_path_factory.mktemp("distances")
    preprocessing = Preprocessing(
        image_px=96, depth_px=48, map_cells=12, framing=FramingConfig(mode="whole", window_px=None)
    )
    config = MemoryBankConfig.model_validate(
        {"backbone": {"blocks": [3]}, "reweighting_neighbours": 2, "position_weight": 0.3}
    )
    fusion = build_method(FusionConfig(members=(config, config)), preprocessing, 0)
    assert isinstance(fusion, FusionModel)
    member = next(iter(fusion.members.values()))
    assert isinstance(member, MemoryBankModel)
    generator = torch.Generator().manual_seed(0)
    member.bank.set_rows(torch.randn(64, member.bank.rows.shape[1], generator=generator))
    last = {"bank": member.stages()[-1], "fusion": fusion.stages()[-1]}
    for name, stage in last.items():
        export_graph(stage.module, stage.examples, list(stage.spec.outputs), folder / f"{name}.onnx")
    return {name: onnx.load(folder / f"{name}.onnx") for name in last}


HEADS = ("teacher", "student")
NETWORKS = ("backbone", *HEADS)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_networks_can_be_converted_and_distances_can_not(
    precision: Precision, msd: Stages, distances: Mapping[str, onnx.ModelProto]
) -> None:
    able = {name for name, model in msd.models.items() if supports(model, precision)}
    assert able == {*NETWORKS, "backbone_normals"}
    for name, model in {"distance": msd.models["distance"], **distances}.items():
        assert not supports(model, precision)
        with pytest.raises(ExportError, match=f"{name}: no node of it may run in {precision}.*leave it fp32"):
            in_precision(model, precision, name=name, calibration=[{}])


def _errors(stages: Stages, name: str, precision: Precision) -> list[float]:
    """Of each golden sample, the root mean square of the error in standard deviations of the fp32 output."""
    source, feeds = stages.models[name], stages.feeds[name]
    made = in_precision(source, precision, name=name, calibration=feeds)
    pairs = [(run(source, feed).astype(np.float64), run(made, feed).astype(np.float64)) for feed in feeds]
    return [float(np.sqrt(np.square(b - a).mean()) / a.std()) for a, b in pairs]


@pytest.mark.parametrize("name", NETWORKS)
def test_fp16_is_near_fp32_and_not_the_same(name: str, msd: Stages) -> None:
    # 11 bits, a few dozen roundings in a row: far above 2⁻¹¹ something else is wrong.
    assert all(0 < error < 20 * 2**-11 for error in _errors(msd, name, "fp16"))


@pytest.mark.parametrize("name", NETWORKS)
def test_int8_is_near_fp32_on_the_parts_it_was_calibrated_with(name: str, msd: Stages) -> None:
    # The backbone's error is why it stays fp32 unless it is named.
    assert all(0 < error < (0.5 if name == "backbone" else 0.1) for error in _errors(msd, name, "int8"))


def test_fp32_is_the_same_arithmetic(msd: Stages) -> None:
    for name, source in msd.models.items():
        made = in_precision(source, "fp32", name=name)
        assert list(made.graph.node) == list(source.graph.node)
        assert list(made.graph.initializer) == list(source.graph.initializer)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_goes_in_and_out_stays_as_it_is(name: str, precision: Precision, msd: Stages) -> None:
    source = msd.models[name]
    before = source.SerializeToString(deterministic=True)
    made = in_precision(source, precision, name=name, calibration=msd.feeds[name])
    assert list(made.graph.input) == list(source.graph.input)
    assert list(made.graph.output) == list(source.graph.output)
    assert made.opset_import == source.opset_import
    assert made.ir_version == source.ir_version
    assert source.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_graph_gives_the_same_bytes_and_they_tell_nothing(
    name: str, precision: Precision, msd: Stages
) -> None:
    talkative = onnx.ModelProto()
    talkative.CopyFrom(msd.models[name])
    talkative.doc_string = talkative.graph.doc_string = "/home/someone/secret"
    for part in (talkative, *talkative.graph.node, talkative.graph.initializer[0]):
        part.doc_string = "/home/someone/secret"
        part.metadata_props.add(key="where", value="/home/someone/secret")
    silent, told = (
        in_precision(model, precision, name=name, calibration=msd.feeds[name]).SerializeToString(
            deterministic=True
        )
        for model in (msd.models[name], talkative)
    )
    assert silent == told
    for word in (b"secret", b"/home", b"/tmp", b"onnxruntime", b"onnx.quant"):
        assert word not in silent


@pytest.mark.parametrize("name", NETWORKS)
def test_products_run_in_fp16_and_islands_in_fp32(name: str, msd: Stages) -> None:
    made = in_precision(msd.models[name], "fp16", name=name)
    types = types_of(made)
    seen = set()
    for node in made.graph.node:
        given = {types[tensor] for tensor in node.input if types[tensor] in _FLOATS}
        seen.add(node.op_type)
        if node.op_type in WEIGHTED:
            assert given == {TensorProto.FLOAT16}
        elif node.op_type in ISLANDS:
            assert given == {TensorProto.FLOAT}
    assert name != "teacher" or {"Exp", "Atan", "Conv", "Sub"} <= seen
    _check_casts(made)


_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}


def _check_casts(made: onnx.ModelProto) -> None:
    """No tensor goes to FP16 and back on its way from one island to the next, and none is cast twice."""
    casts = [node for node in made.graph.node if node.op_type == "Cast"]
    results = {node.output[0] for node in casts if types_of(made)[node.input[0]] in _FLOATS}
    assert results.isdisjoint(node.input[0] for node in casts)
    assert len({node.input[0] for node in casts}) == len(casts)


def test_the_path_that_the_flow_scales_stays_fp32(msd: Stages) -> None:
    """x · exp(s) + t, block after block: what comes out of a product with exp never goes into FP16, but for
    the next network's input."""
    made = in_precision(msd.models["teacher"], "fp16", name="teacher")
    types = types_of(made)
    scales = {node.output[0] for node in made.graph.node if node.op_type == "Exp"}
    scaled = [node for node in made.graph.node if node.op_type == "Mul" and scales & set(node.input)]
    assert len(scaled) == len(scales) > 0
    shifted = {node.output[0] for node in scaled}
    added = [node for node in made.graph.node if node.op_type == "Add" and shifted & set(node.input)]
    assert len(added) == len(scaled)
    assert {types[node.output[0]] for node in (*scaled, *added)} == {TensorProto.FLOAT}


def test_constants_of_islands_are_not_rounded_and_of_both_sides_there_are_two() -> None:
    third = np.full((2, 2, 1, 1), 1 / 3, np.float32)
    source = small_graph(
        [
            helper.make_node("Conv", ["x", "third"], ["a"]),
            helper.make_node("Sub", ["a", "limit"], ["b"]),
            helper.make_node("Add", ["b", "third"], ["y"]),
        ],
        {"x": (2, 2, 1, 1)},
        {"y": (2, 2, 1, 1)},
        {"third": third, "limit": np.float32(1e6)},
    )
    made = in_precision(source, "fp16", name="small")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    assert np.array_equal(constants["third"], third)
    assert np.array_equal(constants["third_fp16"], third.astype(np.float16))
    assert constants["limit"] == np.float32(1e6)


@pytest.mark.parametrize("weight", [65504.0, 1e5, np.inf, np.nan])
def test_a_product_by_a_weight_that_fp16_can_t_hold_is_an_island(weight: float) -> None:
    """Clamping it, as converters do, would make another network of it."""
    weights = np.ones((2, 2, 1, 1), np.float32)
    large = weights.copy()
    large[0, 0] = weight
    source = small_graph(
        [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Conv", ["a", "large"], ["y"])],
        {"x": (1, 2, 4, 4)},
        {"y": (1, 2, 4, 4)},
        {"w": weights, "large": large},
    )
    types = types_of(in_precision(source, "fp16", name="small"))
    assert types["a_fp16"] == TensorProto.FLOAT16
    assert types["large"] == types["y"] == TensorProto.FLOAT


def test_a_square_and_a_difference_are_islands_and_a_gate_is_not() -> None:
    source = small_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("Sigmoid", ["a"], ["s"]),
            helper.make_node("Mul", ["a", "s"], ["gated"]),
            helper.make_node("Mul", ["gated", "gated"], ["square"]),
            helper.make_node("Sub", ["a", "gated"], ["difference"]),
            helper.make_node("Add", ["square", "difference"], ["y"]),
        ],
        {"x": (1, 2, 4, 4)},
        {"y": (1, 2, 4, 4)},
        {"w": np.ones((2, 2, 1, 1), np.float32)},
    )
    made = in_precision(source, "fp16", name="small")
    types = types_of(made)
    halves = {name for name, kind in types.items() if kind == TensorProto.FLOAT16}
    assert {"a_fp16", "s_fp16", "gated_fp16"} <= halves
    assert {"square", "difference"}.isdisjoint(halves | {name.removesuffix("_fp16") for name in halves})


def _network_and_distance() -> onnx.ModelProto:
    """What a method in one file would have: a network, and the distance to the nearest of three rows."""
    return small_graph(
        [
            helper.make_node("Gemm", ["x", "w", "bias"], ["latent"], transB=1),
            helper.make_node("MatMul", ["latent", "rows"], ["near"]),
            helper.make_node("Sub", ["squares", "near"], ["distances"]),
            helper.make_node("ReduceMin", ["distances", "axis"], ["y"], keepdims=0),
        ],
        {"x": (5, 4)},
        {"y": (5,)},
        {
            "w": np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4),
            "bias": np.arange(6, dtype=np.float32),
            "rows": np.linspace(-2, 2, 18, dtype=np.float32).reshape(6, 3),
            "squares": np.ones(3, np.float32),
            "axis": np.array([1]),
        },
    )


def test_a_distance_in_a_network_s_file_stays_fp32() -> None:
    types = types_of(in_precision(_network_and_distance(), "fp16", name="both"))
    assert types["w_fp16"] == types["latent_fp16"] == TensorProto.FLOAT16
    assert types["rows"] == types["near"] == types["distances"] == TensorProto.FLOAT


Row = tuple[onnx.NodeProto, dict[str, np.ndarray]]


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """A network of products, activations, sums, and of what must stay fp32, in any order."""
    shape = (1, 4, 5, 5)
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, np.ndarray] = {"gain": np.float32(0.3), "axes": np.array([2, 3])}
    tensors = ["x"]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    for place in range(draw(st.integers(1, 12))):
        kind = draw(
            st.sampled_from(
                ["Conv", "Conv", "Relu", "Add", "Sub", "gate", "square", "exp", "mean", "Concat", "gain"]
            )
        )
        a, b = draw(st.sampled_from(tensors)), draw(st.sampled_from(tensors))
        made, inner = f"t{place}", f"i{place}"
        if kind == "Conv":
            constants[f"w{place}"] = rng.normal(0, 1 / 6, (4, 4, 3, 3)).astype(np.float32)
            constants[f"b{place}"] = rng.normal(0, 1, 4).astype(np.float32)
            nodes.append(helper.make_node("Conv", [a, f"w{place}", f"b{place}"], [made], pads=[1] * 4))
        elif kind == "gate":
            nodes += [
                helper.make_node("Sigmoid", [a], [inner]),
                helper.make_node("Mul", [inner, b], [made]),
            ]
        elif kind == "exp":
            nodes += [helper.make_node("Atan", [a], [inner]), helper.make_node("Exp", [inner], [made])]
        elif kind == "mean":
            nodes += [
                helper.make_node("ReduceMean", [a, "axes"], [inner]),
                helper.make_node("Add", [inner, b], [made]),
            ]
        elif kind == "Concat":
            nodes += [
                helper.make_node("Concat", [a, b], [inner], axis=1),
                helper.make_node("Split", [inner], [made, f"other{place}"], axis=1, num_outputs=2),
            ]
        elif kind == "square":
            nodes += [helper.make_node("Mul", [a, a], [inner]), helper.make_node("Atan", [inner], [made])]
        else:
            second = {"gain": ["gain"], "Relu": []}.get(kind, [b])
            nodes.append(helper.make_node({"gain": "Mul"}.get(kind, kind), [a, *second], [made]))
        tensors.append(made)
    outputs = draw(st.lists(st.sampled_from(tensors[1:]), min_size=1, max_size=2, unique=True))
    return small_graph(nodes, {"x": shape}, dict.fromkeys(outputs, shape), constants)


@settings(deadline=None, max_examples=60)
@given(graphs())
def test_any_network_in_fp16_is_valid_near_and_has_its_islands(source: onnx.ModelProto) -> None:
    if not supports(source, "fp16"):
        assert all(node.op_type != "Conv" for node in source.graph.node)
        return
    made = in_precision(source, "fp16", name="random")
    types = types_of(made)
    for node in made.graph.node:
        floats = [types[tensor] for tensor in (*node.input, *node.output) if types[tensor] in _FLOATS]
        assert node.op_type == "Cast" or len(set(floats)) == 1  # a strongly typed network takes no mixture
        if node.op_type in ISLANDS:
            assert set(floats) == {TensorProto.FLOAT}
        if node.op_type == "Conv":
            assert set(floats) == {TensorProto.FLOAT16}
    _check_casts(made)
    x = np.random.default_rng(0).normal(0, 1, (1, 4, 5, 5)).astype(np.float32)
    exact, near = run(source, {"x": x}), run(made, {"x": x})
    assert np.abs(near - exact).max() <= 0.05 * (1 + np.abs(exact).max())


def _quantised(model: onnx.ModelProto) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")], constants


@pytest.mark.parametrize("name", NETWORKS)
def test_int8_is_symmetric_per_channel_and_leaves_biases_alone(name: str, msd: Stages) -> None:
    made = in_precision(msd.models[name], "int8", name=name, calibration=msd.feeds[name])
    _check_int8(made, sum(node.op_type == "Conv" for node in msd.models[name].graph.node))


def test_int8_of_gemm_and_matmul_is_per_channel_too_and_a_distance_stays_float() -> None:
    calibration = [{"x": np.random.default_rng(0).normal(0, 1, (5, 4)).astype(np.float32)}]
    made = in_precision(_network_and_distance(), "int8", name="both", calibration=calibration)
    _check_int8(made, 1)
    source = small_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": (5, 4)},
        {"y": (5, 3)},
        {"w": np.random.default_rng(0).normal(0, 1, (4, 3)).astype(np.float32) * np.float32([1, 10, 100])},
    )
    made = in_precision(source, "int8", name="linear", calibration=calibration)
    _check_int8(made, 1)
    (scale,) = {node.input[1] for node in _quantised(made)[0] if _quantised(made)[1][node.input[1]].ndim == 1}
    assert _quantised(made)[1][scale].shape == (3,)


def _check_int8(made: onnx.ModelProto, products: int) -> None:
    nodes, constants = _quantised(made)
    makers = {node.output[0]: node for node in nodes if node.op_type == "DequantizeLinear"}
    for node in nodes:
        zero = constants[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
    quantised = 0
    for node in made.graph.node:
        if node.op_type not in WEIGHTED or not {*node.input[:2]} <= makers.keys():
            continue
        quantised += 1
        weights = makers[node.input[1]]
        (axis,) = [attribute.i for attribute in weights.attribute if attribute.name == "axis"]
        stored, scales = constants[weights.input[0]], constants[weights.input[1]]
        assert stored.dtype == np.int8
        assert scales.shape == (stored.shape[axis],)
        assert all(constants[bias].dtype == np.float32 for bias in node.input[2:])
    assert quantised == products


def test_int8_takes_no_more_of_a_clamped_product_than_the_clamp_lets_through() -> None:
    weights = np.full((1, 1, 1, 1), 100, np.float32)
    source = small_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("Clip", ["a", "low", "high"], ["y"]),
        ],
        {"x": (1, 1, 2, 2)},
        {"y": (1, 1, 2, 2)},
        {"w": weights, "low": np.float32(0), "high": np.float32(6)},
    )
    x = np.linspace(-1, 1, 4, dtype=np.float32).reshape(1, 1, 2, 2)
    nodes, constants = _quantised(in_precision(source, "int8", name="clamped", calibration=[{"x": x}]))
    (scale,) = {constants[n.input[1]].item() for n in nodes if n.input[0] == "a"}
    assert scale == pytest.approx(6 / 127)


CONV = helper.make_node("Conv", ["x", "w"], ["y"])
ONES = {"w": np.ones((2, 2, 1, 1), np.float32)}
SQUARE = (1, 2, 4, 4)


def _external() -> onnx.ModelProto:
    model = small_graph([CONV], {"x": SQUARE}, {"y": SQUARE}, ONES)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "weights.bin")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return model


def _with_inner_graph() -> onnx.ModelProto:
    inner = small_graph([helper.make_node("Relu", ["x"], ["z"])], {}, {"z": SQUARE}).graph
    choose = helper.make_node("If", ["which"], ["y"], then_branch=inner, else_branch=inner)
    return small_graph([choose], {"x": SQUARE}, {"y": SQUARE}, {"which": np.array(True)})


FOREIGN = {
    "another domain": (
        small_graph(
            [helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")],
            {"x": SQUARE},
            {"y": SQUARE},
            opsets=(("", 18), ("com.microsoft", 1)),
        ),
        "com.microsoft::Gelu",
    ),
    "graph in a node": (_with_inner_graph(), r"graphs within its nodes \['If'\]"),
    "weights elsewhere": (_external(), r"keeps \['w'\] in another file"),
    "fp16 already": (
        small_graph(
            [CONV],
            {"x": SQUARE},
            {"y": SQUARE},
            {"w": ONES["w"].astype(np.float16)},
            dtype=TensorProto.FLOAT16,
        ),
        "not float32 throughout",
    ),
    "float64": (
        small_graph(
            [CONV],
            {"x": SQUARE},
            {"y": SQUARE},
            {"w": ONES["w"].astype(np.float64)},
            dtype=TensorProto.DOUBLE,
        ),
        "not float32 throughout",
    ),
    "types that don't fit": (
        small_graph([CONV], {"x": SQUARE}, {"y": SQUARE}, {"w": ONES["w"].astype(np.float16)}),
        "not a valid ONNX graph",
    ),
    "a tensor that nobody gives": (
        small_graph([helper.make_node("Relu", ["nobody"], ["y"])], {"x": SQUARE}, {"y": SQUARE}),
        "not a valid ONNX graph",
    ),
}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("what", FOREIGN)
def test_a_graph_that_is_not_a_plain_float32_one_is_refused(what: str, precision: Precision) -> None:
    model, words = FOREIGN[what]
    with pytest.raises(ExportError, match=f"^odd: .*{words}"):
        in_precision(model, precision, name="odd", calibration=[{}])


def test_a_quantised_graph_is_not_quantised_again(msd: Stages) -> None:
    made = in_precision(msd.models["student"], "int8", name="student", calibration=msd.feeds["student"])
    with pytest.raises(ExportError, match=r"DequantizeLinear.*export it anew, in float32"):
        in_precision(made, "int8", name="student", calibration=msd.feeds["student"])


def test_constant_nodes_and_nameless_ones_do() -> None:
    """As a graph written by hand may have them."""
    value = numpy_helper.from_array(ONES["w"])
    nodes = [helper.make_node("Constant", [], ["w"], value=value), CONV]
    source = small_graph(nodes, {"x": SQUARE}, {"y": SQUARE})
    x = np.random.default_rng(0).random(SQUARE).astype(np.float32)
    for precision in ("fp16", "int8"):
        made = in_precision(source, precision, name="hand", calibration=[{"x": x}])
        assert run(made, {"x": x}) == pytest.approx(run(source, {"x": x}), abs=0.03)


def test_a_name_that_is_needed_for_fp16_is_told() -> None:
    source = small_graph([CONV], {"x": SQUARE}, {"y": SQUARE}, ONES)
    source.graph.node.append(helper.make_node("Relu", ["y"], ["x_fp16"]))
    with pytest.raises(ExportError, match=r"'x' and 'x_fp16'.*rename one"):
        in_precision(source, "fp16", name="small")


GOOD = np.zeros(SQUARE, np.float32)


@pytest.mark.parametrize(
    ("calibration", "words"),
    [
        ([], "none were given; give a few dozen"),
        ([{"x": GOOD}, {"z": GOOD}], r"part 1 has z float32\(1, 2, 4, 4\), the graph takes x float32"),
        ([{"x": GOOD[:, :1]}], r"part 0 has x float32\(1, 1, 4, 4\)"),
        ([{"x": GOOD.astype(np.float64)}], "part 0 has x float64"),
        ([{"x": GOOD}, {"x": GOOD + np.inf}], "'x' of calibration part 1 is not finite"),
    ],
)
def test_a_calibration_that_can_t_be_is_refused(calibration: Sequence[Feed], words: str) -> None:
    source = small_graph([CONV], {"x": SQUARE}, {"y": SQUARE}, ONES)
    with pytest.raises(ExportError, match=words):
        in_precision(source, "int8", name="small", calibration=calibration)
