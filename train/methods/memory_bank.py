"""The memory bank: each cell's distance to the nearest cell of good parts (PatchCore, Roth, CVPR 2022)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import Self

from edge.bundle import ANOMALY_MAP, StageSpec
from edge.errors import TrainingError
from edge.preprocessing import Preprocessing, tensor_shapes
from train.cell_scale import CellScale, OnCells, fit_cell_scale
from train.coreset import greedy_coreset, project
from train.features import Backbone, load_backbone
from train.good_parts import GoodParts
from train.inputs import (
    Assemble,
    Jitter,
    LooksConfig,
    backbone_stages,
    input_channels,
    input_examples,
)
from train.methods.method import FittedCurves, Method
from train.stages import Stage
from train.views import Views

__all__ = ["Bank", "MemoryBankConfig", "MemoryBankModel"]

_CHUNK_ROWS = 4096


class MemoryBankConfig(LooksConfig):
    """The memory bank.

    Parts are shown at four angles and, beside each, as far to either side as their directions were measured
    to differ once they are turned upright. Each cell is averaged with its surroundings (`neighbourhood` cells
    square). Of the good parts' foreground cells, at most `max_candidates` drawn at random, a greedy coreset
    of `coreset_share` is kept, at most `max_rows`; it is chosen in `projection` dimensions. With
    `reweighting_neighbours` k > 0 the map is multiplied by PatchCore's weight of its highest cell (Eq. 7),
    over the k bank rows nearest to the one that it matched.
    With `normalise_cells` each cell of the map is divided by how far good parts held out stray there.
    """

    name: Literal["memory-bank"] = "memory-bank"
    rotations: int = Field(default=4, ge=1)
    jitter_deg: Jitter = "auto"
    neighbourhood: int = Field(default=3, ge=1)
    coreset_share: float = Field(default=0.1, gt=0, le=1)
    max_rows: int = Field(default=8000, ge=1)
    max_candidates: int = Field(default=200_000, ge=1)
    projection: int | None = Field(default=128, ge=1)
    reweighting_neighbours: int = Field(default=0, ge=0)
    position_weight: float = Field(default=0.0, ge=0)
    normalise_cells: bool = False

    @model_validator(mode="after")
    def _cell_has_a_middle(self) -> Self:
        if self.neighbourhood % 2 == 0:
            raise ValueError(f"neighbourhood is {self.neighbourhood}, must be odd: a cell has a middle")
        return self

    def check_cells(self, cells: int) -> None:
        """Any map will do."""

    @property
    def needs_held_out(self) -> str | None:
        """The key for which some good parts must be held out of training, None where none must."""
        return "normalise_cells" if self.normalise_cells else None


class Bank(nn.Module):
    """Feature maps → anomaly map (N, 1, m, m): distance to the nearest of `rows` (M, C), over √C.

    ‖x − b‖² = ‖x‖² − 2 x·b + ‖b‖², in float32, the minimum over chunks of rows: static shapes, and no
    matrix larger than cells × chunk.
    """

    rows: Tensor
    squares: Tensor
    neighbours: Tensor
    place: Tensor

    def __init__(self, config: MemoryBankConfig, channels: int, cells: int) -> None:
        super().__init__()
        self.config = config
        self.assemble = Assemble(channels)
        width = channels + (2 if config.position_weight > 0 else 0)
        self.register_buffer("rows", torch.zeros(1, width))
        self.register_buffer("neighbours", torch.zeros(1, max(1, config.reweighting_neighbours)).long())
        steps = (torch.arange(cells).float() + 0.5) / cells * 2 - 1  # (m,)
        place = torch.stack(torch.meshgrid(steps, steps, indexing="ij"))[None]  # (1, 2, m, m)
        self.register_buffer("place", place * config.position_weight * math.sqrt(channels), persistent=False)
        self.register_buffer("squares", torch.zeros(1), persistent=False)

    def describe(self, *parts: Tensor) -> Tensor:
        """Feature maps → what is compared, (N, C, m, m)."""
        x: Tensor = self.assemble(*parts)  # (N, C, m, m)
        if self.config.neighbourhood > 1:
            pad = self.config.neighbourhood // 2
            x = functional.avg_pool2d(
                x, self.config.neighbourhood, stride=1, padding=pad, count_include_pad=False
            )
        if self.config.position_weight > 0:
            x = torch.cat([x, self.place.expand(x.shape[0], -1, -1, -1)], dim=1)
        return x

    def set_rows(self, rows: Tensor) -> None:
        """Take the rows of the bank (M, C)."""
        self.rows = rows.contiguous()
        self.squares = rows.square().sum(dim=1)
        k = self.config.reweighting_neighbours
        if k:
            if len(rows) <= k:
                raise TrainingError(
                    f"the bank has {len(rows)} rows, too few for reweighting_neighbours {k}; raise "
                    "coreset_share"
                )
            near = [
                torch.cdist(part, rows)
                .topk(k + 1, largest=False)
                .indices[:, 1:]  # (c, k): the first is itself
                for part in torch.split(rows, 512)
            ]
            self.neighbours = torch.cat(near)

    def forward(self, *tensors: Tensor) -> Tensor:
        *parts, mask = tensors
        x = self.describe(*parts).float()  # (N, C, m, m)
        count, width, height, _ = x.shape
        cells = x.permute(0, 2, 3, 1).reshape(-1, width)  # (N·m·m, C)
        own = cells.square().sum(dim=1)  # (N·m·m,)
        best, index = self._nearest(cells)
        distance = (best + own).clamp_min(0.0).sqrt()  # (N·m·m,)
        weight = self._weight(cells, distance, index, mask) if self.config.reweighting_neighbours else 1.0
        anomaly_map = distance.view(count, 1, height, height) / math.sqrt(width)
        return mask * anomaly_map * weight

    def _nearest(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """min_b ‖b‖² − 2 x·b (k,) and the row where it is (k,)."""
        best, index = self._nearest_in_chunk(cells, 0)
        for start in range(_CHUNK_ROWS, len(self.rows), _CHUNK_ROWS):
            least, where = self._nearest_in_chunk(cells, start)
            index = torch.where(least < best, where, index)
            best = torch.minimum(least, best)
        return best, index

    def _nearest_in_chunk(self, cells: Tensor, start: int) -> tuple[Tensor, Tensor]:
        rows = self.rows[start : start + _CHUNK_ROWS]  # (c, C)
        squares = self.squares[start : start + _CHUNK_ROWS]  # (c,)
        least, where = (squares - 2.0 * (cells @ rows.T)).min(dim=1)  # (k,) each
        return least, where + start

    def _weight(self, cells: Tensor, distance: Tensor, index: Tensor, mask: Tensor) -> Tensor:
        """PatchCore's weight of the highest cell of each map, (N, 1, 1, 1)."""
        count = mask.shape[0]
        scale = math.sqrt(cells.shape[1])
        flat = distance.view(count, -1) * mask.view(count, -1)  # (N, m·m)
        top, place = flat.max(dim=1)  # (N,) each
        place = place + torch.arange(count) * flat.shape[1]
        near = self.rows[self.neighbours[index[place]]]  # (N, k, C)
        others = (near - cells[place][:, None]).norm(dim=2)  # (N, k)
        # exp(a) / Σ exp(b) as 1 / Σ exp(b − a): no overflow
        weight = 1.0 - 1.0 / torch.exp((others - top[:, None]) / scale).sum(dim=1)  # (N,)
        return weight.view(count, 1, 1, 1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """A bank has as many rows as were kept: take the size from what is loaded."""
        for name in ("rows", "neighbours"):
            if f"{prefix}{name}" in state_dict:
                setattr(self, name, torch.empty_like(state_dict[f"{prefix}{name}"]))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.squares = self.rows.square().sum(dim=1)


class MemoryBankModel(Method):
    """A bank of good parts' cells over the configured inputs."""

    def __init__(self, config: MemoryBankConfig, preprocessing: Preprocessing) -> None:
        super().__init__(preprocessing)
        self.config = config
        backbone = load_backbone(config.backbone, preprocessing.map_cells)
        self._backbone = [backbone]  # in a list, so that its weights are not taken for ours
        channels = input_channels(config.inputs, preprocessing, backbone)
        self.bank = Bank(config, channels, preprocessing.map_cells)
        self.cell_scale = CellScale(preprocessing.map_cells) if config.normalise_cells else None

    @property
    def label(self) -> str:
        return self.config.name

    def backbones(self) -> tuple[Backbone, ...]:
        return tuple(self._backbone)

    def stages(self) -> tuple[Stage, ...]:
        config, (backbone,) = self.config, self._backbone
        parts = input_examples(config.inputs, self.preprocessing, backbone)
        mask = torch.ones(tensor_shapes(self.preprocessing)["mask"][1])
        bank = Stage(
            StageSpec(
                name="bank",
                file="bank.onnx",
                precision="fp32",
                inputs={tensor: tensor for tensor in (*parts, "mask")},
                outputs={ANOMALY_MAP: ANOMALY_MAP},
            ),
            self.bank if self.cell_scale is None else OnCells(self.bank, self.cell_scale),
            {**parts, "mask": mask},
        )
        return (*backbone_stages(config.inputs, self.preprocessing, backbone), bank)

    def fit(self, good: GoodParts, seed: int) -> FittedCurves:
        config = self.config
        views = good.views(config.inputs, config.angles_deg, self._backbone[0])
        if config.standardise:
            self.bank.assemble.set(*views.foreground_statistics())
        rows = self._candidates(views, seed)  # (K, C)
        count = min(config.max_rows, max(1, round(config.coreset_share * len(rows))))
        with good.progress.task("memory bank", count) as advance:
            chosen = greedy_coreset(project(rows, config.projection, seed), count, advance)
        self.bank.set_rows(rows[chosen])
        self.eval()
        if self.cell_scale is not None:
            fit_cell_scale(self.cell_scale, self, good)
        return {}

    def _candidates(self, views: Views, seed: int) -> Tensor:
        """(K, C) foreground cells of the good parts, in a random order drawn from the seed."""
        inside = views.mask[:, 0] > 0  # (N, m, m)
        total = int(inside.sum())
        generator = torch.Generator().manual_seed(seed)
        keep = torch.zeros(total, dtype=torch.bool)
        keep[torch.randperm(total, generator=generator)[: self.config.max_candidates]] = True
        found, seen = [], 0
        with torch.no_grad():
            for number, (parts, _) in enumerate(views.batches(16)):
                x = self.bank.describe(parts).permute(0, 2, 3, 1)  # (k, m, m, C)
                cells = x[inside[16 * number : 16 * number + len(x)]]  # (c, C)
                found.append(cells[keep[seen : seen + len(cells)]])
                seen += len(cells)
        rows = torch.cat(found)  # (K, C)
        return rows[torch.randperm(len(rows), generator=generator)]
