"""Defects change what they should, where they should, and nothing else; on any relief."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import ConfigError, FrameError
from edge.simulation.defects import DEFECTS, apply_defect
from edge.simulation.relief import Relief


def slab(shape: tuple[int, int] = (200, 260), cell_m: float = 0.4e-3, height_m: float = 8e-3) -> Relief:
    """A flat part with a rim of tray around it, on a grid like the pixels of a real frame."""
    solid = np.zeros(shape, dtype=np.bool_)
    solid[30:-30, 40:-40] = True
    height = np.where(solid, np.float32(height_m), np.float32(0))
    albedo = np.full((*shape, 3), 0.4, dtype=np.float32)
    gloss = np.full(shape, 0.1, dtype=np.float32)
    return Relief(height_m=height, solid=solid, albedo=albedo, gloss=gloss, cell_m=cell_m)


def spoilt(kind: str, seed: int, severity: float = 1.0) -> tuple[Relief, Relief]:
    good = slab()
    return good, apply_defect(kind, good, np.random.default_rng(seed), severity)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(DEFECTS), seed=st.integers(0, 2**32))
def test_every_defect_changes_the_part_and_leaves_the_good_one_alone(kind: str, seed: int) -> None:
    good, bad = spoilt(kind, seed)
    changed = (good.height_m != bad.height_m) | (good.albedo != bad.albedo).any(axis=2)
    assert changed.any()
    assert (changed & good.solid).any()
    assert changed.mean() < 0.25
    np.testing.assert_array_equal(good.height_m, slab().height_m)
    assert np.isfinite(bad.height_m).all()
    assert (bad.height_m >= 0).all()
    assert ((bad.albedo > 0) & (bad.albedo <= 1)).all()
    assert bad.height_m.dtype == bad.albedo.dtype == bad.gloss.dtype == np.float32
    assert (bad.height_m[~bad.solid] == 0).all()


@pytest.mark.parametrize("kind", DEFECTS)
def test_the_same_random_numbers_give_the_same_defect(kind: str) -> None:
    (_, one), (_, two), (_, other) = spoilt(kind, 7), spoilt(kind, 7), spoilt(kind, 8)
    np.testing.assert_array_equal(one.height_m, two.height_m)
    np.testing.assert_array_equal(one.albedo, two.albedo)
    assert not np.array_equal(one.height_m, other.height_m)


@pytest.mark.parametrize("seed", range(8))
def test_a_dent_is_a_depression_of_the_stated_size(seed: int) -> None:
    good, bad = spoilt("dent", seed)
    depth = good.height_m - bad.height_m
    assert depth.min() >= 0
    assert 1.4e-3 < depth.max() < 4.1e-3
    area_mm2 = float((depth > 0.1e-3).sum()) * 0.4 * 0.4
    assert 12 < area_mm2 < np.pi * 8 * 8
    np.testing.assert_array_equal(good.albedo, bad.albedo)


@pytest.mark.parametrize("seed", range(8))
def test_a_perforation_goes_through(seed: int) -> None:
    good, bad = spoilt("perforation", seed)
    through = good.solid & ~bad.solid
    assert 3 < float(through.sum()) * 0.4 * 0.4 < 32
    assert (bad.height_m[through] == 0).all()
    assert (bad.albedo[through] < 0.05).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_crack_is_dark_thin_and_long(seed: int) -> None:
    good, bad = spoilt("crack", seed)
    dark = bad.albedo[..., 0] < good.albedo[..., 0] * 0.7
    assert dark.any()
    rows, columns = np.nonzero(dark)
    extent_mm = np.hypot(np.ptp(rows), np.ptp(columns)) * 0.4
    assert extent_mm > 4
    assert dark.sum() * 0.4 * 0.4 / extent_mm < 2.5  # mean width in mm
    assert (bad.albedo <= good.albedo).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_scratch_is_shallow_and_seen_by_its_colour(seed: int) -> None:
    good, bad = spoilt("scratch", seed)
    assert np.abs(good.height_m - bad.height_m).max() < 0.25e-3
    assert np.abs(np.sqrt(bad.albedo) - np.sqrt(good.albedo)).max() > 0.1


@pytest.mark.parametrize("kind", ["foreign_same", "foreign_other"])
@pytest.mark.parametrize("seed", range(8))
def test_a_foreign_body_lies_on_top(kind: str, seed: int) -> None:
    good, bad = spoilt(kind, seed)
    rise = bad.height_m - good.height_m
    body = rise > 0.1e-3
    assert rise.min() >= 0
    # Where it hangs over the edge it rises from the tray.
    assert 1.5e-3 < rise[good.solid].max() < 7e-3
    difference = np.abs(np.sqrt(bad.albedo[body]).mean(axis=0) - np.sqrt(0.4))
    assert (difference.max() > 0.2) == (kind == "foreign_other")


@pytest.mark.parametrize("kind", DEFECTS)
def test_severity_makes_it_larger(kind: str) -> None:
    def changed(severity: float) -> float:
        total = 0.0
        for seed in range(6):
            good, bad = spoilt(kind, seed, severity)
            total += float(np.abs(good.height_m - bad.height_m).sum())
            total += float(np.abs(good.albedo - bad.albedo).sum()) * 1e-3
        return total

    assert changed(0.4) < changed(1.0) < changed(2.5)


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"rust.*dent, crack"):
        apply_defect("rust", slab(), np.random.default_rng(0))


@pytest.mark.parametrize("severity", [0.0, -1.0, float("nan")])
def test_a_severity_that_is_not_positive_is_refused(severity: float) -> None:
    with pytest.raises(ConfigError, match="severity"):
        apply_defect("dent", slab(), np.random.default_rng(0), severity)


def test_a_relief_without_a_part_is_refused() -> None:
    empty = slab(shape=(60, 80))
    assert not empty.solid.any()
    with pytest.raises(FrameError, match="no part"):
        apply_defect("dent", empty, np.random.default_rng(0))


def test_arrays_that_do_not_fit_are_refused() -> None:
    good = slab()
    with pytest.raises(FrameError, match="must cover one"):
        Relief(good.height_m[:-1], good.solid, good.albedo, good.gloss, good.cell_m)
    with pytest.raises(FrameError, match="cell_m"):
        Relief(good.height_m, good.solid, good.albedo, good.gloss, 0.0)
