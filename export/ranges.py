"""Whether FP16 can hold what an FP16 graph computes: every FP16 tensor, on golden and on adversarial inputs.

ONNX Runtime on a CPU is no judge of that: it computes FP16 nodes in float32 in places, `Log(Exp(12))` is 12
there and infinite on a GPU. So each tensor is computed in float32 by the graph's *twin*, in which every FP16
is float32, and held against the limit: milliseconds, so on all inputs. Where a product adds up, so is the sum
of the absolute values: nobody knows in which order a GPU adds, and some of its kernels do so in FP16. The
reference evaluator of ONNX rounds each tensor to FP16, and takes seconds (7.6 s for a backbone at 384 px): it
runs one input of each stage, the one by which the stage came closest to the limit. What it gives also shows
what ONNX Runtime on x86 hides, which rounds the weights and no tensor between FP16 nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from edge.bundle import StageSpec
from edge.errors import ExportError
from edge.runtime.onnx import session_options
from export.islands import FP16_MAX, PRODUCTS

__all__ = ["Peak", "check_fp16_ranges"]

_Array = npt.NDArray[np.generic]
_Arrays = Mapping[str, _Array]


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest absolute value of a stage's FP16 tensors: which tensor, on which input.

    `rounding` is the largest difference that rounding the tensors between its nodes makes to the stage's
    outputs on that input, in standard deviations of the output.
    """

    stage: str
    tensor: str
    input: str
    value: float
    rounding: float


def check_fp16_ranges(
    stages: Sequence[StageSpec], models: Mapping[str, onnx.ModelProto], inputs: Mapping[str, _Arrays]
) -> tuple[Peak, ...]:
    """The peak of each stage that has FP16 tensors, over all inputs through the chain of stages.

    `models` are the graphs by file, as they ship; `inputs` the tensors of frames, each under a name that
    tells a person which it is. Raises `ExportError`, which names stage, tensor, value and input, where a
    value of an FP16 tensor is 65504 or more, or not finite.
    """
    probes = {file: _Probe(models[file], file) for file in {stage.file for stage in stages}}
    for stage in stages:
        _peak(probes[stage.file].weights, stage.name, "any input: it is a weight")
    highest: dict[str, tuple[Peak, _Arrays]] = {}
    for label, tensors in inputs.items():
        values: dict[str, _Array] = dict(tensors)
        for stage in stages:
            feed = {node: values[tensor] for node, tensor in stage.inputs.items()}
            outputs, halves = probes[stage.file].run(feed)
            peak = _peak(halves, stage.name, label)
            if peak is not None and (stage.name not in highest or highest[stage.name][0].value < peak.value):
                highest[stage.name] = (peak, feed)
            values.update({tensor: outputs[node] for node, tensor in stage.outputs.items()})
    found = []
    for stage in stages:
        if stage.name in highest:
            peak, its_feed = highest[stage.name]
            found.append(_rounded(peak, models[stage.file], its_feed, probes[stage.file].run(its_feed)[0]))
    return tuple(found)


def _rounded(peak: Peak, model: onnx.ModelProto, feed: _Arrays, expected: _Arrays) -> Peak:
    """The peak, or the higher one that the reference evaluator finds, and how far from `expected` it ends."""
    with np.errstate(all="ignore"):  # what overflows is what we look for
        made = cast(_Arrays, ReferenceEvaluator(model).run(None, dict(feed), intermediate=True))
    rounded = _peak({name: made[name] for name in _fp16_tensors(model)}, peak.stage, peak.input)
    errors = []
    for name, array in expected.items():
        exact = np.asarray(array, np.float64)
        difference = float(np.abs(np.asarray(made[name], np.float64) - exact).max())
        errors.append(difference / max(float(exact.std()), 1e-12))
    highest = peak if rounded is None else max(peak, rounded, key=lambda one: one.value)
    return replace(highest, rounding=max(errors))


