"""What a method looks at: which tensors of a frame, through which backbone, on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from edge.bundle import StageSpec
from edge.errors import TrainingError
from edge.preprocessing import Preprocessing, tensor_shapes
from train.features import Backbone, BackboneConfig
from train.stages import Stage

__all__ = [
    "Assemble",
    "Jitter",
    "LooksConfig",
    "Modality",
    "OnAssembled",
    "angles_of",
    "backbone_stages",
    "input_channels",
    "input_examples",
]

Modality = Literal["image", "normals", "z"]

Jitter = Annotated[tuple[float, ...], Field(min_length=1)] | Literal["auto"]
"""Degrees by which parts are turned from how the device sees them; 0 among them, or none is seen so.

`auto`: as far as their directions were measured to differ (`train.directions`).
"""


def angles_of(rotations: int, jitter_deg: Sequence[float]) -> tuple[float, ...]:
    """Each of `rotations` angles, spread evenly over the circle, and beside it each jitter."""
    return tuple(360.0 * k / rotations + jitter for k in range(rotations) for jitter in jitter_deg)


class LooksConfig(BaseModel):
    """What a method looks at, and how parts are shown to it in training.

    `inputs` names what it sees: `image` and `normals` through the backbone, `z` as it is. `rotations` shows
    each training part at that many angles, evenly spread over the circle, and `jitter_deg` at each of these
    beside them; `auto` becomes numbers by `resolved`. `standardise` brings every channel to one scale.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    inputs: tuple[Modality, ...] = Field(default=("image",), min_length=1)
    rotations: int = Field(default=1, ge=1)
    jitter_deg: Jitter = (0.0,)
    standardise: bool = True
    backbone: BackboneConfig = BackboneConfig()

    @model_validator(mode="after")
    def _inputs_once(self) -> Self:
        if len(set(self.inputs)) != len(self.inputs):
            raise ValueError(f"inputs {list(self.inputs)} name one thing twice")
        return self

    @property
    def is_open(self) -> bool:
        """Whether the parts decide by which angles they are turned."""
        return self.jitter_deg == "auto"

    def resolved(self, jitter_deg: Sequence[float]) -> Self:
        """The same with these small angles where it leaves them open."""
        return self.model_copy(update={"jitter_deg": tuple(jitter_deg)}) if self.is_open else self

    @property
    def angles_deg(self) -> tuple[float, ...]:
        """The angles at which each part is shown in training; raises `TrainingError` while they are open."""
        if self.jitter_deg == "auto":
            raise TrainingError(
                f"{self.name}: jitter_deg is 'auto', and no parts were looked at; give numbers, or resolve it"
            )
        return angles_of(self.rotations, self.jitter_deg)


class Assemble(nn.Module):
    """Feature maps and z → one standardised map (N, C, m, m).

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

    def set(self, mean: Tensor, variance: Tensor) -> None:
        """Take mean and variance (C,) of the training parts' foreground."""
        self.mean.copy_(mean)
        # A channel that is constant on good parts says nothing there; it must not explode elsewhere.
        self.std.copy_(variance.sqrt().clamp_min(1e-3 * float(variance.mean().sqrt())))


class OnAssembled(nn.Module):
    """A network behind the joining and standardising of its inputs."""

    def __init__(self, assemble: Assemble, network: nn.Module) -> None:
        super().__init__()
        self.assemble = assemble
        self.network = network

    def forward(self, *parts: Tensor) -> Tensor:
        y: Tensor = self.network(self.assemble(*parts))
        return y


def input_channels(inputs: Sequence[Modality], preprocessing: Preprocessing, backbone: Backbone) -> int:
    """The channels that the inputs have together."""
    return sum(preprocessing.unshuffle**2 if name == "z" else backbone.channels for name in inputs)


def input_examples(
    inputs: Sequence[Modality], preprocessing: Preprocessing, backbone: Backbone
) -> Mapping[str, Tensor]:
    """Tensor that holds each input → an example of its shape: features of a picture, z as it is."""
    cells = preprocessing.map_cells
    features = torch.zeros(1, backbone.channels, cells, cells)
    z = torch.zeros(tensor_shapes(preprocessing)["z"][1])
    return {("z" if name == "z" else f"features_{name}"): (z if name == "z" else features) for name in inputs}


def backbone_stages(
    inputs: Sequence[Modality], preprocessing: Preprocessing, backbone: Backbone
) -> tuple[Stage, ...]:
    """The backbone, once for each picture, one file: `features_<picture>` (1, C, m, m)."""
    image = torch.zeros(tensor_shapes(preprocessing)["image"][1], dtype=torch.uint8)  # (1, S, S, 3)
    return tuple(
        Stage(
            StageSpec(
                name="backbone" if name == "image" else f"backbone_{name}",
                file="backbone.onnx",
                precision="fp32",
                inputs={"image": name},
                outputs={"features": f"features_{name}"},
            ),
            backbone,
            {"image": image},
        )
        for name in inputs
        if name != "z"
    )
