"""An ONNX graph as the rules of the lint look at it: types, shapes, constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper, shape_inference

__all__ = ["FLOATS", "GraphView", "attribute", "view_of"]

FLOATS = frozenset({"float16", "float32", "float64", "bfloat16"})

_Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True, eq=False)
class GraphView:
    """`types` (NumPy's names) and `shapes` (None where a size is not known) of each tensor by name, as far as
    they can be inferred; `constants` by name; `outputs`: the graph's.

    `inference_error` is what went wrong when types and shapes were inferred.
    """

    model: onnx.ModelProto
    types: Mapping[str, str]
    shapes: Mapping[str, tuple[int | None, ...]]
    constants: Mapping[str, _Array]
    outputs: frozenset[str]
    inference_error: str | None

    @property
    def nodes(self) -> tuple[onnx.NodeProto, ...]:
        return tuple(self.model.graph.node)

    def given(self, node: onnx.NodeProto, index: int) -> str | None:
        """The name of a node's input, None where it is left out."""
        return node.input[index] if index < len(node.input) and node.input[index] else None

    def constant(self, node: onnx.NodeProto, index: int) -> _Array | None:
        """The value of a node's input, None where it is left out or not constant."""
        name = self.given(node, index)
        return None if name is None else self.constants.get(name)


def view_of(model: onnx.ModelProto) -> GraphView:
    """Look at a model, whatever is wrong with it; external data is not read."""
    error = None
    try:
        graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except shape_inference.InferenceError as problem:
        error = str(problem)
        graph = shape_inference.infer_shapes(model, data_prop=True).graph  # as far as it goes
    types: dict[str, str] = {}
    shapes: dict[str, tuple[int | None, ...]] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type:
            types[value.name] = _name(tensor.elem_type)
        if tensor.HasField("shape"):
            shapes[value.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim
            )
    constants: dict[str, _Array] = {}
    for tensor in graph.initializer:
        types[tensor.name] = _name(tensor.data_type)
        shapes[tensor.name] = tuple(tensor.dims)
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            constants[tensor.name] = numpy_helper.to_array(tensor)
    for node in graph.node:
        if node.op_type == "Constant" and isinstance(value := attribute(node, "value"), onnx.TensorProto):
            constants[node.output[0]] = numpy_helper.to_array(value)
    return GraphView(
        model=model,
        types=types,
        shapes=shapes,
        constants=constants,
        outputs=frozenset(value.name for value in graph.output),
        inference_error=error,
    )


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """A node's attribute: int, float, bytes, a list of these, a tensor or a graph."""
    for found in node.attribute:
        if found.name == name:
            value: object = helper.get_attribute_value(found)
            return value
    return default


def _name(elem_type: int) -> str:
    """NumPy's name of a data type where it has one, else ONNX's in lower case: bfloat16, float8e4m3fn."""
    name = str(onnx.TensorProto.DataType.Name(elem_type)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)
