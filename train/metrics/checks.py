"""What masks and anomaly maps must be before anything is counted in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import ConfigError, DatasetError

__all__ = ["Mask", "ScoreMap", "check_limits", "check_mask", "check_pair", "check_same_length"]

Mask = npt.NDArray[np.bool_]
"""(H, W), True where the part is defective."""

ScoreMap = npt.NDArray[np.floating[Any]]
"""(H, W), larger is more anomalous; float32 in this project. Any float dtype is ranked without rounding."""


def check_same_length(masks: Sequence[Mask], others: Sequence[Any], what: str) -> None:
    """Raise `DatasetError` where there are no masks, or not as many as `others` (named by `what`)."""
    if len(masks) == 0:
        raise DatasetError("no masks to evaluate; give one mask per test image, all False for a good one")
    if len(masks) != len(others):
        raise DatasetError(
            f"{len(masks)} masks but {len(others)} {what}; give one of each per test image, in the same order"
        )


def check_mask(mask: Mask, index: int, what: str = "mask") -> None:
    """Raise `DatasetError` where image `index`'s mask is not a bool image of at least one pixel."""
    if mask.dtype != np.bool_ or mask.ndim != 2 or mask.size == 0:
        raise DatasetError(
            f"image {index}: {what} is {mask.dtype}{mask.shape}, must be bool (H, W); "
            "read it as `gray > 0`, any value above 0 is True"
        )


def check_pair(mask: Mask, score_map: ScoreMap, index: int) -> None:
    """Raise `DatasetError` where image `index`'s mask and map don't fit, or a score is NaN or infinite."""
    check_mask(mask, index)
    if not np.issubdtype(score_map.dtype, np.floating) or score_map.shape != mask.shape:
        raise DatasetError(
            f"image {index}: map is {score_map.dtype}{score_map.shape}, mask is {mask.shape}; the map must "
            "be floating point and have the mask's shape: bring it back to the original resolution first"
        )
    finite = np.isfinite(score_map)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise DatasetError(
            f"image {index}: {score_map.size - int(finite.sum())} of {score_map.size} scores are NaN or "
            f"infinite, the first at row {row}, column {column}; such a map can't be ranked: find out in "
            "which stage the number is lost (`edge-evaluate --save-maps` writes the maps)"
        )


def check_limits(limits: Iterable[float]) -> tuple[float, ...]:
    """The false positive rates as a tuple; `ConfigError` where one is not in (0, 1], or there are none."""
    checked = tuple(float(limit) for limit in limits)
    wrong = [limit for limit in checked if not 0.0 < limit <= 1.0]
    if wrong or not checked:
        raise ConfigError(
            f"AUPRO limits are {checked}; give at least one, each a false positive rate in (0, 1], like 0.3"
        )
    return checked
