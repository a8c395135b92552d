"""AUPRO as the published evaluation code samples it, to stand beside published tables; `aupro` is exact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from edge.errors import ConfigError, DatasetError
from train.metrics.checks import Mask, ScoreMap, check_limits, check_pair, check_same_length
from train.metrics.localisation import AUPRO_LIMITS, area_up_to
from train.metrics.quantiles import good_scores_at
from train.metrics.ranking import component_sizes

__all__ = ["aupro_legacy"]


def aupro_legacy(
    masks: Sequence[Mask],
    maps: Sequence[ScoreMap],
    limits: Iterable[float] = AUPRO_LIMITS,
    thresholds: int = 100,
) -> dict[float, float]:
    """AUPRO from thresholds at equidistant ranks of the good pixels' scores, as published tables use it.

    Of n sorted scores of good pixels, the one at position p is a threshold for each of `thresholds` positions
    p spread evenly over 0 … n − 1 and rounded down; a pixel is normal where its score is at most the
    threshold; FPR is taken from the rank as 1 − (p + 1)/n, which is wrong under ties; (1, 1) is added.
    The evaluation code of MVTec 3D-AD, and after it the code of BTF and M3DM (100) and CFM (99).

    `masks` bool (H, W), `maps` float (H, W) of one dtype, one per image. Returns limit → AUPRO. The maps are
    gone through three times, one image at a time: memory stays bounded as with `rank_pixels`. Raises
    `ConfigError` for a limit outside (0, 1] or fewer than two thresholds, `DatasetError` as `rank_pixels`.
    """
    checked = check_limits(limits)
    if thresholds < 2:
        raise ConfigError(f"{thresholds} thresholds make no curve; the published code has 100")
    check_same_length(masks, maps, "maps")
    good_pixels, regions = _collect(masks, maps)

    positions = np.linspace(0, good_pixels - 1, num=thresholds, dtype=np.int64)  # (T,)
    cuts = good_scores_at(masks, maps, positions)  # (T,)
    pro = np.zeros(thresholds)
    for region in regions:
        region.sort()
        pro += 1.0 - np.searchsorted(region, cuts, side="right") / region.size
    pro /= len(regions)
    fpr = 1.0 - (positions + 1) / good_pixels  # (T,)
    # From the highest threshold down, so that fpr rises from 0.
    fpr, pro = np.append(fpr[::-1], 1.0), np.append(pro[::-1], 1.0)  # (T + 1,)
    return {limit: area_up_to(fpr, pro, limit) for limit in checked}


def _collect(masks: Sequence[Mask], maps: Sequence[ScoreMap]) -> tuple[int, list[ScoreMap]]:
    """The number of good pixels, and the scores of each component of the ground truth, a list of (|C|,)."""
    good_pixels = 0
    regions: list[ScoreMap] = []
    for index, (mask, score_map) in enumerate(zip(masks, maps, strict=True)):
        check_pair(mask, score_map, index)
        if score_map.dtype != maps[0].dtype:
            raise DatasetError(
                f"image {index}: map is {score_map.dtype}, the first is {maps[0].dtype}; give all as one "
                "dtype: the thresholds are scores of all images ranked together"
            )
        good_pixels += mask.size - int(np.count_nonzero(mask))
        if mask.any():
            labels, sizes = component_sizes(mask)  # (H, W), (K + 1,)
            regions.extend(_split(score_map[mask], labels[mask], sizes))
    if not regions or good_pixels == 0:
        raise DatasetError(
            f"{len(masks)} masks hold {len(regions)} defects and {good_pixels} good pixels; AUPRO needs "
            "both: add defective test images, and check that the masks were read and are not inverted"
        )
    return good_pixels, regions


def _split(scores: ScoreMap, labels: npt.NDArray[np.int32], sizes: npt.NDArray[np.int64]) -> list[ScoreMap]:
    order = np.argsort(labels, kind="stable")
    return np.split(scores[order], np.cumsum(sizes[1:-1]))
