"""Graphs of a few nodes, written by hand; and the figures of what is in a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from edge.runtime.onnx import session_options

__all__ = ["run", "small_graph", "types_of"]


def small_graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, Sequence[int] | None],
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    opsets: Sequence[tuple[str, int]] = (("", 18),),
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model of these nodes; inputs and outputs are float32, or `dtype`."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(*opset) for opset in opsets], ir_version=10
    )


def run(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> np.ndarray:
    """Its first output by ONNX Runtime."""
    session = ort.InferenceSession(
        model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, dict(feed))[0])


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX's type of every tensor."""
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}
