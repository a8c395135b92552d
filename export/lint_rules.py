"""The rules of the lint, each a function from a graph to what it finds.

Most were found by building small graphs with TensorRT-RTX on a machine without a GPU, the rest stand in
onnx-tensorrt's docs/operators.md (see `operators.yaml`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx

from export.graph_view import FLOATS, GraphView, attribute
from export.operators import OperatorTable

__all__ = ["RULES", "Found", "Rule"]

Severity = Literal["error", "warning"]

MOST_TOP_K = 3840
"""TensorRT parses a TopK of more and then can't build it."""

_ELEMENTWISE = frozenset(
    ("Add", "Concat", "Conv", "Div", "Gemm", "MatMul", "Max", "Mean", "Min", "Mod", "Mul", "PRelu", "Pow")
    + ("Sub", "Sum", "Where")
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule found, at a node or (None) in the file; `mend` says what to do about it."""

    severity: Severity
    node: onnx.NodeProto | None
    message: str
    mend: str


Rule = Callable[[GraphView, OperatorTable], Iterator[Found]]


def opset(view: GraphView, table: OperatorTable) -> Iterator[Found]:
    """The file is of a version that TensorRT and ONNX Runtime read."""
    least, most = table.opset
    for entry in view.model.opset_import:
        if entry.domain in ("", "ai.onnx") and not least <= entry.version <= most:
            yield Found(
                "error",
                None,
                f"is of opset {entry.version}, TensorRT 10.3 reads {least} to {most}",
                "export it with opset 18",
            )
    if view.model.ir_version > table.ir_version:
        yield Found(
            "error",
            None,
            f"is of IR version {view.model.ir_version}, ONNX Runtime 1.20 reads up to {table.ir_version}",
            f"set ir_version to {table.ir_version}; an older opset needs nothing newer",
        )


def self_contained(view: GraphView, _: OperatorTable) -> Iterator[Found]:
    """All that the graph is made of lies in the file, as plain tensors."""
    outside = [t.name for t in view.model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        yield Found(
            "error",
            None,
            f"keeps {len(outside)} weights outside the file ({outside[0]}, …)",
            "save it with all weights inside: onnx.save(…, save_as_external_data=False)",
        )
    if view.model.graph.sparse_initializer:
        yield Found("error", None, "has sparse weights, which TensorRT does not read", "make them dense")
    if view.model.functions:
        names = [function.name for function in view.model.functions]
        yield Found("error", None, f"has local functions {names}", "inline them: onnx.inliner")


def inferred(view: GraphView, _: OperatorTable) -> Iterator[Found]:
    """Types and shapes follow from the inputs."""
    if view.inference_error is not None:
        yield Found("error", None, f"does not fit together: {view.inference_error}", "export it anew")


def static_shapes(view: GraphView, _: OperatorTable) -> Iterator[Found]:
    """Every size is a number in the file: no batch axis to choose, no shape that depends on the data."""
    graph = view.model.graph
    for value in (*graph.input, *graph.output):
        shape = view.shapes.get(value.name)
        if shape is None or any(size is None or size < 1 for size in shape):
            yield Found(
                "error", None, f"{value.name!r} has shape {shape}, not static", "export with fixed shapes"
            )
    for node in graph.node:
        for name in node.output:
            shape = view.shapes.get(name)
            if name and name not in view.outputs and (shape is None or None in shape):
                yield Found(
                    "error",
                    node,
                    f"its output {name!r} has a shape that is not known before it runs",
                    "compute shapes from constants, and mask instead of selecting",
                )


def known_operators(view: GraphView, table: OperatorTable) -> Iterator[Found]:
    """TensorRT knows the operator."""
    for node in view.nodes:
        if node.domain not in ("", "ai.onnx"):
            yield Found(
                "error",
                node,
                f"is of the domain {node.domain!r}, which is nobody's but ONNX Runtime's or a plugin's",
                "write it in operators of ONNX itself",
            )
        elif node.op_type in table.refused:
            why, instead = table.refused[node.op_type]
            yield Found("error", node, why, instead)
        elif node.op_type not in table.operators:
            yield Found(
                "error",
                node,
                "is not among the operators that TensorRT 10.3 to 11 are known to read",
                "write it in others, or add it to operators.yaml with the TensorRT that reads it",
            )


def data_types(view: GraphView, table: OperatorTable) -> Iterator[Found]:
    """Inputs are of types that TensorRT has for the operator. Indices (int64) and conditions (bool) may be
    in other inputs than the first; scales are float."""
    for node in view.nodes:
        if node.op_type not in table.operators or node.domain not in ("", "ai.onnx"):
            continue
        allowed = table.types_of(node.op_type)
        for place, name in enumerate(node.input):
            found = view.types.get(name)
            index = place > 0 and found in ("int64", "bool")
            if found is None or found in allowed or index or (place > 0 and _quantises(node)):
                continue
            yield Found(
                "error",
                node,
                f"takes {name!r} as {found}; TensorRT reads {', '.join(allowed)}",
                "uint8 and int8 go through a Cast or a DequantizeLinear first"
                if found in ("uint8", "int8")
                else f"cast it to {allowed[0]}",
            )


def casts(view: GraphView, table: OperatorTable) -> Iterator[Found]:
    """A Cast gives a type that TensorRT computes with, uint8 only at the very end."""
    for node in view.nodes:
        if node.op_type != "Cast":
            continue
        made = view.types.get(node.output[0])
        if made is not None and made not in table.types_of("Cast"):
            yield Found("error", node, f"casts to {made}, which TensorRT has not", "cast to float32")
        elif made == "uint8" and node.output[0] not in view.outputs:
            yield Found(
                "error",
                node,
                "makes uint8 inside the graph; TensorRT has it at inputs and outputs only",
                "stay with float32",
            )


def double(view: GraphView, _: OperatorTable) -> Iterator[Found]:
    """Nothing is float64: TensorRT makes it float32 without a word."""
    doubles = sorted(name for name, dtype in view.types.items() if dtype == "float64")
    if doubles:
        yield Found(
            "error",
            None,
            f"has float64 tensors ({', '.join(doubles[:3])}{', …' if len(doubles) > 3 else ''}); TensorRT "
            "computes with them as float32 and says nothing",
            "make them float32 before the export, so that what is verified is what runs",
        )


def integers_at_the_border(view: GraphView, _: OperatorTable) -> Iterator[Found]:
    """An int64 input or output needs an int64 buffer: TensorRT 9 stopped casting them to int32."""
    graph = view.model.graph
    for value in (*graph.input, *graph.output):
        if view.types.get(value.name) == "int64":
            yield Found(
                "warning",
                None,
                f"{value.name!r} is int64, and so must its buffer be",
                "give int32, or say int64 in the manifest's tensors",
            )


def constant_inputs(view: GraphView, table: OperatorTable) -> Iterator[Found]:
    """Axes, scales and counts are constants."""
    for node in view.nodes:
        use = table.operators.get(node.op_type)
        for index in () if use is None or node.domain not in ("", "ai.onnx") else use.constant:
            name = view.given(node, index)
            if name is not None and name not in view.constants:
                yield Found(
                    "error",
                    node,
                    f"takes its input {index} ({name!r}) from another node",
                    "TensorRT must know it when it builds: make it an initializer",
                )


def finite_weights(view: GraphView, _: OperatorTable) -> Iterator[Found]:
    """No weight is NaN or infinite, as one that overflowed FP16 would be."""
    for name, values in view.constants.items():
        if values.dtype.kind == "f" and not bool(np.isfinite(values).all()):
            yield Found(
                "error",
                None,
                f"the weights {name!r} ({values.dtype}) are not all finite",
                "train again, or keep the stage in fp32",
            )


def top_k(view: GraphView, _: OperatorTable) -> Iterator[Found]:
    """K is at most 3840, and what comes out is sorted."""
    for node in view.nodes:
        if node.op_type != "TopK":
            continue
        count = view.constant(node, 1)
        if count is not None and int(count.reshape(-1)[0]) > MOST_TOP_K:
            yield Found(
                "error",
                node,
                f"takes the {int(count.reshape(-1)[0])} largest, TensorRT builds at most {MOST_TOP_K}",
                "take fewer, or the largest of several pieces first",
            )
        if attribute(node, "sorted", 1) != 1:
            yield Found("error", node, "is unsorted, which TensorRT does not read", "set sorted=1")


def scatter(view: GraphView, _: OperatorTable) -> Iterator[Found]:
    """ScatterND writes, and does not add up."""
    for node in view.nodes:
        how = attribute(node, "reduction", b"none")
        if node.op_type == "ScatterND" and how != b"none":
            yield Found(
                "error",
                node,
                f"reduces by {_text(how)}, TensorRT only writes",
                "add up by a MatMul with constant zeros and ones",
            )


def resize(view: GraphView, _: OperatorTable) -> Iterator[Found]:
    """Nearest or linear, without antialiasing."""
    for node in view.nodes:
        if node.op_type != "Resize":
            continue
        if attribute(node, "antialias", 0):
            yield Found(
                "error", node, "antialiases, which TensorRT does not", "pool before, or set antialias=0"
            )
        if attribute(node, "mode", b"nearest") == b"cubic":
            yield Found(
                "warning",
                node,
                "is cubic, which onnx-tensorrt's table does not list",
                "resize linearly, or check edge-build on the device that it is to run on",
            )
        policy = attribute(node, "keep_aspect_ratio_policy", b"stretch")
        where = attribute(node, "coordinate_transformation_mode", b"half_pixel")
        if policy != b"stretch" or where in (b"tf_crop_and_resize", b"half_pixel_symmetric"):
            yield Found(
                "error",
                node,
                f"resizes by {_text(where)}, {_text(policy)}, which TensorRT does not read",
                "set coordinate_transformation_mode to half_pixel and keep_aspect_ratio_policy to stretch",
            )


def pooling(view: GraphView, _: OperatorTable) -> Iterator[Found]:
    """Pooling gives no indices, is not dilated, and has two or three dimensions."""
    for node in view.nodes:
        if node.op_type not in ("MaxPool", "AveragePool", "LpPool"):
            continue
        if len(node.output) > 1 and node.output[1]:
            yield Found("error", node, "gives indices, which TensorRT does not", "use the maxima alone")
        dilations = attribute(node, "dilations", [])
        if isinstance(dilations, list) and any(step != 1 for step in dilations):
            yield Found("error", node, f"is dilated {dilations}", "pool without dilation")
        shape = view.shapes.get(node.input[0])
        if shape is not None and len(shape) not in (4, 5):
            yield Found("error", node, f"pools a tensor of shape {shape}", "pool over 2 or 3 dimensions")


def quantisation(view: GraphView, _: OperatorTable) -> Iterator[Found]:
    """Q/DQ are symmetric and int8."""
    for node in view.nodes:
        if not _quantises(node):
            continue
        name = view.given(node, 2)
        if name is None:  # ONNX's default is uint8 for a QuantizeLinear
            if node.op_type == "QuantizeLinear":
                yield Found(
                    "error", node, "has no zero point, so it gives uint8", "give it an int8 zero point of 0"
                )
            continue
        zero = view.constant(node, 2)
        if view.types.get(name) != "int8" or (zero is not None and bool(zero.astype(np.int64).any())):
            yield Found(
                "error",
                node,
                f"is asymmetric: its zero point {name!r} is {view.types.get(name)}"
                + ("" if zero is None else f", {zero.reshape(-1)[:3].tolist()}"),
                "quantise with ActivationSymmetric and WeightSymmetric, to QInt8",
            )


def mixed_precision(view: GraphView, _: OperatorTable) -> Iterator[Found]:
    """The floating inputs of one node are of one type: a strongly typed network casts nothing."""
    for node in view.nodes:
        kinds = {view.types.get(name) for name in node.input} & FLOATS
        if node.op_type in _ELEMENTWISE and len(kinds) > 1:
            yield Found(
                "error",
                node,
                f"mixes {' and '.join(sorted(str(kind) for kind in kinds))}",
                "cast one of them: TensorRT's strongly typed network does not",
            )


def _quantises(node: onnx.NodeProto) -> bool:
    return node.op_type in ("QuantizeLinear", "DequantizeLinear")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


RULES: dict[str, Rule] = {
    "opset": opset,
    "self-contained": self_contained,
    "inferred": inferred,
    "static-shapes": static_shapes,
    "operators": known_operators,
    "types": data_types,
    "casts": casts,
    "double": double,
    "int64": integers_at_the_border,
    "constants": constant_inputs,
    "finite": finite_weights,
    "top-k": top_k,
    "scatter": scatter,
    "resize": resize,
    "pooling": pooling,
    "q-dq": quantisation,
    "mixed": mixed_precision,
}
