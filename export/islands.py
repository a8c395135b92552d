"""Which nodes of a graph may run in FP16, by what they do and what hangs on them; names play no part.

FP16 has 11 bits and ends at 65504. It pays in convolutions and products with weights, and in what lies
between them. It costs where numbers are subtracted, squared, averaged, exponentiated or compared: a distance
of two close vectors loses its digits, exp(12) is infinite. So a node runs in FP16 if it is

- a *product* (Conv, ConvTranspose, Gemm, MatMul), unless what it gives is compared (arg-min, top-k, minimum
  of two): then it is a distance, as the memory bank's; or if it is
- a *follower* (activation, sum of two, maximum pooling, change of layout) that takes nothing but what FP16
  nodes give, and constants. A product of a tensor with itself is no follower: it is a square.

All else is an island in FP32: standardising, the flow's exp and atan and the path that they scale, norms,
means, distances, masks. So is every node with a constant that FP16 can't hold.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

__all__ = ["FP16_MAX", "PRODUCTS", "Constants", "constants_of", "distance_products", "fp16_nodes"]

Constants = Mapping[str, npt.NDArray[np.generic]]
"""A graph's initializers by name."""

FP16_MAX = 65504.0
"""The largest finite number of FP16 (IEEE 754 binary16)."""

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""What weights are for, and most of the arithmetic."""

_FOLLOWERS = frozenset(
    {
        "Add", "Clip", "Concat", "DepthToSpace", "Flatten", "HardSigmoid", "HardSwish", "LeakyRelu",
        "MaxPool", "Mul", "PRelu", "Pad", "Relu", "Reshape", "Sigmoid", "Slice", "SpaceToDepth", "Split",
        "Squeeze", "Tanh", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
_COMPARE = frozenset(
    {"ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min",
     "ReduceMin", "TopK"}
)  # fmt: skip


def fp16_nodes(model: onnx.ModelProto, constants: Constants) -> frozenset[int]:
    """The places (in `graph.node`, which is in order) of the nodes that may run in FP16."""
    distances = distance_products(model, constants)
    chosen: set[int] = set()
    given_by_fp16: set[str] = set()
    for place, node in enumerate(model.graph.node):
        if place in distances or not all(_fits(constants[name]) for name in node.input if name in constants):
            continue
        floats = [name for name in node.input if name and name not in constants]
        follows = node.op_type in _FOLLOWERS and bool(floats) and given_by_fp16.issuperset(floats)
        if node.op_type == "Mul" and len(set(floats)) != len(floats):
            follows = False
        if node.op_type in PRODUCTS or follows:
            chosen.add(place)
            given_by_fp16.update(node.output)
    return frozenset(chosen)


def distance_products(model: onnx.ModelProto, constants: Constants) -> frozenset[int]:
    """The places of the products whose result is compared before another product takes it."""
    nodes = model.graph.node
    compared: set[str] = set()
    found = set()
    for place in reversed(range(len(nodes))):
        node = nodes[place]
        # With a constant, Min and Max are a clamp.
        compares = node.op_type in _COMPARE and not (
            node.op_type in ("Max", "Min") and any(name in constants for name in node.input)
        )
        if compares or not compared.isdisjoint(node.output):
            if node.op_type in PRODUCTS:
                found.add(place)
            else:
                compared.update(node.input)
    return frozenset(found)


def _fits(constant: npt.NDArray[np.generic]) -> bool:
    """Whether FP16 holds it: not a float32 array, or none of it at or above the limit, and no NaN."""
    if constant.dtype != np.float32:
        return True
    return bool((np.abs(constant) < FP16_MAX).all())


def constants_of(model: onnx.ModelProto) -> Constants:
    """The initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
