"""Maps made on demand: the same each time, kept up to a limit, and not all at once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.framing import View
from edge.scoring import ScoreSpec, smooth_map
from train.maps import MadeMaps, PackedMasks, StoredMap, pack
from train.metrics import rank_pixels

SCORE = ScoreSpec(smoothing_px=2.0)


def stored(count: int, side: int = 96, width: int = 400, height: int = 300) -> list[StoredMap]:
    maps = []
    for index in range(count):
        rng = np.random.default_rng(index)
        foreground = np.zeros((side, side), dtype=bool)
        foreground[side // 4 : side // 2 + index % 8, 10:-10] = True
        view = View((width / 2, height / 2), (200.0, 200.0), 5.0 * index)
        maps.append(StoredMap(rng.random((12, 12), dtype=np.float32), pack(foreground), view, width, height))
    return maps


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40))
def test_a_mask_comes_back_as_it_was_packed(seed: int, height: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.3
    back = PackedMasks([pack(mask), pack(~mask)])
    np.testing.assert_array_equal(back[0], mask)
    np.testing.assert_array_equal(back[-1], ~mask)
    assert [one.dtype for one in back[:1]] == [np.bool_]


def test_a_map_is_what_the_device_shows_laid_into_the_frame() -> None:
    for one, made in zip(stored(3), MadeMaps(stored(3), SCORE), strict=True):
        square = smooth_map(one.cells, one.foreground.unpack(), SCORE)
        np.testing.assert_array_equal(made, one.view.give_back(square, 400, 300))
        assert (made.dtype, made.shape) == (np.float32, (300, 400))


@pytest.mark.parametrize("kept_maps", [0, 2, 100])
def test_the_limit_changes_nothing_but_what_is_kept(kept_maps: int) -> None:
    limited = MadeMaps(stored(5), SCORE, kept_bytes=kept_maps * 300 * 400 * 4)
    free = MadeMaps(stored(5), SCORE)
    for _ in range(2):
        for index in (4, 0, 3, -2, 1):
            np.testing.assert_array_equal(limited[index], free[index])
    assert [limited[i] is limited[i] for i in (4, 0, 3, 1)] == [i < kept_maps for i in range(4)]
    assert len(limited[1:4]) == 3
    np.testing.assert_array_equal(limited[1:4][2], free[3])
    with pytest.raises(IndexError):
        limited[5]
    with pytest.raises(ValueError, match="read-only"):
        free[0][:] = 0  # a kept map is everybody's


def test_ranking_many_maps_holds_few() -> None:
    count, bytes_of_all = 100, 100 * 300 * 400 * 4
    maps = MadeMaps(stored(count), SCORE, kept_bytes=4 << 20)
    mask = np.zeros((300, 400), dtype=bool)
    mask[100:110, 100:120] = True
    masks = PackedMasks([pack(mask)] * count)
    tracemalloc.start()
    try:
        rank_pixels(masks, maps, chunk_pixels=1 << 19)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < bytes_of_all / 2
