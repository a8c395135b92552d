"""The figures of a split and of each type of defect, against the metrics one by one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import ConfigError
from tests.train.metric_images import blob_split
from train.metrics import (
    Judged,
    aupro,
    aupro_legacy,
    image_auroc,
    intervals,
    legacy_figures,
    pixel_auroc,
    pixel_figures,
    resize_map,
    resize_mask,
    resized_figures,
)

KINDS = (None, "dent", None, "hole")
"""Of image i, the i-th of these, again and again; those with a defect are marked."""


def judged(seed: int, images: int = 16, height: int = 48, width: int = 40) -> Judged:
    masks, maps = blob_split(seed, images, height, width)
    kinds = [KINDS[i % 4] for i in range(images)]
    scores = np.random.default_rng(seed).normal(size=images) + [
        0.0 if kind is None else 1.0 for kind in kinds
    ]
    return Judged(kinds, scores.tolist(), masks, maps, [bool(m.any()) for m in masks])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_one_ranking_gives_what_each_metric_gives(seed: int) -> None:
    split = judged(seed)
    areas, found = aupro(split.masks, split.maps), pixel_figures(split)
    assert found is not None
    assert (found.aupro_30, found.aupro_5, found.aupro_1) == (areas[0.3], areas[0.05], areas[0.01])
    assert found.p_auroc == pixel_auroc(split.masks, split.maps)


def test_a_type_is_judged_with_all_good_parts_and_no_other_type() -> None:
    split = judged(1)
    rows = [i for i in range(16) if i % 4 != 3]  # the good ones and the dents
    masks, maps = [split.masks[i] for i in rows], [split.maps[i] for i in rows]
    found = split.type_figures("dent", legacy=True)
    areas, published = aupro(masks, maps), aupro_legacy(masks, maps)
    assert found.defective == 4
    assert found.i_auroc == image_auroc([i % 4 == 1 for i in rows], [split.scores[i] for i in rows])
    assert (found.aupro_30, found.aupro_5, found.aupro_1) == (areas[0.3], areas[0.05], areas[0.01])
    assert found.p_auroc == pixel_auroc(masks, maps)
    assert found.legacy is not None
    assert found.legacy.aupro_30 == published[0.3]


def test_the_figures_at_224_are_those_of_what_was_resized() -> None:
    split = judged(2, height=300, width=260)
    masks, maps = [resize_mask(m) for m in split.masks], [resize_map(m) for m in split.maps]
    found, published = resized_figures(split), legacy_figures(split)
    assert found is not None
    assert published is not None
    assert published.at_224 is not None
    areas = aupro(masks, maps)
    assert (found.aupro_30, found.aupro_5, found.aupro_1) == (areas[0.3], areas[0.05], areas[0.01])
    assert found.p_auroc == pixel_auroc(masks, maps)
    assert published.at_224.aupro_5 == aupro_legacy(masks, maps)[0.05]


def test_of_smooth_maps_and_large_defects_the_resolution_moves_little() -> None:
    split = judged(2, height=300, width=260)
    smooth = [cv2.GaussianBlur(m, (0, 0), 4) for m in split.maps]
    split = Judged(split.defects, split.scores, split.masks, smooth, split.marked)
    small, whole = resized_figures(split), pixel_figures(split)
    assert small is not None
    assert whole is not None
    assert (small.components, small.components_lost) == (whole.components, 0)
    assert small.p_auroc == pytest.approx(whole.p_auroc, abs=2e-3)
    assert small.aupro_30 == pytest.approx(whole.aupro_30, abs=5e-3)


def test_frames_of_224_have_the_same_figures_at_both() -> None:
    split = judged(3, images=4, height=224, width=224)
    small, whole = resized_figures(split), pixel_figures(split)
    assert small is not None
    assert whole is not None
    assert small.model_dump(exclude={"components_lost"}) == whole.model_dump()


def test_a_defective_part_without_ground_truth_counts_for_no_pixel() -> None:
    split = judged(4)
    masks = [np.zeros_like(m) if i == 1 else m for i, m in enumerate(split.masks)]
    partly = Judged(split.defects, split.scores, masks, split.maps, [bool(m.any()) for m in masks])
    rows = [i for i in range(16) if i != 1]
    found = pixel_figures(partly.with_ground_truth())
    assert found is not None
    assert found.aupro_30 == aupro([masks[i] for i in rows], [split.maps[i] for i in rows])[0.3]
    assert intervals(partly, 40, 0).aupro_30 == intervals(partly, 40, 0).aupro_30


def test_nothing_marked_leaves_figures_of_images_alone() -> None:
    split = judged(5)
    masks = [np.zeros_like(m) for m in split.masks]
    bare = Judged(split.defects, split.scores, masks, split.maps, [False] * 16)
    assert (pixel_figures(bare), resized_figures(bare), legacy_figures(bare)) == (None, None, None)
    kind = bare.type_figures("hole", legacy=True)
    assert (kind.p_auroc, kind.aupro_30, kind.aupro_5, kind.aupro_1, kind.at_224) == (None,) * 5
    assert kind.i_auroc == split.type_figures("hole", legacy=False).i_auroc
    found = intervals(bare, 100, 0)
    assert (found.aupro_30, found.aupro_5, found.aupro_1) == (None, None, None)
    assert found.i_auroc.low < found.i_auroc.high


def test_defects_that_vanish_at_224_have_no_figure_there() -> None:
    masks = [np.zeros((448, 448), dtype=bool) for _ in range(2)]
    masks[1][100, 10:60] = True  # pixel i at 224 shows row 2i + 1
    maps = [np.random.default_rng(i).random((448, 448), dtype=np.float32) for i in range(2)]
    split = Judged([None, "scratch"], [0.0, 1.0], masks, maps, [False, True])
    published = legacy_figures(split)
    assert pixel_figures(split) is not None
    assert resized_figures(split) is None
    assert published is not None
    assert published.at_224 is None


def test_intervals_hold_the_figures_and_follow_the_seed() -> None:
    split = judged(6, images=40)
    found, pixels = intervals(split, 300, 7), pixel_figures(split)
    assert pixels is not None
    assert found == intervals(split, 300, 7)
    assert found != intervals(split, 300, 8)
    assert found.i_auroc.low < image_auroc(split.labels, split.scores) < found.i_auroc.high
    for name in ("aupro_30", "aupro_5", "aupro_1"):
        between = getattr(found, name)
        assert between.low < getattr(pixels, name) < between.high
    with pytest.raises(ConfigError, match="resamples"):
        intervals(split, 3, 0)
