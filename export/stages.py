"""The distillation as a list of stages: which graph takes which tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge.bundle import ANOMALY_MAP, StageSpec
from edge.preprocessing import tensor_shapes
from train.model import Assemble, DistillationModel

__all__ = ["Stage", "stages_of"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A module, what it is wired to, and an example of each of its inputs."""

    spec: StageSpec
    module: nn.Module
    examples: Mapping[str, Tensor]


class _OnAssembled(nn.Module):
    """Teacher or student behind the joining and standardising of its inputs."""

    def __init__(self, assemble: Assemble, network: nn.Module) -> None:
        super().__init__()
        self.assemble = assemble
        self.network = network

    def forward(self, *parts: Tensor) -> Tensor:
        y: Tensor = self.network(self.assemble(*parts))
        return y


def stages_of(model: DistillationModel) -> tuple[Stage, ...]:
    """Backbone (once for each picture, one file), teacher, student, distance."""
    shapes = tensor_shapes(model.preprocessing)
    cells = model.preprocessing.map_cells
    pictures = [name for name in model.config.inputs if name != "z"]
    features = torch.zeros(1, model.backbone.channels, cells, cells)
    wires = {name: ("z" if name == "z" else f"features_{name}") for name in model.config.inputs}
    parts = {
        tensor: torch.zeros(shapes["z"][1]) if name == "z" else features for name, tensor in wires.items()
    }
    latent = torch.zeros(1, model.assemble.mean.numel(), cells, cells)
    mask = torch.ones(shapes["mask"][1])

    stages = [
        Stage(
            StageSpec(
                name="backbone" if name == "image" else f"backbone_{name}",
                file="backbone.onnx",
                inputs={"image": name},
                outputs={"features": f"features_{name}"},
            ),
            model.backbone,
            {"image": torch.zeros(shapes["image"][1], dtype=torch.uint8)},
        )
        for name in pictures
    ]
    for name, network in (("teacher", model.teacher), ("student", model.student)):
        stages.append(
            Stage(
                StageSpec(
                    name=name,
                    file=f"{name}.onnx",
                    inputs={tensor: tensor for tensor in parts},
                    outputs={f"{name}_out": f"{name}_out"},
                ),
                _OnAssembled(model.assemble, network),
                parts,
            )
        )
    stages.append(
        Stage(
            StageSpec(
                name="distance",
                file="distance.onnx",
                inputs={"teacher": "teacher_out", "student": "student_out", "mask": "mask"},
                outputs={ANOMALY_MAP: ANOMALY_MAP},
            ),
            model.distance,
            {"teacher": latent, "student": latent, "mask": mask},
        )
    )
    return tuple(stages)
