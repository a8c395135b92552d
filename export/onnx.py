"""A stage of the model as a static ONNX graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from edge.errors import ExportError

__all__ = ["OPSET", "Graph", "export_graph", "without_traces"]

OPSET = 18
"""What torch's dynamo exporter writes without conversion; asked for 17, it writes 18 without a word."""


@dataclass(frozen=True, slots=True)
class Graph:
    """An exported file with the names, dtypes and shapes of what goes in and comes out."""

    path: Path
    inputs: Mapping[str, tuple[str, tuple[int, ...]]]
    outputs: Mapping[str, tuple[str, tuple[int, ...]]]


def export_graph(
    module: nn.Module, examples: Mapping[str, Tensor], outputs: Sequence[str], path: Path
) -> Graph:
    """Export a module with static shapes, all weights inside the file.

    `examples` maps each input's name, in the order of `forward`, to a tensor of its shape. Raises
    `ExportError` where the graph that was written is not what was asked for.
    """
    module.eval()
    with torch.no_grad(), warnings.catch_warnings(), _quiet("torch.onnx"):
        # Deprecations inside torch's exporter and its helpers; nothing that a caller could mend.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            # A copy of each: one tensor given for two inputs is traced as one of them, used twice.
            tuple(example.clone() for example in examples.values()),
            str(path),
            input_names=list(examples),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            optimize=True,
            verbose=False,
        )
    model = without_traces(onnx.load(path))
    path.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(model, full_check=True)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if versions.get("", 0) != OPSET:
        raise ExportError(f"{path.name}: opset {versions} was written, {OPSET} was asked for")
    graph = Graph(path, _nodes(model.graph.input), _nodes(model.graph.output))
    wanted = {name: tuple(tensor.shape) for name, tensor in examples.items()}
    written = {name: shape for name, (_, shape) in graph.inputs.items()}
    if written != wanted or list(graph.outputs) != list(outputs):
        raise ExportError(f"{path.name}: inputs {written} and outputs {list(graph.outputs)} were written")
    if any(size < 1 for _, shape in (*graph.inputs.values(), *graph.outputs.values()) for size in shape):
        raise ExportError(f"{path.name}: has a shape that is not static: {graph}")
    return graph


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without what the exporter noted of its own run: file names of this machine, stack traces.

    They would tell a stranger where the model was made, and make two exports of one model differ.
    """
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def _nodes(values: Sequence[onnx.ValueInfoProto]) -> dict[str, tuple[str, tuple[int, ...]]]:
    found = {}
    for value in values:
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        found[value.name] = (dtype, tuple(dim.dim_value for dim in tensor.shape.dim))
    return found


class _quiet:  # noqa: N801  # used like a function
    """Hold a logger at errors: the exporter logs each decomposition."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._level = self._logger.level

    def __enter__(self) -> None:
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)
