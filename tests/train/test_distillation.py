from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn import functional

from train.config import TrainConfig
from train.distillation import Distance, DistillationConfig, multi_scale_loss
from train.reduction import PooledReduction
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
    """AST averages over all cells; the default over the foreground: the same up to its share."""
    teacher, student, mask = pair(0)
    ast = float((mask * (teacher - student) ** 2).mean())
    cells = PooledReduction(average="cells")
    assert float(multi_scale_loss(teacher, student, mask, (1,), cells)) == pytest.approx(ast, rel=1e-5)
    assert float(multi_scale_loss(teacher, student, mask, (1,))) * float(mask.mean()) == pytest.approx(
        ast, rel=1e-5
    )


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([(1,), (2, 4), (1, 2, 4), (4,), (12,)]),
    st.sampled_from(["foreground", "cells"]),
    st.sampled_from(["mean", "sum"]),
    st.sampled_from(["any", "half"]),
)
def test_each_reading_of_the_paper_s_loss_is_what_it_says(
    seed: int, scales: tuple[int, ...], average: str, channels: str, pooling: str
) -> None:
    teacher, student, mask = (np.asarray(v, np.float64) for v in pair(seed))
    total = 0.0
    for scale in scales:
        side = 12 // scale
        blocks = [v.reshape(2, -1, side, scale, side, scale) for v in (teacher, student, mask)]
        t, s, m = (v.mean(axis=(3, 5)) for v in blocks)  # (2, C, side, side)
        m = m > 0 if pooling == "any" else m >= 0.5 - 1e-9
        of_cells = (m * (t - s) ** 2).sum()
        count = m.sum() if average == "foreground" else m.size
        total += of_cells / max(count, 1) / (t.shape[1] if channels == "mean" else 1)
    reduction = PooledReduction.model_validate(
        {"average": average, "channels": channels, "pooled_mask": pooling}
    )
    found = multi_scale_loss(*pair(seed), scales, reduction)
    assert float(found) == pytest.approx(total / len(scales), rel=1e-4, abs=1e-9)


def test_a_part_too_small_for_half_of_a_pooled_cell_gives_no_nan() -> None:
    teacher, student, mask = pair(0)
    mask.zero_()
    mask[:, :, 5, 5] = 1
    half = multi_scale_loss(teacher, student, mask, (4,), PooledReduction(pooled_mask="half"))
    assert float(half) == 0.0
    assert float(multi_scale_loss(teacher, student, mask, (4,))) > 0


@pytest.mark.parametrize("scales", [(), (0,), (1, 1), (-2, 1)])
def test_scales_that_are_none_are_refused(scales: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        DistillationConfig(scales=scales)


@pytest.mark.parametrize("scales", [[1], [4], [2, 4], [1, 8, 16]])
def test_any_subset_of_scales_that_divides_the_map_will_do(scales: list[int]) -> None:
    config = TrainConfig.model_validate({"method": {"name": "msd", "distillation": {"scales": scales}}})
    assert config.method.name == "msd"
    with pytest.raises(ValidationError, match=r"don't divide map_cells 25"):
        TrainConfig.model_validate(
            {
                "preprocessing": {"depth_px": 200, "map_cells": 25},
                "method": {"name": "msd", "distillation": {"scales": [*scales, 7]}},
            }
        )


def test_a_squared_mask_weighs_the_map_twice() -> None:
    teacher, student, _ = pair(2)
    soft = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    once, twice = Distance()(teacher, student, soft), Distance(squared=True)(teacher, student, soft)
    assert torch.allclose(twice, once * soft)
    binary = (soft > 0.5).float()
    assert torch.equal(Distance()(teacher, student, binary), Distance(squared=True)(teacher, student, binary))


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
