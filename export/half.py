"""A graph in FP16 with FP32 islands: each tensor in the precision of those who make and take it.

The public converters were tried on the stages of the demo. onnxconverter-common 1.16 never ends where Cast is
among the operators to leave alone, and rounds the constants of islands (a clamp of ±1e6 became ±65504);
onnxruntime.transformers 1.31 goes from one island to the next through FP16, and the graphs that it writes are
invalid (nodes of one name, or out of order).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.errors import ExportError
from export.islands import Constants, constants_of, fp16_nodes

__all__ = ["to_fp16"]

_SUFFIX = "_fp16"


def to_fp16(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The graph with the nodes of `fp16_nodes` in FP16; its inputs and outputs stay what they are.

    A tensor that both sides need is there twice, `x` (FP32) and `x_fp16`, one made of the other by a single
    cast. Raises `ExportError` where no node may run in FP16.
    """
    constants = constants_of(model)
    chosen = fp16_nodes(model, constants)
    if not chosen:
        raise ExportError(
            f"{name}: no node of it may run in fp16, it is all distances or means; leave it fp32"
        )
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:], made.graph.initializer[:], made.graph.value_info[:]
    names = _Names(model, name)
    floats = _floats(model) - constants.keys()
    made.graph.node.extend(_nodes(model, chosen, floats, constants, names))
    made.graph.initializer.extend(_initializers(made, constants, names))
    return made


class _Names:
    """`x` → `x_fp16`; raises `ExportError` where the graph has a tensor of that name already."""

    def __init__(self, model: onnx.ModelProto, stage: str) -> None:
        graph = model.graph
        self._taken = {tensor for node in graph.node for tensor in (*node.input, *node.output)}
        self._taken.update(node.name for node in graph.node)
        self._stage = stage

    def half(self, tensor: str) -> str:
        found = f"{tensor}{_SUFFIX}"
        if found in self._taken:
            raise ExportError(
                f"{self._stage}: has tensors {tensor!r} and {found!r}, a name that FP16 needs; rename one"
            )
        return found


def _floats(model: onnx.ModelProto) -> frozenset[str]:
    """The float32 tensors that nodes give or that are given."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    return frozenset(
        value.name
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    )


def _nodes(
    model: onnx.ModelProto,
    chosen: frozenset[int],
    floats: frozenset[str],
    constants: Constants,
    names: _Names,
) -> Iterator[onnx.NodeProto]:
    """The nodes in order, each cast right behind what it casts."""
    graph = model.graph
    wanted_half, wanted_full = _wanted(model, chosen, floats)
    for value in graph.input:
        if value.name in wanted_half:
            yield _cast(value.name, names.half(value.name), TensorProto.FLOAT16)
    for place, node in enumerate(graph.node):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if place in chosen:
            for i, tensor in enumerate(node.input):
                if tensor in floats or (tensor in constants and constants[tensor].dtype == np.float32):
                    copy.input[i] = names.half(tensor)
            for i, tensor in enumerate(node.output):
                if tensor in floats:
                    copy.output[i] = names.half(tensor)
        yield copy
        for tensor in node.output:
            if place in chosen and tensor in wanted_full:
                yield _cast(names.half(tensor), tensor, TensorProto.FLOAT)
            elif place not in chosen and tensor in wanted_half:
                yield _cast(tensor, names.half(tensor), TensorProto.FLOAT16)


def _wanted(
    model: onnx.ModelProto, chosen: frozenset[int], floats: frozenset[str]
) -> tuple[frozenset[str], frozenset[str]]:
    """The float tensors that are taken in FP16, and those that are taken in FP32 or leave the graph."""
    half: set[str] = set()
    full = {value.name for value in model.graph.output}
    for place, node in enumerate(model.graph.node):
        (half if place in chosen else full).update(set(node.input) & floats)
    return frozenset(half), frozenset(full)


def _cast(tensor: str, result: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [tensor], [result], name=f"cast_{result}", to=to)


def _initializers(made: onnx.ModelProto, constants: Constants, names: _Names) -> Iterator[onnx.TensorProto]:
    """The constants that the nodes ask for, each in the precision asked for; in the order of the source."""
    asked = {tensor for node in made.graph.node for tensor in node.input}
    for tensor, array in constants.items():
        if tensor in asked:
            yield numpy_helper.from_array(np.asarray(array), tensor)
        if array.dtype == np.float32 and names.half(tensor) in asked:
            yield numpy_helper.from_array(array.astype(np.float16), names.half(tensor))
