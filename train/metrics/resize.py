"""Masks and maps at the one resolution in which most published figures are given."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from train.metrics.checks import Mask, ScoreMap
from train.metrics.ranking import component_sizes

__all__ = ["PUBLISHED_PX", "lost_components", "resize_map", "resize_mask"]

PUBLISHED_PX = 224
"""The side of the square in which BTF, M3DM, CFM and others compare maps with masks."""


def resize_mask(mask: Mask, side: int = PUBLISHED_PX) -> Mask:
    """A mask (H, W) as (side, side) by nearest neighbour, as Pillow does it.

    Pixel i shows the source pixel that holds its centre, floor((i + ½)·H/side); a centre between two pixels
    goes to the further one, where Pillow's rounding sends it either way. A frame that is not square
    is stretched: padding would add good pixels that nobody took a picture of, and need a score for them.
    """
    height, width = mask.shape
    return mask[_nearest(height, side)[:, None], _nearest(width, side)[None, :]]  # (side, side)


def resize_map(score_map: ScoreMap, side: int = PUBLISHED_PX) -> ScoreMap:
    """A map (H, W) as float32 (side, side), bilinear between pixel centres, which can't overshoot."""
    resized = cv2.resize(
        np.asarray(score_map, dtype=np.float32), (side, side), interpolation=cv2.INTER_LINEAR
    )
    return np.asarray(resized, dtype=np.float32)


def lost_components(mask: Mask, side: int = PUBLISHED_PX) -> tuple[int, int]:
    """How many 8-connected components a mask (H, W) has, and how many have no pixel left at `side`."""
    labels, sizes = component_sizes(mask)
    height, width = mask.shape
    left = np.unique(labels[_nearest(height, side)[:, None], _nearest(width, side)[None, :]])
    total = sizes.size - 1
    return total, total - int(np.count_nonzero(left))


def _nearest(size: int, side: int) -> npt.NDArray[np.int64]:
    # In integers: (2i + 1)·size / 2·side rounded down, where floating point could fall short of a whole.
    return (2 * np.arange(side, dtype=np.int64) + 1) * size // (2 * side)
