"""Each rule finds what it is for, and lets pass what TensorRT builds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge.bundle import load_bundle
from edge.errors import LintFailed
from export.lint import Finding, lint_bundle, lint_file, lint_model, refuse_errors
from export.lint_rules import MOST_TOP_K, RULES
from export.operators import operator_table


def model(body: str, *, inputs: str = "float[1,4,8,8] x", outputs: str = "float[1,4,8,8] y", opset: int = 18,
          constants: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:  # fmt: skip
    """A model in ONNX's text syntax; `constants` become initializers."""
    text = f'<ir_version: 10, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    made = onnx.parser.parse_model(text)
    made.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in (constants or {}).items())
    return made


def rules(made: onnx.ModelProto) -> set[str]:
    return {finding.rule for finding in lint_model(made, "stage.onnx")}


K = {"k": np.array([3], np.int64)}
AXIS = {"axis": np.array([1], np.int64)}
Q8 = {"s": np.float32(0.1), "z": np.int8(0)}
NONE = np.array([], np.float32)
SCALES = {"none": NONE, "scales": np.array([1, 1, 2, 2], np.float32)}
TWICE = "float[1,4,16,16] y"
INDICES = {"i": np.zeros((1, 4, 8, 8, 1), np.int64)}

CASES: dict[str, tuple[str, onnx.ModelProto, onnx.ModelProto]] = {
    # rule, a graph that breaks it, and one as near to it as can be that does not
    "old opset": ("opset", model("y = Relu(x)", opset=8), model("y = Relu(x)", opset=9)),
    "new opset": ("opset", model("y = Relu(x)", opset=21), model("y = Relu(x)", opset=20)),
    "does not fit": (
        "inferred",
        model("y = Add(x, b)", constants={"b": np.ones(3, np.float32)}),
        model("y = Add(x, b)", constants={"b": np.ones(8, np.float32)}),
    ),
    "batch axis": (
        "static-shapes",
        model("y = Relu(x)", inputs="float[N,4,8,8] x", outputs="float[N,4,8,8] y"),
        model("y = Relu(x)"),
    ),
    "shape of the data": (
        "static-shapes",
        model("n = NonZero(x) y = Cast <to = 1> (n)", outputs="float[4,M] y"),
        model("h = Cast <to = 10> (x) y = Cast <to = 1> (h)"),
    ),
    "loop": ("operators", model("y = Det(x)", outputs="float[1,4] y"), model("y = Relu(x)")),
    "unknown": ("operators", model("y = Mish(x)"), model("y = Softplus(x)")),
    "random": (
        "operators",
        model("n = RandomNormalLike(x) y = Add(x, n)"),
        model("n = Identity(x) y = Add(x, n)"),
    ),
    "attention": (
        "operators",
        model("y = Attention(x, x, x)"),
        model("a = MatMul(x, x) s = Softmax(a) y = MatMul(s, x)"),
    ),
    "bytes": (
        "types",
        model(
            "t = Transpose <perm = [0, 3, 1, 2]> (x) y = Cast <to = 1> (t)",
            inputs="uint8[1,8,8,4] x",
        ),
        model(
            "t = Cast <to = 1> (x) y = Transpose <perm = [0, 3, 1, 2]> (t)",
            inputs="uint8[1,8,8,4] x",
        ),
    ),
    "bytes inside": (
        "casts",
        model("b = Cast <to = 2> (x) y = Cast <to = 1> (b)"),
        model("y = Cast <to = 2> (x)", outputs="uint8[1,4,8,8] y"),
    ),
    "double": (
        "double",
        model("d = Cast <to = 11> (x) e = Exp(d) y = Cast <to = 1> (e)"),
        model("d = Cast <to = 10> (x) e = Exp(d) y = Cast <to = 1> (e)"),
    ),
    "int64": (
        "int64",
        model("y = Cast <to = 7> (x)", outputs="int64[1,4,8,8] y"),
        model("y = Cast <to = 6> (x)", outputs="int32[1,4,8,8] y"),
    ),
    "axes from a node": (
        "constants",
        model("a = Identity(axis) y = ReduceMean(x, a)", outputs="float[1,1,8,8] y", constants=AXIS),
        model("y = ReduceMean(x, axis)", outputs="float[1,1,8,8] y", constants=AXIS),
    ),
    "overflowed weights": (
        "finite",
        model("y = Mul(x, w)", constants={"w": np.array([np.inf], np.float32)}),
        model("y = Mul(x, w)", constants={"w": np.array([65504], np.float32)}),
    ),
    "large k": (
        "top-k",
        model(
            "y, i = TopK(x, k)",
            inputs=f"float[1,{MOST_TOP_K + 9}] x",
            outputs=f"float[1,{MOST_TOP_K + 1}] y",
            constants={"k": np.array([MOST_TOP_K + 1], np.int64)},
        ),
        model(
            "y, i = TopK(x, k)",
            inputs=f"float[1,{MOST_TOP_K + 9}] x",
            outputs=f"float[1,{MOST_TOP_K}] y",
            constants={"k": np.array([MOST_TOP_K], np.int64)},
        ),
    ),
    "unsorted": (
        "top-k",
        model("y, i = TopK <sorted = 0> (x, k)", outputs="float[1,4,8,3] y", constants=K),
        model("y, i = TopK(x, k)", outputs="float[1,4,8,3] y", constants=K),
    ),
    "scatter that adds": (
        "scatter",
        model('y = ScatterND <reduction = "add"> (x, i, x)', constants={"i": np.zeros((1, 1), np.int64)}),
        model("y = ScatterND(x, i, x)", constants={"i": np.zeros((1, 1), np.int64)}),
    ),
    "cubic": (
        "resize",
        model('y = Resize <mode = "cubic"> (x, none, scales)', outputs=TWICE, constants=SCALES),
        model('y = Resize <mode = "linear"> (x, none, scales)', outputs=TWICE, constants=SCALES),
    ),
    "antialiased": (
        "resize",
        model(
            'y = Resize <mode = "linear", antialias = 1> (x, none, scales)', outputs=TWICE, constants=SCALES
        ),
        model('y = Resize <mode = "linear"> (x, none, scales)', outputs=TWICE, constants=SCALES),
    ),
    "cropped": (
        "resize",
        model(
            'y = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel_symmetric"> '
            "(x, none, scales)",
            outputs=TWICE,
            opset=19,
            constants=SCALES,
        ),
        model(
            'y = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> '
            "(x, none, scales)",
            outputs=TWICE,
            constants=SCALES,
        ),
    ),
    "indices of a pool": (
        "pooling",
        model("y, i = MaxPool <kernel_shape = [2, 2]> (x)", outputs="float[1,4,7,7] y, int64[1,4,7,7] i"),
        model("y = MaxPool <kernel_shape = [2, 2]> (x)", outputs="float[1,4,7,7] y"),
    ),
    "dilated pool": (
        "pooling",
        model(
            "y = MaxPool <kernel_shape = [2, 2], dilations = [2, 2]> (x)",
            outputs="float[1,4,6,6] y",
        ),
        model(
            "y = MaxPool <kernel_shape = [2, 2], dilations = [1, 1]> (x)",
            outputs="float[1,4,7,7] y",
        ),
    ),
    "pool of a line": (
        "pooling",
        model("y = MaxPool <kernel_shape = [2]> (x)", inputs="float[1,4,8] x", outputs="float[1,4,7] y"),
        model("y = MaxPool <kernel_shape = [2, 2]> (x)", outputs="float[1,4,7,7] y"),
    ),
    "asymmetric": (
        "q-dq",
        model("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", constants={**Q8, "z": np.int8(3)}),
        model("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", constants=Q8),
    ),
    "unsigned": (
        "q-dq",
        model(
            "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", constants={**Q8, "z": np.uint8(0)}
        ),
        model("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", constants=Q8),
    ),
    "no zero point": (
        "q-dq",
        model("q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)", constants={"s": Q8["s"]}),
        model("q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s)", constants=Q8),
    ),
    "int8 beyond q-dq": (
        "types",
        model(
            "q = QuantizeLinear(x, s, z) r = Relu(q) y = DequantizeLinear(r, s, z)",
            constants=Q8,
        ),
        model("q = QuantizeLinear(x, s, z) r = DequantizeLinear(q, s, z) y = Relu(r)", constants=Q8),
    ),
    "mixed": (
        "mixed",
        model("y = Pow(x, two)", constants={"two": np.float16(2)}),
        model("y = Pow(x, two)", constants={"two": np.float32(2)}),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_rule_finds_what_breaks_it_and_lets_its_twin_pass(case: str) -> None:
    rule, bad, good = CASES[case]
    assert rule in rules(bad)
    assert rules(good) == set()


def test_each_rule_has_a_case() -> None:
    elsewhere = {"self-contained"}  # below: needs files
    assert {rule for rule, _, _ in CASES.values()} == set(RULES) - elsewhere


def test_weights_belong_into_the_file(tmp_path: Path) -> None:
    made = model("y = Mul(x, w)", constants={"w": np.ones((1, 4, 8, 8), np.float32)})
    onnx.save(made, tmp_path / "inside.onnx")
    onnx.save(made, tmp_path / "outside.onnx", save_as_external_data=True, size_threshold=0)
    assert lint_file(tmp_path / "inside.onnx") == ()
    (found,) = lint_file(tmp_path / "outside.onnx")
    assert (found.rule, found.severity, found.file) == ("self-contained", "error", "outside.onnx")
    (tmp_path / "outside.onnx.data").unlink(missing_ok=True)
    assert "self-contained" in {f.rule for f in lint_file(tmp_path / "outside.onnx")}  # none of it is read


def test_functions_and_sparse_weights_are_refused() -> None:
    made = model("y = Relu(x)")
    made.functions.append(
        helper.make_function("here", "f", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [])
    )
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    places = helper.make_tensor("w_i", TensorProto.INT64, [1], [0])
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4]))
    messages = " ".join(str(finding) for finding in lint_model(made, "f.onnx"))
    assert "sparse" in messages
    assert "local functions" in messages


