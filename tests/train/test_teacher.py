from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.teacher import Teacher, TeacherConfig, masked_nll, positional_encoding


def awake(channels: int, cells: int, seed: int, config: TeacherConfig | None = None) -> Teacher:
    """A teacher whose subnets do something: they start at the identity."""
    torch.manual_seed(seed)
    teacher = Teacher(config or TeacherConfig(hidden=4, kernels=(3, 3)), channels, cells)
    for name, weight in teacher.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.normal_(weight, std=0.7)
    return teacher.eval()


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 9), st.integers(1, 5), st.integers(0, 1000))
def test_the_inverse_gives_back_what_went_in(channels: int, cells: int, seed: int) -> None:
    teacher = awake(channels, cells, seed)
    x = torch.randn(2, channels, cells, cells)
    with torch.no_grad():
        assert torch.allclose(teacher.inverse(teacher(x)), x, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_log_determinant_and_nll_agree_with_the_whole_jacobian(seed: int) -> None:
    channels, cells = 3, 2
    teacher = awake(channels, cells, seed).double()
    x = torch.randn(1, channels, cells, cells, dtype=torch.float64)
    with torch.no_grad():
        z, per_cell = teacher.forward_with_jacobian(x)
    jacobian = torch.autograd.functional.jacobian(teacher, x).reshape(x.numel(), x.numel())
    brute = float(torch.linalg.slogdet(jacobian)[1])
    assert per_cell.shape == (1, cells, cells)
    assert float(per_cell.sum()) == pytest.approx(brute, abs=1e-9)
    everywhere = torch.ones(1, 1, cells, cells, dtype=torch.float64)
    likelihood = float(0.5 * z.square().sum()) - brute
    assert float(masked_nll(z, per_cell, everywhere)) == pytest.approx(
        likelihood / (cells * cells * channels)
    )


def test_masked_cells_have_no_say_in_the_loss() -> None:
    teacher = awake(4, 4, 0)
    x = torch.randn(2, 4, 4, 4)
    mask = torch.zeros(2, 1, 4, 4)
    mask[:, :, 1:3, 1:3] = 1
    with torch.no_grad():
        z, log_det = teacher.forward_with_jacobian(x)
        before = masked_nll(z, log_det, mask)
        z[:, :, 0] += 100.0
        log_det[:, 0] -= 50.0
        assert masked_nll(z, log_det, mask) == before
        assert masked_nll(z, log_det, torch.ones_like(mask)) != before


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
    with torch.no_grad():
        _, log_det = teacher.forward_with_jacobian(torch.randn(1, 4, 3, 3))
    assert float(log_det.abs().max()) <= 4 * 1.9 * 0.636 * math.pi / 2 + 1e-4
    assert float(log_det.abs().max()) > 4 * 1.8


def test_building_a_teacher_leaves_numpy_s_generator_alone() -> None:
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    Teacher(TeacherConfig(hidden=2), 4, 2)
    assert (np.random.random(3) == expected).all()


def test_positions_are_distinct_and_their_halves_are_x_and_y() -> None:
    code = positional_encoding(24)
    assert code.shape == (32, 24, 24)
    assert torch.equal(code[:16, 0], code[:16, 23])
    assert torch.equal(code[16:, :, 0], code[16:, :, 23])
    assert torch.equal(code[:16, 0], code[16:, :, 0])
    cells = code.flatten(1).T
    distances = torch.cdist(cells, cells) + torch.eye(576) * 1e3
    assert float(distances.min()) > 0.1
