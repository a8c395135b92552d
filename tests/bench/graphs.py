"""The stages of a bundle as sessions called barely, and merged into one graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import compose, helper

from edge.bundle import ANOMALY_MAP, Bundle, StageSpec
from edge.runtime.onnx import OnnxRunner, session_options
from edge.runtime.runner import Array

__all__ = ["bare_bound", "bare_chain", "bare_fused", "bare_stage", "fused_graph"]


def fused_graph(bundle: Bundle) -> onnx.ModelProto:
    """All stages as one graph: the frame's tensors in, the anomaly map out."""
    parts = [_named_by_tensors(bundle, stage) for stage in bundle.manifest.stages]
    graph = onnx.GraphProto(name="fused")
    inputs: dict[str, onnx.ValueInfoProto] = {}
    for part in parts:
        graph.node.extend(part.graph.node)
        graph.initializer.extend(part.graph.initializer)
        inputs |= {value.name: value for value in part.graph.input if value.name in bundle.wanted}
    graph.input.extend(inputs.values())
    graph.output.extend(value for value in parts[-1].graph.output if value.name == ANOMALY_MAP)
    model = helper.make_model(graph, opset_imports=parts[0].opset_import, ir_version=parts[0].ir_version)
    onnx.checker.check_model(model, full_check=True)
    return model


def _named_by_tensors(bundle: Bundle, stage: StageSpec) -> onnx.ModelProto:
    """A stage's graph: what the manifest wires has its tensor's name, all else has the stage's prefix."""
    loaded = onnx.load_from_string(bundle.read(stage.file))
    model = compose.add_prefix(loaded, f"{stage.name}/")
    wires = {f"{stage.name}/{node}": tensor for node, tensor in {**stage.inputs, **stage.outputs}.items()}
    for node in model.graph.node:
        node.input[:] = [wires.get(name, name) for name in node.input]
        node.output[:] = [wires.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = wires.get(value.name, value.name)
    return model


def bare_chain(runner: OnnxRunner, tensors: Mapping[str, Array]) -> Callable[[], object]:
    """The runner's own sessions one after the other, nothing about them; inputs lie in OrtValues already."""
    stages = [
        (runner._sessions[stage.file], list(stage.outputs), list(stage.outputs.values()), stage.inputs)
        for stage in runner.bundle.manifest.stages
    ]
    given = {name: ort.OrtValue.ortvalue_from_numpy(tensors[name]) for name in runner.bundle.wanted}

    def work() -> object:
        values = dict(given)
        for session, outputs, names, inputs in stages:
            made = session.run_with_ort_values(outputs, {node: values[name] for node, name in inputs.items()})
            values.update(zip(names, made, strict=True))
        return values[ANOMALY_MAP].numpy()

    return work


def bare_bound(runner: OnnxRunner, tensors: Mapping[str, Array]) -> Callable[[], object]:
    """The runner's sessions, each tensor between them allocated once and bound to where it is used."""
    manifest = runner.bundle.manifest
    values = {name: ort.OrtValue.ortvalue_from_numpy(tensors[name]) for name in runner.bundle.wanted}
    for name, spec in manifest.tensors.items():
        values[name] = ort.OrtValue.ortvalue_from_numpy(np.zeros(spec.shape, spec.dtype))
    bindings = []
    for stage in manifest.stages:
        binding = runner._sessions[stage.file].io_binding()
        for node, tensor in stage.inputs.items():
            binding.bind_ortvalue_input(node, values[tensor])
        for node, tensor in stage.outputs.items():
            binding.bind_ortvalue_output(node, values[tensor])
        bindings.append((runner._sessions[stage.file], binding))

    def work() -> object:
        for session, binding in bindings:
            session.run_with_iobinding(binding)
        return values[ANOMALY_MAP].numpy().copy()  # the next call writes into it

    return work


def bare_fused(bundle: Bundle, tensors: Mapping[str, Array]) -> Callable[[], object]:
    """One session of the fused graph, set up as the runner's are; inputs lie in OrtValues already."""
    session = ort.InferenceSession(
        fused_graph(bundle).SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
    )
    given = {name: ort.OrtValue.ortvalue_from_numpy(tensors[name]) for name in bundle.wanted}

    def work() -> object:
        (made,) = session.run_with_ort_values([ANOMALY_MAP], given)
        return made.numpy()

    return work


def bare_stage(runner: OnnxRunner, stage: StageSpec, values: Mapping[str, Array]) -> Callable[[], object]:
    """One stage alone, on what the stages before it made."""
    session: Any = runner._sessions[stage.file]
    given = {node: ort.OrtValue.ortvalue_from_numpy(values[name]) for node, name in stage.inputs.items()}
    outputs = list(stage.outputs)
    return lambda: session.run_with_ort_values(outputs, given)
