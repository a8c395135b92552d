"""Where the scores of defect pixels stand among those of good pixels: all that the pixel metrics need.

A ROC or PRO curve rises only at scores that some defect pixel has; between two of them it runs level. So
the exact curve over every distinct score of the data set follows from counting, for each distinct score of
the *defect* pixels alone, the good pixels above it and at it. The good pixels (99 % of them all) are never
held at once: they pass by in chunks, and memory stays bounded whatever the number of images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import DatasetError
from train.metrics.checks import Mask, ScoreMap, check_pair, check_same_length

__all__ = ["CHUNK_PIXELS", "PixelRanking", "component_sizes", "good_pixel_chunks", "rank_pixels"]

CHUNK_PIXELS = 1 << 24
"""Good pixels that are sorted at once: 64 MB of float32."""


_ONE = 1 << 62  # a whole, in the integers that overlaps are summed in


@dataclass(frozen=True, slots=True, eq=False)
class PixelRanking:
    """Counts of pixels at each distinct score of the defect pixels, from the highest score down.

    `levels` (L,) the scores; `defect_count` int64 (L,) defect pixels with exactly this score; `overlap`
    float64 (L,) the per-region overlap with this score as threshold (PRO, mean over the components of
    |P∩C|/|C|, P = all pixels with at least this score); `good_above` and `good_at_or_above` int64 (L,) good
    pixels with a higher, and with at least this score; `good_pixels` and `components` are totals.
    """

    levels: ScoreMap
    defect_count: npt.NDArray[np.int64]
    overlap: npt.NDArray[np.float64]
    good_above: npt.NDArray[np.int64]
    good_at_or_above: npt.NDArray[np.int64]
    good_pixels: int
    components: int


def component_sizes(mask: Mask) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Labels of the 8-connected components of `mask`, and their sizes in pixels.

    Returns int32 (H, W), 0 outside and k inside component k, and int64 (components + 1,) whose entry k is
    the size of component k (entry 0 counts the pixels outside).
    """
    # cv2 needs C order; a transposed mask would keep Fortran order through astype.
    count, labels = cv2.connectedComponents(np.ascontiguousarray(mask, dtype=np.uint8), connectivity=8)
    labels_int32 = np.asarray(labels, dtype=np.int32)  # (H, W)
    return labels_int32, np.bincount(labels_int32.ravel(), minlength=count).astype(np.int64)


def rank_pixels(
    masks: Sequence[Mask], maps: Sequence[ScoreMap], chunk_pixels: int = CHUNK_PIXELS
) -> PixelRanking:
    """Rank the pixels of a category's test images, good and defective, against each other.

    `masks` bool (H, W) and `maps` float (H, W), one of each per image; images may differ in size. Both are
    gone through twice, one image at a time, so a sequence that reads from disk keeps memory bounded.
    `chunk_pixels` good pixels are sorted at once (more is faster); the result does not depend on it.

    Raises `DatasetError`, naming the image, for a map that doesn't fit its mask or holds a NaN or an
    infinity, and where there is no defect pixel or no good pixel at all.
    """
    check_same_length(masks, maps, "maps")
    scores, sizes, good_pixels, components = _defect_pixels(masks, maps)

    order = np.argsort(scores)[::-1]
    scores, sizes = scores[order], sizes[order]  # (P,) both, highest score first
    last_of_level = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # (L,)
    levels = scores[last_of_level]  # (L,)
    # Each pixel adds 1 / (K |C|). Summed as integers, the result depends neither on the order of the images
    # nor on that of tied pixels, and is off by P / 2**63 at most; a float64 sum of a million is off by 3e-12.
    shares = (_ONE + components * sizes // 2) // (components * sizes)  # (P,)
    overlap = np.minimum(np.cumsum(shares)[last_of_level] / _ONE, 1.0)  # (L,)
    overlap[-1] = 1.0  # it is, but for that rounding

    rising = levels[::-1]
    good_above = np.zeros(levels.shape, dtype=np.int64)
    good_at_or_above = np.zeros(levels.shape, dtype=np.int64)
    for chunk in good_pixel_chunks(masks, maps, chunk_pixels):
        chunk.sort()
        good_above += chunk.size - np.searchsorted(chunk, rising, side="right")[::-1]
        good_at_or_above += chunk.size - np.searchsorted(chunk, rising, side="left")[::-1]
    return PixelRanking(
        levels=levels,
        defect_count=np.diff(last_of_level, prepend=-1).astype(np.int64),
        overlap=overlap,
        good_above=good_above,
        good_at_or_above=good_at_or_above,
        good_pixels=good_pixels,
        components=components,
    )


def _defect_pixels(
    masks: Sequence[Mask], maps: Sequence[ScoreMap]
) -> tuple[ScoreMap, npt.NDArray[np.int64], int, int]:
    """Scores (P,) of all defect pixels, the size (P,) of the component of each; good pixels, components."""
    scores: list[ScoreMap] = []
    component_size: list[npt.NDArray[np.int64]] = []
    good_pixels = components = 0
    for index, (mask, score_map) in enumerate(zip(masks, maps, strict=True)):
        check_pair(mask, score_map, index)
        good_pixels += mask.size - int(np.count_nonzero(mask))
        if not mask.any():
            continue
        labels, sizes = component_sizes(mask)  # (H, W), (K + 1,)
        components += sizes.size - 1
        scores.append(score_map[mask])
        component_size.append(sizes[labels[mask]])
    if components == 0:
        raise DatasetError(
            f"none of the {len(masks)} masks has a defect pixel: there is nothing to localise; add defective "
            "test images, and check that their masks were read (any value above 0 is a defect)"
        )
    if good_pixels == 0:
        raise DatasetError(
            f"every pixel of all {len(masks)} masks is a defect: there is no false positive rate; "
            "are the masks inverted?"
        )
    return np.concatenate(scores), np.concatenate(component_size), good_pixels, components


def good_pixel_chunks(
    masks: Sequence[Mask], maps: Sequence[ScoreMap], chunk_pixels: int
) -> Iterator[ScoreMap]:
    """The scores of all good pixels, in arrays of at least `chunk_pixels` that belong to the caller."""
    parts: list[ScoreMap] = []
    gathered = 0
    for mask, score_map in zip(masks, maps, strict=True):
        parts.append(score_map[~mask])
        gathered += parts[-1].size
        if gathered >= chunk_pixels:
            yield np.concatenate(parts)
            parts, gathered = [], 0
    if gathered:
        yield np.concatenate(parts)
