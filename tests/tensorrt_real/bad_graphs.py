"""Graphs that ONNX Runtime may well run and TensorRT must refuse: traps that an export could fall into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["BAD", "GOOD", "good_graph", "graph_of"]

_F, _H = TensorProto.FLOAT, TensorProto.FLOAT16
_PICTURE = (1, 3, 8, 8)


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    outputs: Mapping[str, tuple[int, Sequence[int | str]]],
    constants: Mapping[str, np.ndarray] | None = None,
) -> bytes:
    """The bytes of an ONNX file; nothing about it is checked."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def _one(operator: str, output: tuple[int, Sequence[int | str]]) -> bytes:
    node = helper.make_node(operator, ["x"], ["y"], name="culprit")
    return graph_of([node], {"x": (_F, _PICTURE)}, {"y": output})


def good_graph(channels: int = 3, depth: int = 1) -> bytes:
    """Convolutions in a row, of 3×3 and with a bias."""
    rng = np.random.default_rng(0)
    nodes, constants = [], {}
    for number in range(depth):
        constants[f"w{number}"] = rng.standard_normal((channels, channels, 3, 3)).astype(np.float32)
        names = [f"t{number}", f"w{number}"]
        nodes.append(helper.make_node("Conv", names, [f"c{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"t{number + 1}"]))
    shape = (1, channels, 8, 8)
    return graph_of(nodes, {"t0": (_F, shape)}, {f"t{depth}": (_F, shape)}, constants)


def _quantised(zero_point: int) -> bytes:
    constants = {"scale": np.float32(0.1), "zero": np.int8(zero_point)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="culprit"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    return graph_of(nodes, {"x": (_F, _PICTURE)}, {"y": (_F, _PICTURE)}, arrays)


def _mixed() -> bytes:
    node = helper.make_node("Add", ["a", "b"], ["y"], name="culprit")
    return graph_of([node], {"a": (_F, (1, 4)), "b": (_H, (1, 4))}, {"y": (_F, (1, 4))})


def _wrong_channels() -> bytes:
    weights = np.ones((4, 5, 3, 3), np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="culprit")
    return graph_of([node], {"x": (_F, _PICTURE)}, {"y": (_F, (1, 4, 6, 6))}, {"w": weights})


def _top_k(k: int) -> bytes:
    node = helper.make_node("TopK", ["x", "k"], ["y", "where"], name="culprit", axis=1)
    outputs = {"y": (_F, (1, k)), "where": (TensorProto.INT64, (1, k))}
    return graph_of([node], {"x": (_F, (1, 5000))}, outputs, {"k": np.array([k], np.int64)})


def _scatter() -> bytes:
    node = helper.make_node("ScatterND", ["x", "at", "u"], ["y"], name="culprit", reduction="add")
    inputs = {"x": (_F, (8,)), "u": (_F, (2,))}
    return graph_of([node], inputs, {"y": (_F, (8,))}, {"at": np.array([[1], [3]], np.int64)})


def _antialias() -> bytes:
    node = helper.make_node("Resize", ["x", "", "", "to"], ["y"], name="culprit", mode="linear", antialias=1)
    to = {"to": np.array([1, 3, 4, 4], np.int64)}
    return graph_of([node], {"x": (_F, _PICTURE)}, {"y": (_F, (1, 3, 4, 4))}, to)


def _bytes_turned() -> bytes:
    node = helper.make_node("Transpose", ["x"], ["t"], name="culprit", perm=[0, 3, 1, 2])
    cast = helper.make_node("Cast", ["t"], ["y"], to=_F)
    return graph_of([node, cast], {"x": (TensorProto.UINT8, (1, 8, 8, 3))}, {"y": (_F, _PICTURE)})


BAD: Mapping[str, bytes] = {
    "asymmetric quantisation": _quantised(7),
    "FP16 added to FP32": _mixed(),
    "wrong channels": _wrong_channels(),
    "TopK beyond 3840": _top_k(3841),
    "ScatterND that adds": _scatter(),
    "Resize with antialias": _antialias(),
    "bytes transposed": _bytes_turned(),
    "Det": _one("Det", (_F, (1, 3))),
    "an operator of nobody": _one("Frobnicate", (_F, _PICTURE)),
}

GOOD: Mapping[str, bytes] = {
    "symmetric quantisation": _quantised(0),
    "TopK of 3840": _top_k(3840),
    "convolutions": good_graph(depth=2),
}
"""The same as some of the bad ones without what is bad about them: it is that which is refused."""
