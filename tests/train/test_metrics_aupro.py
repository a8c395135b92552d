"""AUPRO against cases that can be worked out by hand, and against the definition, threshold by threshold."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from edge.errors import ConfigError, DatasetError
from train.metrics import aupro, pro_curve, rank_pixels

Images = tuple[list[npt.NDArray[np.bool_]], list[npt.NDArray[np.float32]]]

LIMITS = (1.0, 0.3, 0.05, 0.01)


def aupro_by_definition(
    masks: Sequence[npt.NDArray[np.bool_]], maps: Sequence[npt.NDArray[np.float32]], limit: float
) -> Fraction:
    """The paper's definition in exact fractions: every distinct score in turn is the threshold."""
    regions = []  # (image, (H, W) bool) per component
    for image, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(image, labels == k) for k in range(1, count + 1)]
    good_pixels = sum(int((~mask).sum()) for mask in masks)
    points = [(Fraction(0), Fraction(0))]
    for threshold in sorted({float(v) for m in maps for v in m.ravel()}, reverse=True):
        predicted = [m >= threshold for m in maps]
        false_positives = sum(int((p & ~mask).sum()) for p, mask in zip(predicted, masks, strict=True))
        overlaps = [Fraction(int((predicted[i] & c).sum()), int(c.sum())) for i, c in regions]
        points.append((Fraction(false_positives, good_pixels), sum(overlaps, Fraction(0)) / len(overlaps)))
    assert points[-1] == (Fraction(1), Fraction(1))  # the lowest score predicts everything

    end, area = Fraction(limit), Fraction(0)
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= end or x0 == x1:
            continue
        x = min(x1, end)
        y = y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        area += (x - x0) * (y0 + y) / 2
    return area / end


@st.composite
def images(draw: st.DrawFn, scores: int = 5) -> Images:
    """One to four images of different sizes up to 7 × 7, integer scores with many ties."""
    masks, maps = [], []
    for _ in range(draw(st.integers(1, 4))):
        height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
        count = height * width
        bits = draw(st.lists(st.booleans(), min_size=count, max_size=count))
        values = draw(st.lists(st.integers(0, scores - 1), min_size=count, max_size=count))
        masks.append(np.array(bits).reshape(height, width))
        maps.append(np.array(values, dtype=np.float32).reshape(height, width))
    total = sum(int(m.sum()) for m in masks)
    assume(0 < total < sum(m.size for m in masks))
    return masks, maps


@settings(max_examples=300, deadline=None)
@given(images(), st.integers(1, 60))
def test_it_is_the_papers_definition_with_many_ties(data: Images, chunk_pixels: int) -> None:
    masks, maps = data
    found = aupro(masks, maps, LIMITS)
    assert tuple(found) == LIMITS
    for limit, value in found.items():
        assert value == pytest.approx(float(aupro_by_definition(masks, maps, limit)), abs=1e-12)
    # and however the good pixels are cut into chunks, the counts are the same
    whole, cut = rank_pixels(masks, maps), rank_pixels(masks, maps, chunk_pixels)
    np.testing.assert_array_equal(cut.good_above, whole.good_above)
    np.testing.assert_array_equal(cut.good_at_or_above, whole.good_at_or_above)


