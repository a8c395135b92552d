from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.framing import FramingConfig, Upright
from edge.preprocessing import ForegroundConfig, Preprocessing
from edge.simulation.dataset import write_lot
from edge.simulation.rig import RigScene
from train.datasets import open_dataset
from train.uprightness import best_of, choose_upright, difference_error, likeness

WHOLE = Preprocessing(
    framing=FramingConfig(mode="whole"),
    foreground=ForegroundConfig(part_threshold_m=0.004, mask_threshold_m=0.0035, closing_px=9, opening_px=7),
)


@pytest.mark.parametrize(("product", "expected"), [("plate", "axis"), ("lattice", "square")])
def test_a_products_own_axis_is_found(product: str, expected: Upright, tmp_path: Path) -> None:
    write_lot(RigScene(product, 5, defective_share=0.0), tmp_path / "lot", 8)
    samples = open_dataset(tmp_path / "lot", "captures", None, 0.2).train
    seen: list[int] = []
    way, found = choose_upright(samples, WHOLE, seen.append)
    assert way == expected
    assert found[way] > found["off"] + 0.1
    assert sum(seen) == len(samples)


def test_of_one_part_nothing_can_be_said(simulated: Path) -> None:
    samples = open_dataset(simulated / "train", "captures", None, 0.34).train[:1]
    assert choose_upright(samples, WHOLE, lambda n: None)[0] == "off"


@given(st.integers(2, 6), st.integers(0, 1000))
def test_likeness_is_the_mean_over_pairs(count: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [vectors[i] @ vectors[j] for i in range(count) for j in range(count) if i != j]
    assert likeness(list(vectors)) == pytest.approx(np.mean(pairs))


def _alike(count: int, noise: float, seed: int) -> list[np.ndarray]:
    """Unit vectors that look the more alike the less noise there is."""
    vectors = np.ones(64) + noise * np.random.default_rng(seed).normal(size=(count, 64))
    return list(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_a_way_that_is_better_by_chance_alone_is_not_taken() -> None:
    much = _alike(20, 2.0, 1)
    as_little, little = sorted((_alike(20, 0.5, seed) for seed in (3, 7)), key=likeness)
    assert 0 < likeness(little) - likeness(as_little) < difference_error(little, as_little)
    assert best_of({"off": much, "axis": as_little, "square": little}) == "axis"
    assert best_of({"off": as_little, "axis": little, "square": much}) == "off"
    assert best_of({"off": much, "axis": much, "square": little}) == "square"


@given(st.integers(3, 8), st.integers(0, 100))
def test_the_error_of_a_difference_is_the_jackknifes(count: int, seed: int) -> None:
    ours, theirs = _alike(count, 1.0, seed), _alike(count, 2.0, seed + 1)
    kept = [[j for j in range(count) if j != i] for i in range(count)]
    without = [likeness([ours[j] for j in k]) - likeness([theirs[j] for j in k]) for k in kept]
    squares = sum((d - np.mean(without)) ** 2 for d in without)
    assert difference_error(ours, theirs) == pytest.approx(np.sqrt((count - 1) / count * squares))
    assert difference_error(ours, ours) == 0.0
