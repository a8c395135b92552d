"""How an anomaly map becomes a picture's worth of numbers and one score. Both sides call this."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from edge.depth import Mask

__all__ = ["ScoreSpec", "image_score", "smooth_map"]

_Float = npt.NDArray[np.float32]


class ScoreSpec(BaseModel):
    """The score function, part of the manifest.

    The map is brought to the depth square by `interpolation`, smoothed by a Gaussian of `smoothing_px` of
    that square, and set to 0 outside the foreground. `kind`: its `max`; its `mean` over the foreground; or
    the mean of the `top_share` largest foreground pixels (`top_mean`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["max", "mean", "top_mean"] = "max"
    smoothing_px: float = Field(default=4.0, ge=0, le=100)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    top_share: float = Field(default=0.01, gt=0, le=1)


def smooth_map(cells: _Float, mask: Mask, spec: ScoreSpec) -> _Float:
    """The map of cells (m, m) as a smooth one on the depth square (side, side), 0 outside `mask`.

    Bicubic, as AST has it, overshoots: the maximum can lie above every cell's value, and what is beside a
    steep place below 0.
    """
    side = mask.shape[0]
    how = cv2.INTER_LINEAR if spec.interpolation == "bilinear" else cv2.INTER_CUBIC
    square = cv2.resize(cells, (side, side), interpolation=how)  # (side, side)
    if spec.smoothing_px > 0:
        square = cv2.GaussianBlur(square, (0, 0), spec.smoothing_px)
    return np.asarray(np.where(mask, square, 0.0), dtype=np.float32)


def image_score(square: _Float | npt.NDArray[np.float64], mask: Mask, spec: ScoreSpec) -> float:
    """One number for a smoothed map (side, side) over its foreground; 0 where there is none."""
    inside = square[mask]  # (k,)
    if inside.size == 0:
        return 0.0
    if spec.kind == "max":
        return float(inside.max())
    if spec.kind == "mean":
        return float(inside.mean(dtype=np.float64))
    count = max(1, round(spec.top_share * inside.size))
    return float(np.partition(inside, -count)[-count:].mean(dtype=np.float64))