class _Probe:
    """Runs the twin of a graph, and gives its outputs as well as what is FP16 in the graph."""

    def __init__(self, model: onnx.ModelProto, file: str) -> None:
        self._outputs = [value.name for value in model.graph.output]
        self._halves = list(_fp16_tensors(model))
        self.weights = {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in model.graph.initializer
            if tensor.data_type == TensorProto.FLOAT16
        }
        try:
            twin = _twin_of(model)
            self._halves += _add_sums(twin, frozenset(self._halves))
            known = {value.name for value in twin.graph.output}
            twin.graph.output.extend(
                helper.make_empty_tensor_value_info(name) for name in self._halves if name not in known
            )
            self._session = ort.InferenceSession(
                twin.SerializeToString(),
                session_options(),
                providers=["CPUExecutionProvider"],
                enable_fallback=0,
            )
        except (ort_errors.Fail, ort_errors.InvalidGraph, ort_errors.NotImplemented) as error:
            raise ExportError(
                f"{file}: ONNX Runtime can't run it in float32 to see its ranges ({error}); export it anew"
            ) from error

    def run(self, feed: _Arrays) -> tuple[_Arrays, _Arrays]:
        """The graph's outputs, and all FP16 tensors in float32."""
        names = list(dict.fromkeys([*self._outputs, *self._halves]))
        found = dict(zip(names, self._session.run(names, dict(feed)), strict=True))
        return {name: found[name] for name in self._outputs}, {name: found[name] for name in self._halves}


def _fp16_tensors(model: onnx.ModelProto) -> tuple[str, ...]:
    """The names of the FP16 tensors that nodes give, in the order in which they are made."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    halves = {
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    return tuple(name for node in model.graph.node for name in node.output if name in halves)


def _twin_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with float32 for every FP16."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    del twin.graph.value_info[:]
    for tensor in twin.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            whole = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(whole, tensor.name))
    for node in twin.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    return twin


def _add_sums(twin: onnx.ModelProto, halves: frozenset[str]) -> list[str]:
    """Beside each product whose result is FP16 the same of absolute values; the names of what these give.

    No sum of some of a product's terms, in whatever order, is larger than that.
    """
    graph, added = twin.graph, list[onnx.NodeProto]()
    sizes: dict[str, str] = {}
    names = []
    for node in graph.node:
        if node.op_type not in PRODUCTS or node.output[0] not in halves:
            continue
        for tensor in node.input:
            if tensor and tensor not in sizes:
                sizes[tensor] = f"size of {tensor}"
                added.append(helper.make_node("Abs", [tensor], [sizes[tensor]]))
        summed = onnx.NodeProto()
        summed.CopyFrom(node)
        summed.name = f"sums of {node.output[0]}"
        summed.output[0] = f"{node.output[0]}, sum of absolute values"
        summed.input[:] = [sizes.get(tensor, tensor) for tensor in node.input]
        added.append(summed)
        names.append(summed.output[0])
    graph.node.extend(added)
    return names


def _peak(tensors: _Arrays, stage: str, label: str) -> Peak | None:
    """The largest of the tensors' absolute values; raises `ExportError` at the first that FP16 can't hold."""
    found = None
    for name, array in tensors.items():
        size = np.abs(np.asarray(array, np.float64))
        value = float(size.max(initial=0.0)) if bool(np.isfinite(size).all()) else float("nan")
        if not value < FP16_MAX:
            finite = size[np.isfinite(size)]
            strange = size.size - finite.size
            said = f"{strange} values that are not finite" if strange else f"{float(finite.max()):g}"
            raise ExportError(
                f"stage {stage!r}: FP16 tensor {name!r} reaches {said} on {label}, and FP16 ends at "
                f"{FP16_MAX:g}; leave the stage fp32 (--precision {stage}=fp32), or clamp what it gets"
            )
        if found is None or value > found.value:
            found = Peak(stage, name, label, value, rounding=0.0)
    return found