def test_a_newer_file_format_than_the_device_reads_is_refused() -> None:
    made = model("y = Relu(x)")
    made.ir_version = operator_table().ir_version + 1
    assert rules(made) == {"opset"}


def test_operators_of_others_are_refused() -> None:
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node("FusedConv", ["x"], ["y"], domain="com.microsoft", name="fused")],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        ),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)],
        ir_version=10,
    )
    (found,) = lint_model(made, "f.onnx")
    assert (found.rule, found.node) == ("operators", "FusedConv 'fused'")
    assert "com.microsoft" in found.message


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 2 * MOST_TOP_K))
def test_k_is_bounded_exactly(count: int) -> None:
    made = model(
        "y, i = TopK(x, k)",
        inputs=f"float[1,{2 * MOST_TOP_K}] x",
        outputs=f"float[1,{count}] y",
        constants={"k": np.array([count], np.int64)},
    )
    assert ("top-k" in rules(made)) == (count > MOST_TOP_K)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["float16", "float", "double"]),
    st.lists(
        st.sampled_from(["Relu", "Exp", "Det", "Atan", "Sqrt", "Erf", "Sigmoid"]), min_size=1, max_size=6
    ),
)
def test_a_chain_is_refused_exactly_where_a_link_is(kind: str, chain: Sequence[str]) -> None:
    """Whatever stands around it: a refused operator is found once for each time that it is there."""
    nodes, last = [], "x"
    for number, operator in enumerate(chain):
        nodes.append(f"t{number} = {operator}({last})")
        last = f"t{number}"
    made = model(
        " ".join(nodes) + f" y = Identity({last})", inputs=f"{kind}[1,4,8,8] x", outputs=f"{kind}[1,4,8,8] y"
    )
    found = lint_model(made, "f.onnx")
    refused = [finding.node for finding in found if finding.rule == "operators"]
    assert len(refused) == chain.count("Det")
    assert ("double" in {finding.rule for finding in found}) == (kind == "double")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(1, 9), st.just("N")), min_size=1, max_size=5))
def test_shapes_are_static_or_refused(sizes: Sequence[int | str]) -> None:
    shape = ",".join(map(str, sizes))
    made = model("y = Relu(x)", inputs=f"float[{shape}] x", outputs=f"float[{shape}] y")
    assert ("static-shapes" in rules(made)) == ("N" in sizes)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    for name, data in (("text.onnx", b"hello, world"), ("empty.onnx", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(LintFailed, match="not an ONNX file"):
            lint_file(tmp_path / name)
    with pytest.raises(LintFailed, match="can't be read"):
        lint_file(tmp_path / "gone.onnx")


def test_errors_are_refused_with_the_way_out_and_warnings_are_not() -> None:
    warning, error = (
        Finding(
            severity=severity, file="a.onnx", node="Det #0", rule="r", message="is bad", mend="write it out"
        )
        for severity in ("warning", "error")
    )
    refuse_errors([warning])
    with pytest.raises(LintFailed, match=r"a\.onnx, Det #0: is bad; write it out \[r\]"):
        refuse_errors([warning, error])


def test_a_bundle_that_we_make_passes(bundle_folder: Path) -> None:
    assert lint_bundle(load_bundle(bundle_folder)) == ()
