from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.reduction import Reduction
from train.teacher import Teacher, TeacherConfig, masked_nll, positional_encoding


def awake(channels: int, cells: int, seed: int, config: TeacherConfig | None = None) -> Teacher:
    """A teacher in double precision whose subnets do something: they start at the identity (gamma = 0)."""
    torch.manual_seed(seed)
    teacher = Teacher(config or TeacherConfig(hidden=4, kernels=(3, 3)), channels, cells).double()
    for name, weight in teacher.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.normal_(weight, std=0.7)
        elif weight.requires_grad:
            weight.data += 0.2 * torch.randn_like(weight)
    return teacher.eval()


flows = st.builds(
    TeacherConfig,
    hidden=st.integers(1, 6),
    kernels=st.lists(st.sampled_from([1, 3, 5]), min_size=1, max_size=4).map(tuple),
    clamp=st.floats(0.1, 3.0),
)


@settings(max_examples=40, deadline=None)
@given(flows, st.integers(2, 9), st.integers(1, 6), st.integers(0, 1000))
def test_the_inverse_gives_back_what_went_in(
    config: TeacherConfig, channels: int, cells: int, seed: int
) -> None:
    teacher = awake(channels, cells, seed, config)
    x = torch.randn(2, channels, cells, cells, dtype=torch.float64)
    with torch.no_grad():
        z = teacher(x)
        assert torch.allclose(teacher.inverse(z), x, rtol=1e-7, atol=1e-7)
        assert torch.allclose(teacher(teacher.inverse(x)), x, rtol=1e-7, atol=1e-7)
        assert not torch.allclose(z.sort(dim=1).values, x.sort(dim=1).values)  # more than a permutation


@settings(max_examples=20, deadline=None)
@given(flows, st.integers(2, 4), st.integers(1, 3), st.integers(0, 1000))
def test_the_log_determinants_of_the_cells_add_up_to_that_of_the_whole_map(
    config: TeacherConfig, channels: int, cells: int, seed: int
) -> None:
    teacher = awake(channels, cells, seed, config)
    x = torch.randn(1, channels, cells, cells, dtype=torch.float64)
    with torch.no_grad():
        z, per_cell = teacher.forward_with_jacobian(x)
    jacobian = torch.autograd.functional.jacobian(teacher, x).reshape(x.numel(), x.numel())
    brute = float(torch.linalg.slogdet(jacobian)[1])
    assert per_cell.shape == (1, cells, cells)
    assert float(per_cell.sum()) == pytest.approx(brute, abs=1e-8)
    everywhere = torch.ones(1, 1, cells, cells, dtype=torch.float64)
    likelihood = float(0.5 * z.square().sum()) - brute
    assert float(masked_nll(z, per_cell, everywhere)) == pytest.approx(
        likelihood / (cells * cells * channels)
    )


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from(["foreground", "cells"]),
    st.sampled_from(["mean", "sum"]),
    st.booleans(),
)
def test_the_masked_likelihood_is_that_of_the_cells_in_the_mask(
    seed: int, average: str, over: str, soft: bool
) -> None:
    """With 1×1 kernels no cell sees another: the Jacobian falls into one block for each, det by det."""
    channels, cells = 3, 3
    teacher = awake(channels, cells, seed, TeacherConfig(hidden=3, kernels=(1, 1, 1)))
    x = torch.randn(1, channels, cells, cells, dtype=torch.float64)
    mask = torch.rand(1, 1, cells, cells, dtype=torch.float64)
    if not soft:
        mask = (mask > 0.5).double()
        mask[..., 0, 0] = 1
    with torch.no_grad():
        z, per_cell = teacher.forward_with_jacobian(x)
    jacobian = torch.autograd.functional.jacobian(teacher, x)[0, :, :, :, 0]  # (C, m, m, C, m, m)
    total = 0.0
    for row in range(cells):
        for column in range(cells):
            block = jacobian[:, row, column, :, row, column]  # (C, C)
            log_det = float(torch.linalg.slogdet(block)[1])
            assert float(per_cell[0, row, column]) == pytest.approx(log_det, abs=1e-9)
            half_square = 0.5 * float(z[0, :, row, column].square().sum())
            total += float(mask[0, 0, row, column]) * (half_square - log_det)
    expected = total / (float(mask.sum()) if average == "foreground" else cells * cells)
    expected /= channels if over == "mean" else 1
    reduction = Reduction.model_validate({"average": average, "channels": over})
    assert float(masked_nll(z, per_cell, mask, reduction)) == pytest.approx(expected, rel=1e-9)


