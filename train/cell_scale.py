"""How far good parts stray at each cell of the map: what the map is divided by, if it is asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn

from edge.errors import TrainingError
from train.good_parts import GoodParts
from train.model import AnomalyModel, torch_tensors

__all__ = ["CellScale", "OnCells", "fit_cell_scale", "scale_of"]

_SMOOTHING_CELLS = 1.0
_LEAST_SHARE = 0.5
_Double = npt.NDArray[np.float64]


class CellScale(nn.Module):
    """Anomaly map (N, 1, m, m) → the same, divided by `values` (1, 1, m, m), which are ones at first."""

    values: Tensor

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.ones(1, 1, cells, cells))

    def forward(self, anomaly_map: Tensor) -> Tensor:
        return anomaly_map / self.values


class OnCells(nn.Module):
    """A module that makes a map, and the scale of the map's cells behind it."""

    def __init__(self, module: nn.Module, scale: CellScale) -> None:
        super().__init__()
        self.module = module
        self.scale = scale

    def forward(self, *tensors: Tensor) -> Tensor:
        y: Tensor = self.scale(self.module(*tensors))
        return y


def scale_of(maps: _Double, masks: _Double) -> _Double:
    """The scale (m, m) of each cell from the sums over parts of masked maps (m, m) and of their masks (m, m).

    The mean error of a cell over the parts whose mask covers it, smoothed by a Gaussian of one cell that
    weighs by the masks, and held at half the mean over all covered cells or more: a cell that chance made
    quiet must not shout. Divided by that mean, so that maps keep their size; 1 where no part ever was.

    Raises `TrainingError` where the maps are 0 everywhere or not finite.
    """
    covered = masks > 0  # (m, m)
    smooth_maps, smooth_masks = (
        ndimage.gaussian_filter(a, _SMOOTHING_CELLS, mode="constant") for a in (maps, masks)
    )
    mean = np.divide(smooth_maps, smooth_masks, out=np.zeros_like(maps), where=covered)  # (m, m)
    overall = float(mean[covered].mean()) if covered.any() else 0.0
    if not 0 < overall < np.inf:
        raise TrainingError(
            f"the maps of the good parts held out are {overall:g} on average: cells can't be normalised by "
            "them; check the parts held out, or set normalise_cells to false"
        )
    scale: _Double = np.where(covered, np.maximum(mean, _LEAST_SHARE * overall) / overall, 1.0)
    return scale


def fit_cell_scale(scale: CellScale, model: AnomalyModel, good: GoodParts) -> None:
    """Take the scale from the maps that the fitted model of which it is a part makes of parts held out.

    Raises `DatasetError`, `TrainingError`.
    """
    scale.values.fill_(1.0)
    shape = scale.values.shape[2:]
    maps, masks = np.zeros(shape), np.zeros(shape)  # (m, m) each
    with good.progress.task("cell scale", len(good.held_out)) as advance, torch.no_grad():
        for _, prepared in good.held_out_prepared(model.wanted):
            tensors = torch_tensors(prepared.tensors)
            maps += model(tensors)[0, 0].double().numpy()
            masks += tensors["mask"][0, 0].double().numpy()
            advance(1)
    scale.values.copy_(torch.from_numpy(scale_of(maps, masks)))
