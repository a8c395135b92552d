"""The greedy coreset beside the plainest way to compute it, and what it promises."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from train.coreset import greedy_coreset, project

# Whole numbers: float32 has their distances exactly, so that even ties must fall alike.
POINTS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 30), st.integers(1, 5)),
    elements=st.integers(-50, 50).map(float),
)


def unseen(steps: int) -> None:
    """Progress that nobody watches."""


def squared_distances(rows: np.ndarray) -> np.ndarray:
    """(N, N)."""
    return ((rows[:, None].astype(np.float64) - rows[None]) ** 2).sum(axis=2)


def naive(rows: np.ndarray, count: int) -> list[int]:
    """Each next row has the largest distance to its nearest chosen one."""
    apart = squared_distances(rows)
    chosen = [0]
    while len(chosen) < count:
        left = [row for row in range(len(rows)) if row not in chosen]
        chosen.append(max(left, key=lambda row: min(apart[row, c] for c in chosen)))
    return chosen


@settings(max_examples=60, deadline=None)
@given(POINTS, st.data())
def test_it_chooses_what_the_plain_loop_chooses(rows: np.ndarray, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(rows)))
    assert greedy_coreset(torch.from_numpy(rows), count, unseen).tolist() == naive(rows, count)


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(3, 9), st.just(2)), elements=st.integers(-9, 9).map(float)),
    st.integers(1, 3),
)
def test_no_row_is_twice_as_far_from_it_as_from_the_best_choice_there_is(
    rows: np.ndarray, count: int
) -> None:
    apart = np.sqrt(squared_distances(rows))
    best = min(apart[:, list(some)].min(axis=1).max() for some in combinations(range(len(rows)), count))
    chosen = greedy_coreset(torch.from_numpy(rows), count, unseen)
    assert apart[:, chosen.numpy()].min(axis=1).max() <= 2 * best + 1e-9


def test_more_rows_than_there_are_is_all_of_them_once_each() -> None:
    steps: list[int] = []
    chosen = greedy_coreset(torch.randn(7, 3), 20, steps.append)
    assert sorted(chosen.tolist()) == list(range(7))
    assert steps == [1] * 7


def test_a_chosen_row_is_never_chosen_again_where_all_are_alike() -> None:
    assert greedy_coreset(torch.full((6, 4), 3.25), 6, unseen).unique().numel() == 6


def test_it_begins_at_the_first_row_and_goes_to_the_farthest() -> None:
    rows = torch.tensor([[0.0], [1.0], [10.0], [-4.0]])
    assert greedy_coreset(rows, 3, unseen).tolist() == [0, 2, 3]


@pytest.mark.parametrize(("channels", "dimensions"), [(224, 128), (500, 128), (224, 64)])
def test_a_projection_nearly_keeps_distances(channels: int, dimensions: int) -> None:
    rows = torch.randn(120, channels, generator=torch.Generator().manual_seed(1))
    few = project(rows, dimensions, seed=3)
    assert few.shape == (120, dimensions)
    assert few.dtype == torch.float32
    ratio = torch.pdist(few) / torch.pdist(rows)
    # Its relative deviation is about √(1 / 2D): 0.06 at 128 dimensions.
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.05)
    assert float(ratio.std()) < 1.6 / (2 * dimensions) ** 0.5


def test_a_projection_follows_from_the_seed() -> None:
    rows = torch.randn(10, 40)
    assert torch.equal(project(rows, 8, seed=1), project(rows, 8, seed=1))
    assert not torch.equal(project(rows, 8, seed=1), project(rows, 8, seed=2))


@pytest.mark.parametrize("dimensions", [None, 40, 41])
def test_what_would_not_be_fewer_dimensions_is_left_as_it_is(dimensions: int | None) -> None:
    rows = torch.randn(10, 40)
    assert project(rows, dimensions, seed=0) is rows