@settings(max_examples=60, deadline=None)
@given(images(scores=1000))
def test_it_is_the_papers_definition_with_few_ties(data: Images) -> None:
    masks, maps = data
    for limit, value in aupro(masks, maps, LIMITS).items():
        assert value == pytest.approx(float(aupro_by_definition(masks, maps, limit)), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(images())
def test_a_strictly_rising_function_of_the_scores_changes_nothing(data: Images) -> None:
    masks, maps = data
    risen = [np.exp(m.astype(np.float64)) * 1e-30 - 5e-31 for m in maps]
    assert aupro(masks, risen, LIMITS) == aupro(masks, maps, LIMITS)


@settings(max_examples=100, deadline=None)
@given(images(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_changes_nothing(data: Images, random: object) -> None:
    masks, maps = data
    order = list(range(len(masks)))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis has no public type for it
    assert aupro([masks[i] for i in order], [maps[i] for i in order], LIMITS) == aupro(masks, maps, LIMITS)


@settings(max_examples=100, deadline=None)
@given(images())
def test_the_curve_runs_from_0_0_to_1_1_and_never_falls(data: Images) -> None:
    curve = pro_curve(*data)
    assert (curve.fpr[0], curve.pro[0], curve.fpr[-1], curve.pro[-1]) == (0, 0, 1, 1)
    assert (np.diff(curve.fpr) >= 0).all()
    assert (np.diff(curve.pro) >= 0).all()


def two_blobs() -> npt.NDArray[np.bool_]:
    """20 × 20 with a component of 1 pixel and one of 100 pixels: 299 good pixels."""
    mask = np.zeros((20, 20), dtype=bool)
    mask[0, 0] = True
    mask[5:15, 5:15] = True
    return mask


def test_a_perfect_map_has_1() -> None:
    mask = two_blobs()
    assert aupro([mask], [mask.astype(np.float32)], LIMITS) == dict.fromkeys(LIMITS, 1.0)


def test_a_constant_map_has_half_the_limit() -> None:
    # One distinct score: everything crosses at once, a straight line from (0, 0) to (1, 1), whose mean
    # over [0, L] is L/2.
    mask = two_blobs()
    found = aupro(
        [mask, np.zeros((3, 4), dtype=bool)], [np.full((20, 20), 7.5), np.full((3, 4), 7.5)], LIMITS
    )
    assert found == pytest.approx({limit: limit / 2 for limit in LIMITS}, abs=1e-15)


def test_an_inverted_map_has_0() -> None:
    # All good pixels cross first: along the axis to (1, 0), then straight up. No area at any limit.
    mask = two_blobs()
    assert aupro([mask], [1.0 - mask.astype(np.float32)], LIMITS) == dict.fromkeys(LIMITS, 0.0)


def test_half_of_one_component_found_has_one_half() -> None:
    # Half of the component stands above every good pixel, the other half below: level at 1/2 throughout.
    mask = np.zeros((6, 6), dtype=bool)
    mask[1:3, 1:3] = True
    score_map = np.where(mask, 0.0, np.arange(1, 37).reshape(6, 6)).astype(np.float32)
    score_map[1, 1:3] = 100.0
    assert aupro([mask], [score_map], LIMITS) == pytest.approx(dict.fromkeys(LIMITS, 0.5), abs=1e-15)


@pytest.mark.parametrize("found", [(0, 0), (10, 10)])
def test_a_component_counts_the_same_whatever_its_size(found: tuple[int, int]) -> None:
    # One of two components is found whole and the other not at all: 1/2, be it the one of 1 pixel or of 100.
    mask = two_blobs()
    labels, _ = ndimage.label(mask)
    score_map = np.where(mask, -1.0, np.linspace(0, 1, 400).reshape(20, 20)).astype(np.float32)
    score_map[labels == labels[found]] = 2.0
    assert aupro([mask], [score_map], LIMITS) == pytest.approx(dict.fromkeys(LIMITS, 0.5), abs=1e-15)


def test_pixels_that_touch_at_a_corner_are_one_component() -> None:
    # (0, 0) and (1, 1) touch at a corner: with (4, 4) they are two components, of which one is found: 1/2.
    # Counted by edges alone they would be three, two of them found: 2/3.
    mask = np.zeros((5, 5), dtype=bool)
    mask[[0, 1, 4], [0, 1, 4]] = True
    score_map = np.arange(25, dtype=np.float32).reshape(5, 5)
    score_map[[0, 1, 4], [0, 1, 4]] = 99, 99, -1
    assert rank_pixels([mask], [score_map]).components == 2
    assert aupro([mask], [score_map])[0.3] == pytest.approx(0.5, abs=1e-15)


@pytest.mark.parametrize("good_images", [0, 1, 9])
def test_pixels_of_good_images_count_as_false_positives(good_images: int) -> None:
    # 3 good pixels outscore the one defect pixel, the other 96 of its image and all of the good images
    # don't. So PRO jumps from 0 to 1 at F = 3 / (99 + 100·g): AUPRO = (L − F) / L, or 0 where F > L.
    mask = np.zeros((10, 10), dtype=bool)
    mask[4, 4] = True
    score_map = np.zeros((10, 10), dtype=np.float32)
    score_map[4, 4] = 1.0
    score_map[0, :3] = 2.0
    masks = [mask] + [np.zeros((10, 10), dtype=bool)] * good_images
    maps = [score_map] + [np.zeros((10, 10), dtype=np.float32)] * good_images
    jump = 3 / (99 + 100 * good_images)
    expected = {limit: max(0.0, limit - jump) / limit for limit in LIMITS}
    assert aupro(masks, maps, LIMITS) == pytest.approx(expected, abs=1e-14)


def test_a_limit_inside_a_tie_is_met_on_the_straight_line() -> None:
    # The defect pixel shares the top score with 5 of the 10 good ones: a line from (0, 0) to (1/2, 1), then
    # level. At 0.3 it has reached 0.6, mean 0.3; over [0, 1] the area is 1/4 + 1/2.
    mask = np.zeros((1, 11), dtype=bool)
    mask[0, 0] = True
    score_map = np.array([[1.0] * 6 + [0.0] * 5], dtype=np.float32)
    found = aupro([mask], [score_map], (0.3, 1.0))
    assert found == pytest.approx({0.3: 0.3, 1.0: 0.75}, abs=1e-15)


def test_float64_scores_that_float32_can_not_tell_apart_stay_apart() -> None:
    # The good image alone is float64; rounded to float32 its score would tie with the defect's.
    mask = np.array([[True, False]])
    defective = np.array([[1.0, 0.0]], dtype=np.float32)
    good = np.full((1, 2), 1.0 + 1e-12)
    # both pixels of the good image outscore the defect: PRO jumps at 2/3
    found = aupro([mask, np.zeros((1, 2), dtype=bool)], [defective, good], (1.0,))
    assert found[1.0] == pytest.approx(1 / 3, abs=1e-15)


def test_a_fortran_ordered_mask_is_read_like_any_other() -> None:
    rng = np.random.default_rng(3)
    mask, score_map = rng.random((9, 14)) < 0.3, rng.random((9, 14), dtype=np.float32)
    assert aupro([np.asfortranarray(mask)], [np.asfortranarray(score_map)]) == aupro([mask], [score_map])


def test_it_stays_exact_over_a_million_defect_pixels() -> None:
    # 15 × 15 = 225 squares of 67 × 67 pixels, all scores distinct, every good pixel between the upper and
    # the lower half of the defect pixels: PRO lies level at h, the mean share of the upper half.
    mask = np.zeros((1100, 1100), dtype=bool)
    for row in range(15):
        for column in range(15):
            mask[row * 70 : row * 70 + 67, column * 70 : column * 70 + 67] = True
    count = int(mask.sum())
    order = np.random.default_rng(0).permutation(count)
    upper = order >= count // 2
    score_map = np.zeros(mask.shape, dtype=np.float32)
    score_map[mask] = np.where(upper, order + 1, order - count)
    labels, _ = ndimage.label(mask)
    hits = np.bincount(labels[mask][upper], minlength=226)[1:]
    expected = Fraction(int(hits.sum()), 67 * 67 * 225)
    assert aupro([mask], [score_map])[0.01] == pytest.approx(float(expected), abs=1e-12)


class ImagesOnDemand(Sequence[npt.NDArray[np.float32]]):
    """Maps (or masks) that are made when they are asked for, as a folder of .npy files would be."""

    def __init__(self, count: int, *, masks: bool) -> None:
        self._count, self._masks = count, masks

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> npt.NDArray[np.float32]:  # type: ignore[override]  # no slices
        if index >= self._count:
            raise IndexError(index)
        score_map = np.random.default_rng(index).random((300, 300), dtype=np.float32)
        return score_map > 0.999 if self._masks else score_map  # type: ignore[return-value]  # one class, both

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        return (self[i] for i in range(self._count))


def test_memory_is_bounded_by_a_few_images_not_by_the_data_set() -> None:
    peaks = {}
    for count in (10, 60):
        masks, maps = ImagesOnDemand(count, masks=True), ImagesOnDemand(count, masks=False)
        tracemalloc.start()
        rank_pixels(masks, maps, chunk_pixels=100_000)  # type: ignore[arg-type]  # one class, both
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    image_bytes = 300 * 300 * 4
    assert peaks[60] - peaks[10] < 3 * image_bytes  # of 50 images more


GOOD_MASK = np.zeros((4, 5), dtype=bool)
BAD_MASK = np.eye(4, 5, dtype=bool)
MAP = np.arange(20, dtype=np.float32).reshape(4, 5)
NAN_MAP = np.where(np.arange(20).reshape(4, 5) == 7, np.nan, MAP).astype(np.float32)
INF_MAP = np.where(np.arange(20).reshape(4, 5) == 7, np.inf, MAP).astype(np.float32)


@pytest.mark.parametrize(
    ("masks", "maps", "message"),
    [
        ([], [], "no masks"),
        ([BAD_MASK], [MAP, MAP], "1 masks but 2 maps"),
        ([GOOD_MASK, GOOD_MASK], [MAP, MAP], "none of the 2 masks has a defect pixel"),
        ([~GOOD_MASK], [MAP], "every pixel of all 1 masks is a defect"),
        ([BAD_MASK, GOOD_MASK], [MAP, NAN_MAP], r"image 1: 1 of 20 scores .* row 1, column 2"),
        ([BAD_MASK, GOOD_MASK], [INF_MAP, MAP], r"image 0: 1 of 20 scores .* row 1, column 2"),
        ([BAD_MASK, GOOD_MASK], [MAP, MAP[:3]], r"image 1: map is float32\(3, 5\), mask is \(4, 5\)"),
        ([BAD_MASK], [MAP.astype(np.int32)], "image 0: map is int32"),
        ([BAD_MASK.astype(np.uint8)], [MAP], "image 0: mask is uint8"),
        ([BAD_MASK[:, :, None]], [MAP[:, :, None]], r"image 0: mask is bool\(4, 5, 1\)"),
    ],
)
def test_what_can_not_be_ranked_is_refused_by_name(masks: list, maps: list, message: str) -> None:  # type: ignore[type-arg]  # wrong on purpose
    with pytest.raises(DatasetError, match=message):
        aupro(masks, maps)


@pytest.mark.parametrize("limits", [(0.0,), (0.3, 1.5), (-0.1,), (float("nan"),), ()])
def test_a_limit_that_is_no_rate_is_refused(limits: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="limits"):
        aupro([BAD_MASK], [MAP], limits)