def test_masked_cells_have_no_say_in_the_loss() -> None:
    teacher = awake(4, 4, 0)
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    mask[:, :, 1:3, 1:3] = 1
    with torch.no_grad():
        z, log_det = teacher.forward_with_jacobian(x)
        before = masked_nll(z, log_det, mask)
        z[:, :, 0] += 100.0
        log_det[:, 0] -= 50.0
        assert masked_nll(z, log_det, mask) == before
        assert masked_nll(z, log_det, torch.ones_like(mask)) != before


def test_a_mask_without_foreground_gives_no_loss_and_no_nan() -> None:
    nothing = torch.zeros(1, 1, 2, 2)
    assert float(masked_nll(torch.randn(1, 3, 2, 2), torch.randn(1, 2, 2), nothing)) == 0.0


def test_a_fresh_teacher_is_a_permutation() -> None:
    teacher = Teacher(TeacherConfig(hidden=4), 6, 3)
    x = torch.randn(1, 6, 3, 3)
    z, log_det = teacher.forward_with_jacobian(x)
    assert torch.allclose(z.sort(dim=1).values, x.sort(dim=1).values)
    assert not log_det.any()


def test_the_clamp_is_that_of_the_paper() -> None:
    """One coupling can scale by at most exp(clamp · 0.636 · π/2), however large its subnet's answer."""
    config = TeacherConfig(hidden=4, kernels=(3,), clamp=1.9)
    teacher = awake(4, 3, 0, config)
    for name, weight in teacher.named_parameters():
        if name.endswith("second.bias"):
            torch.nn.init.constant_(weight, 1e9)
        elif name.endswith("gamma"):
            torch.nn.init.ones_(weight)
    with torch.no_grad():
        _, log_det = teacher.forward_with_jacobian(torch.randn(1, 4, 3, 3, dtype=torch.float64))
    assert float(log_det.abs().max()) <= 4 * 1.9 * 0.636 * math.pi / 2 + 1e-4
    assert float(log_det.abs().max()) > 4 * 1.8


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 4.0), st.integers(0, 1000))
def test_the_clamp_bounds_the_scale_whatever_it_is(clamp: float, seed: int) -> None:
    teacher = awake(4, 2, seed, TeacherConfig(hidden=3, kernels=(3,), clamp=clamp))
    with torch.no_grad():
        _, log_det = teacher.forward_with_jacobian(1e3 * torch.randn(1, 4, 2, 2, dtype=torch.float64))
    assert float(log_det.abs().max()) <= 4 * clamp * 0.636 * math.pi / 2 + 1e-9


def test_building_a_teacher_leaves_numpy_s_generator_alone() -> None:
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    Teacher(TeacherConfig(hidden=2), 4, 2)
    assert (np.random.random(3) == expected).all()


def test_the_permutations_follow_from_the_block_s_number_alone() -> None:
    """FrEIA draws them; they are weights of the run, and the same in every run."""

    def permuted(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        np.random.seed(seed)
        fresh = Teacher(TeacherConfig(hidden=2, kernels=(3, 3)), 12, 1)  # a permutation until it is trained
        with torch.no_grad():
            z: torch.Tensor = fresh(torch.arange(12.0).reshape(1, 12, 1, 1))
        return z.flatten()

    assert torch.equal(permuted(1), permuted(2))
    assert not torch.equal(permuted(1), torch.arange(12.0))
    blocks = [
        np.asarray(weight)
        for name, weight in Teacher(TeacherConfig(hidden=2), 12, 1).named_parameters()
        if name.endswith("perm")
    ]
    assert len(blocks) == 4
    assert len({tuple(block) for block in blocks}) == 4


def test_positions_are_distinct_and_their_halves_are_x_and_y() -> None:
    code = positional_encoding(24)
    assert code.shape == (32, 24, 24)
    assert torch.equal(code[:16, 0], code[:16, 23])
    assert torch.equal(code[16:, :, 0], code[16:, :, 23])
    assert torch.equal(code[:16, 0], code[16:, :, 0])
    cells = code.flatten(1).T
    distances = torch.cdist(cells, cells) + torch.eye(576) * 1e3
    assert float(distances.min()) > 0.1


def test_positions_are_the_sines_and_cosines_of_the_formula() -> None:
    code = positional_encoding(24).double()
    for pair in range(8):
        frequency = 1e4 ** (-2 * pair / 16)
        for cell in (0, 1, 7, 23):
            assert float(code[2 * pair, 5, cell]) == pytest.approx(math.sin(cell * frequency), abs=1e-5)
            assert float(code[2 * pair + 1, 5, cell]) == pytest.approx(math.cos(cell * frequency), abs=1e-5)
            assert float(code[16 + 2 * pair, cell, 5]) == pytest.approx(math.sin(cell * frequency), abs=1e-5)
            assert float(code[17 + 2 * pair, cell, 5]) == pytest.approx(math.cos(cell * frequency), abs=1e-5)
