from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from train.distillation import Distance, multi_scale_loss
from train.student import Student, StudentConfig


def pair(seed: int, channels: int = 5, cells: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, channels, cells, cells)
    mask = (torch.rand(2, 1, cells, cells, generator=generator) > 0.5).float()
    mask[:, :, 0, 0] = 1
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator), mask


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(1,), (2,), (1, 2), (1, 2, 4), (3, 6)]))
def test_pooling_the_residual_is_pooling_the_outputs(seed: int, scales: tuple[int, ...]) -> None:
    teacher, student, mask = pair(seed)
    total = 0.0
    for scale in scales:
        t, s = (functional.avg_pool2d(v, scale) for v in (teacher, student))
        m = (functional.avg_pool2d(mask, scale) > 0).float()  # the paper's words: pool, then binarise
        total += float((m * (t - s) ** 2).sum() / m.sum() / teacher.shape[1])
    assert float(multi_scale_loss(teacher, student, mask, scales)) == pytest.approx(
        total / len(scales), rel=1e-5
    )


def test_scale_one_alone_is_the_loss_of_ast() -> None:
    """AST averages over all cells; ours over the foreground: the same up to the share of foreground."""
    teacher, student, mask = pair(0)
    ast = float((mask * (teacher - student) ** 2).mean())
    assert float(multi_scale_loss(teacher, student, mask, (1,))) * float(mask.mean()) == pytest.approx(
        ast, rel=1e-5
    )


def test_the_map_is_the_mean_squared_residual_on_the_foreground_in_float32() -> None:
    teacher, student, mask = pair(1)
    found = Distance()(teacher.half() * 200, student.half() * 200, mask)
    expected = (
        (teacher.half().double() * 200 - student.half().double() * 200).square().mean(dim=1, keepdim=True)
    )
    assert found.dtype == torch.float32
    # Each product was rounded to half precision before; the square, above 65504, was not.
    assert float(found.max()) > 65504
    assert np.allclose(found, expected * mask, rtol=5e-3, atol=100)
    assert not found[mask == 0].any()


def test_the_student_sees_where_it_is() -> None:
    torch.manual_seed(0)
    student = Student(StudentConfig(hidden=8, blocks=1), 4, 12).eval()
    with torch.no_grad():
        flat = student(torch.zeros(1, 4, 12, 12))
    assert flat.shape == (1, 4, 12, 12)
    inner = flat[0, :, 4:8, 4:8].flatten(1).T  # far from the padding
    assert float(torch.pdist(inner).min()) > 0
