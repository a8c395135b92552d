"""Fusion: the mean of several methods' maps, each as a z-score against good parts held out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from edge.bundle import ANOMALY_MAP, StageSpec
from edge.errors import TrainingError
from edge.preprocessing import Preprocessing, tensor_shapes
from train.features import Backbone
from train.good_parts import GoodParts
from train.methods.memory_bank import MemoryBankConfig
from train.methods.method import FittedCurves, Method
from train.methods.msd import MsdConfig
from train.model import torch_tensors
from train.stages import Stage, rename_tensors

__all__ = ["FusionConfig", "FusionModel"]

MemberConfig = Annotated[MsdConfig | MemoryBankConfig, Field(discriminator="name")]


class FusionConfig(BaseModel):
    """The methods whose maps are fused, each with its own configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Literal["fusion"] = "fusion"
    members: tuple[MemberConfig, ...] = Field(default=(MsdConfig(), MemoryBankConfig()), min_length=2)

    def check_cells(self, cells: int) -> None:
        """Raises `ValueError` where a member can't make a map of that many cells."""
        for member in self.members:
            member.check_cells(cells)

    @property
    def is_open(self) -> bool:
        """Whether the parts decide by which angles some member is shown them."""
        return any(member.is_open for member in self.members)

    def resolved(self, jitter_deg: Sequence[float]) -> FusionConfig:
        """The same with these small angles where a member leaves them open."""
        return self.model_copy(
            update={"members": tuple(member.resolved(jitter_deg) for member in self.members)}
        )

    @property
    def needs_held_out(self) -> str | None:
        """The z-scores' means and deviations are those of good parts held out."""
        return "a fusion"


class Fuse(nn.Module):
    """Maps (N, 1, m, m) of each member and the mask → mean over the members of (map − mean) / std, masked.

    `mean` and `std` (K,) are those of the foreground cells of good parts held out: outside the mask the
    fused map is 0, which is where an average cell of a good part stands.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, members: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(members))
        self.register_buffer("std", torch.ones(members))

    def forward(self, *tensors: Tensor) -> Tensor:
        *maps, mask = tensors
        stacked = torch.cat(maps, dim=1).float()  # (N, K, m, m)
        score = (stacked - self.mean.view(1, -1, 1, 1)) / self.std.view(1, -1, 1, 1)
        return mask * score.mean(dim=1, keepdim=True)


class FusionModel(Method):
    """Several methods side by side over one preprocessing, sharing backbones."""

    def __init__(self, config: FusionConfig, preprocessing: Preprocessing, members: Sequence[Method]) -> None:
        super().__init__(preprocessing)
        self.config = config
        count = Counter(member.name for member in config.members)
        self.labels = tuple(
            name.replace("-", "_") + (f"_{number}" if count[name] > 1 else "")
            for number, name in enumerate(member.name for member in config.members)
        )
        self.members = nn.ModuleDict(dict(zip(self.labels, members, strict=True)))
        self.fuse = Fuse(len(members))

    @property
    def label(self) -> str:
        return self.config.name

    def _named(self) -> tuple[tuple[str, Method], ...]:
        return tuple((label, self._member(label)) for label in self.labels)

    def _member(self, label: str) -> Method:
        member = self.members[label]
        if not isinstance(member, Method):
            raise TypeError(f"member {label!r} is no method")
        return member

    def backbones(self) -> tuple[Backbone, ...]:
        by_sha256 = {b.sha256: b for _, member in self._named() for b in member.backbones()}
        return tuple(by_sha256.values())

    def stages(self) -> tuple[Stage, ...]:
        prefixes = {self.backbones()[0].sha256: ""}  # of a backbone: one file, whoever asks for it first
        shared: dict[tuple[str, str], dict[str, str]] = {}
        stages: list[Stage] = []
        for label, member in self._named():
            names: dict[str, str] = {}
            for stage in member.stages():
                prefix = f"{label}_"
                if isinstance(stage.module, Backbone):
                    prefix = prefixes.setdefault(stage.module.sha256, prefix)
                    (picture,) = stage.spec.inputs.values()
                    key = (stage.module.sha256, picture)
                    if key in shared:  # an earlier member runs this backbone on this picture
                        names |= shared[key]
                        continue
                    made = {tensor: f"{prefix}{tensor}" for tensor in stage.spec.outputs.values()}
                    shared[key] = made
                    names |= made
                else:
                    names |= {tensor: f"{prefix}{tensor}" for tensor in stage.spec.outputs.values()}
                stages.append(rename_tensors(stage, prefix, names))
        maps = {label: f"{label}_{ANOMALY_MAP}" for label in self.labels}
        example = torch.zeros(tensor_shapes(self.preprocessing)["mask"][1])
        stages.append(
            Stage(
                StageSpec(
                    name="fusion",
                    file="fusion.onnx",
                    precision="fp32",
                    inputs={**maps, "mask": "mask"},
                    outputs={ANOMALY_MAP: ANOMALY_MAP},
                ),
                self.fuse,
                {**dict.fromkeys(maps, example), "mask": example},
            )
        )
        return tuple(stages)

    def fit(self, good: GoodParts, seed: int) -> FittedCurves:
        curves: dict[str, tuple[float, ...]] = {}
        for label, member in self._named():
            fitted = member.fit(good.for_member(label), seed)
            curves |= {f"{label} {phase}": curve for phase, curve in fitted.items()}
        self.eval()
        self._fit_scores(good)
        return curves

    def _fit_scores(self, good: GoodParts) -> None:
        cells: list[list[Tensor]] = [[] for _ in self.labels]
        with good.progress.task("z-scores", len(good.held_out)) as advance, torch.no_grad():
            for _, prepared in good.held_out_prepared(self.wanted):
                tensors = torch_tensors(prepared.tensors)
                for place, (_, member) in zip(cells, self._named(), strict=True):
                    place.append(member(tensors)[tensors["mask"] > 0])  # (k,)
                advance(1)
        for number, (label, place) in enumerate(zip(self.labels, cells, strict=True)):
            values = torch.cat(place).double()
            if not 0 < float(values.std()) < math.inf:
                raise TrainingError(
                    f"the map of {label!r} has a deviation of {float(values.std()):g} on the parts held out, "
                    "so it gives no z-score; leave this member out, or check what it was trained on"
                )
            self.fuse.mean[number] = float(values.mean())
            self.fuse.std[number] = float(values.std())
