"""One stage's graph in another precision, spelled out in the graph: what a CPU verifies is what a GPU runs.

`fp16` puts products with weights and what lies between them into FP16 (`export.islands` has the rule), `int8`
puts Q/DQ pairs about products with weights (`export.quantised`). A stage's inputs and outputs keep their data
types, so that stages of different precision fit together.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from edge.bundle import Precision
from edge.errors import ExportError
from export.half import to_fp16
from export.islands import constants_of, fp16_nodes
from export.onnx import without_traces
from export.quantised import StageInputs, int8_nodes, to_int8

__all__ = ["StageInputs", "in_precision", "supports"]


def in_precision(
    model: onnx.ModelProto, precision: Precision, *, name: str, calibration: Sequence[StageInputs] = ()
) -> onnx.ModelProto:
    """A copy of a float32 graph that computes in `precision`; the same graph gives the same bytes.

    `name` is the stage's, for messages. `calibration` holds what the stage takes of good parts; int8 needs it
    (a few dozen) and takes its ranges from nothing else. Raises `ExportError` where nothing in the graph may
    run so (`supports` says it before), it is not float32 throughout, it asks for an operator that is not
    ONNX's own, or keeps its weights in another file.
    """
    source = _plain(model, name)
    if precision == "fp32":
        return source
    made = to_fp16(source, name) if precision == "fp16" else to_int8(source, name, calibration)
    return _finished(made, source, name)


def supports(model: onnx.ModelProto, precision: Precision) -> bool:
    """Whether some of a graph's nodes may run in that precision: a distance has none for fp16 or int8.

    Raises `ExportError` as `in_precision` does.
    """
    if precision == "fp32":
        return True
    source = _plain(model, model.graph.name)
    nodes = fp16_nodes if precision == "fp16" else int8_nodes
    return bool(nodes(source, constants_of(source)))


def _plain(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy without notes, its constants all initializers, its nodes all named; raises `ExportError`."""
    graph = model.graph
    foreign = sorted({f"{n.domain}::{n.op_type}" for n in graph.node if n.domain not in ("", "ai.onnx")})
    foreign += sorted(f"function {function.name}" for function in model.functions)
    if foreign:
        raise ExportError(f"{name}: asks for what is not ONNX's own: {foreign}; export it without")
    inner = sorted({n.op_type for n in graph.node for a in n.attribute if a.HasField("g") or a.graphs})
    if inner:
        raise ExportError(f"{name}: has graphs within its nodes {inner}; export it as one static graph")
    outside = sorted(t.name for t in graph.initializer if t.data_location == TensorProto.EXTERNAL)
    if outside:
        raise ExportError(f"{name}: keeps {outside} in another file; export it with its weights inside")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _lift_constants(without_traces(copy))
    _name_nodes(copy)
    inferred = _checked(copy, name)
    # float16: converted already; float64: TensorRT computes it in float32 without a word
    strange = sorted(
        value.name
        for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
        if value.type.tensor_type.elem_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
    )
    quantised = sorted({n.op_type for n in copy.graph.node if n.op_type in _QUANTISED})
    if strange or quantised:
        raise ExportError(
            f"{name}: is not float32 throughout (tensors {strange[:5]}, operators {quantised}); export it "
            "anew, in float32"
        )
    return copy


_QUANTISED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})


def _lift_constants(model: onnx.ModelProto) -> None:
    """Nodes that give a constant tensor → initializers."""
    graph = model.graph
    kept = []
    for node in graph.node:
        (value,) = [a.t for a in node.attribute if a.name == "value"] or (None,)
        if node.op_type == "Constant" and value is not None:
            tensor = graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
        else:
            kept.append(node)
    if len(kept) < len(graph.node):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(copies)


def _name_nodes(model: onnx.ModelProto) -> None:
    """Give a name to each node without one of its own: ONNX Runtime's quantiser tells nodes by them."""
    taken: set[str] = set()
    for place, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{place}_of_{len(model.graph.node)}"
        taken.add(node.name)


def _checked(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model with all types and shapes inferred; raises `ExportError` where they don't fit."""
    try:
        onnx.checker.check_model(model, full_check=True)
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{name}: is not a valid ONNX graph: {error}; export it anew") from error


def _finished(made: onnx.ModelProto, source: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """`made` with the marks of its source and none of the converters', every type in it checked."""
    without_traces(made)
    made.producer_name, made.producer_version = source.producer_name, source.producer_version
    made.ir_version = source.ir_version
    del made.graph.value_info[:]
    checked = _checked(made, name)
    for kind in ("input", "output"):
        before, after = ([_signature(value) for value in getattr(m.graph, kind)] for m in (source, checked))
        if before != after:
            raise ExportError(
                f"{name}: its {kind}s were {before}, and came out as {after}; report this graph"
            )
    opsets = [{entry.domain: entry.version for entry in m.opset_import} for m in (source, checked)]
    if opsets[0] != opsets[1]:
        raise ExportError(f"{name}: opset {opsets[0]} became {opsets[1]}; report this graph")
    return checked


def _signature(value: onnx.ValueInfoProto) -> tuple[str, str, tuple[int, ...]]:
    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return value.name, dtype, tuple(dim.dim_value for dim in tensor.shape.dim)
