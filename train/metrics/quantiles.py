"""Exact order statistics of the good pixels' scores, in bounded memory whatever the number of images.

A float's bits, with the sign bit turned (and all bits of a negative one), sort as the floats do. So the
score of a given rank is found digit by digit of 16 bits: count the digits, keep to the one that holds the
rank, go through the scores again for the next digit. Two passes over float32, and nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from train.metrics.checks import Mask, ScoreMap
from train.metrics.ranking import good_pixel_chunks

__all__ = ["good_scores_at"]

CHUNK_PIXELS = 1 << 22
"""Scores that are looked at together; sorting nothing, more would not be faster."""

_DIGIT_BITS = 16
_DIGITS = 1 << _DIGIT_BITS

_Keys = npt.NDArray[np.unsignedinteger[Any]]


def good_scores_at(
    masks: Sequence[Mask],
    maps: Sequence[ScoreMap],
    positions: npt.NDArray[np.int64],
    chunk_pixels: int = CHUNK_PIXELS,
) -> ScoreMap:
    """The scores of good pixels that stand at `positions` (T,) of all of them sorted, lowest first.

    `masks` bool (H, W) and finite `maps` float (H, W), one of each per image, all maps of one dtype; a
    position must be below the number of good pixels. Holds 512 kB per distinct position at most, and
    `chunk_pixels` scores.
    """
    dtype = maps[0].dtype
    bits = dtype.itemsize * 8
    left = positions.astype(np.int64)  # (T,) rank among the scores that share the prefix
    prefixes = np.zeros(left.shape, dtype=np.uint64)  # (T,) the digits found so far
    for shift in range(bits - _DIGIT_BITS, -1, -_DIGIT_BITS):
        known, row = np.unique(prefixes, return_inverse=True)  # (P,), (T,)
        counts = np.zeros((known.size, _DIGITS), dtype=np.int64)
        for chunk in good_pixel_chunks(masks, maps, chunk_pixels):
            keys = _sortable(chunk)  # (C,)
            if shift + _DIGIT_BITS < bits:
                upper = keys >> (shift + _DIGIT_BITS)
                slot = np.minimum(np.searchsorted(known, upper), known.size - 1)
                here = known[slot] == upper
                keys, slot = keys[here], slot[here]
            else:
                slot = np.zeros(keys.shape, dtype=np.int64)
            digit = ((keys >> shift) & (_DIGITS - 1)).astype(np.int64)
            counts += np.bincount(slot * _DIGITS + digit, minlength=counts.size).reshape(counts.shape)
        below = np.cumsum(counts, axis=1) - counts  # (P, digits) scores with a lower digit
        found = np.array(
            [np.searchsorted(below[r], k, side="right") - 1 for r, k in zip(row, left, strict=True)]
        )
        left -= below[row, found]
        prefixes = (prefixes << np.uint64(_DIGIT_BITS)) | found.astype(np.uint64)
    return _from_sortable(prefixes.astype(f"u{dtype.itemsize}"), dtype)


def _sortable(scores: ScoreMap) -> _Keys:
    """Unsigned integers (N,) in the order of the scores; -0.0 and 0.0 are one."""
    bits = (scores + scores.dtype.type(0)).view(f"u{scores.dtype.itemsize}")
    sign = bits.dtype.type(1 << (bits.dtype.itemsize * 8 - 1))
    return np.asarray(np.where(bits & sign, ~bits, bits | sign), dtype=bits.dtype)


def _from_sortable(keys: _Keys, dtype: np.dtype[np.floating[Any]]) -> ScoreMap:
    sign = keys.dtype.type(1 << (keys.dtype.itemsize * 8 - 1))
    return np.asarray(np.where(keys & sign, keys ^ sign, ~keys), dtype=keys.dtype).view(dtype)
