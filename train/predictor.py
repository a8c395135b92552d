"""A trained model as what evaluation asks: a frame's map and score, by torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from edge.preprocessing import Prepared
from edge.scoring import ScoreSpec, image_score, smooth_map
from train.model import AnomalyModel, torch_tensors

__all__ = ["cells_by_torch", "score_of"]

_Float = npt.NDArray[np.float32]


def cells_by_torch(model: AnomalyModel, tensors: Mapping[str, npt.NDArray[np.generic]]) -> _Float:
    """The anomaly map (m, m) of one frame's tensors."""
    with torch.no_grad():
        result = model(torch_tensors(tensors))
    return np.asarray(result[0, 0].numpy(), dtype=np.float32)


def score_of(model: AnomalyModel, prepared: Prepared, score: ScoreSpec) -> float:
    """The image score of a prepared frame, as the device computes it from the map."""
    cells = cells_by_torch(model, prepared.tensors)
    return image_score(smooth_map(cells, prepared.mask, score), prepared.mask, score)
