"""What stages take of good parts: an int8 graph finds its ranges in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from export.precision import StageInputs
from train.golden import GoldenSample
from train.model import AnomalyModel, torch_tensors
from train.stages import Stage

__all__ = ["stage_inputs"]


def stage_inputs(
    model: AnomalyModel, stages: Sequence[Stage], golden: Sequence[GoldenSample]
) -> dict[str, list[StageInputs]]:
    """By file, the inputs (by the graph's names) that its stages get by torch, of each good golden sample."""
    found: dict[str, list[StageInputs]] = {}
    for sample in golden:
        if sample.defective:
            continue
        with torch.no_grad():
            made = model.run_all(torch_tensors(sample.tensors))
        values = {**sample.tensors, **{name: value.numpy() for name, value in made.items()}}
        for stage in stages:
            inputs = {node: values[tensor] for node, tensor in stage.spec.inputs.items()}
            found.setdefault(stage.spec.file, []).append(inputs)
    return found
