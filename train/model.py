"""The whole method as one module: backbone, standardisation, teacher, student, distance."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edge.preprocessing import Preprocessing
from train.config import TrainConfig
from train.distillation import Distance
from train.features import Backbone
from train.student import Student
from train.teacher import Teacher

__all__ = ["Assemble", "DistillationModel", "feature_channels"]


class Assemble(nn.Module):
    """Feature maps and z → one standardised map (N, C, m, m): what teacher and student see.

    `mean` and `std` (C,) are those of the training parts' foreground. Without this the features' scale
    (a standard deviation of about 5) drowns depth (0.2), and a learning rate fits one of them at most.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def forward(self, *parts: Tensor) -> Tensor:
        x = torch.cat(parts, dim=1)  # (N, C, m, m)
        return (x - self.mean.view(1, -1, 1, 1)) / self.std.view(1, -1, 1, 1)

    def fit(self, parts: Tensor, mask: Tensor) -> None:
        """Take mean and standard deviation of (N, C, m, m) over the foreground, mask (N, 1, m, m)."""
        weight = mask / mask.sum()
        mean = (parts * weight).sum(dim=(0, 2, 3))
        variance = ((parts - mean.view(1, -1, 1, 1)).square() * weight).sum(dim=(0, 2, 3))
        self.mean.copy_(mean)
        # A channel that is constant on good parts says nothing there; it must not explode elsewhere.
        self.std.copy_(variance.sqrt().clamp_min(1e-3 * float(variance.mean().sqrt())))


class DistillationModel(nn.Module):
    """Teacher and student over the inputs of a configuration; `forward` gives the anomaly map (N, 1, m, m).

    The backbone is frozen and shared by the pictures; it is not part of `state_dict()`.
    """

    def __init__(self, config: TrainConfig, preprocessing: Preprocessing, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.preprocessing = preprocessing
        self._backbone = [backbone]  # in a list, so that its weights are not taken for ours
        channels = feature_channels(config, preprocessing, backbone)
        cells = preprocessing.map_cells
        self.assemble = Assemble(channels)
        self.teacher = Teacher(config.teacher, channels, cells)
        self.student = Student(config.student, channels, cells)
        self.distance = Distance()

    @property
    def backbone(self) -> Backbone:
        return self._backbone[0]

    def parts(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        """What the inputs are before they are joined: features of each picture, z as it is."""
        return [tensors["z"] if name == "z" else self.backbone(tensors[name]) for name in self.config.inputs]

    def forward(self, tensors: Mapping[str, Tensor]) -> Tensor:
        x = self.assemble(*self.parts(tensors))
        anomaly_map: Tensor = self.distance(self.teacher(x), self.student(x), tensors["mask"])
        return anomaly_map


def feature_channels(config: TrainConfig, preprocessing: Preprocessing, backbone: Backbone) -> int:
    """The channels that the configured inputs have together."""
    return sum(preprocessing.unshuffle**2 if name == "z" else backbone.channels for name in config.inputs)
