"""The loss of multi-scale masked distillation, and the anomaly map that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from train.reduction import PooledReduction, pooled_mask, reduced

__all__ = ["Distance", "DistillationConfig", "multi_scale_loss"]


class DistillationConfig(PooledReduction):
    """The student's loss, and the map.

    `scales`: (1,) is AST's, (1, 2, 4) that of multi-scale distillation; any others will do. The map is
    multiplied by the mask `once`, or `twice`: AST's code squares its soft mask so.
    """

    scales: tuple[int, ...] = Field(default=(1, 2, 4), min_length=1)
    map_mask: Literal["once", "twice"] = "once"

    @field_validator("scales")
    @classmethod
    def _scales_once(cls, scales: tuple[int, ...]) -> tuple[int, ...]:
        if min(scales) < 1 or len(set(scales)) != len(scales):
            raise ValueError(f"scales {list(scales)} must be different numbers from 1 upwards")
        return scales


_DEFAULT = PooledReduction()


def multi_scale_loss(
    teacher: Tensor,
    student: Tensor,
    mask: Tensor,
    scales: Sequence[int],
    reduction: PooledReduction = _DEFAULT,
) -> Tensor:
    """Mean over the scales of the masked squared residual of average-pooled outputs; a scalar.

    `teacher`, `student` (N, C, m, m); `mask` (N, 1, m, m) in 0…1. Scale s pools by s×s, its mask by
    `reduction`, which also says over what is averaged. Scale 1 alone is AST's loss, (1, 2, 4) that of
    multi-scale distillation (PD-REAL, Eq. 3). Pooling is linear, so the residual is pooled once:
    pool(teacher) − pool(student) = pool(teacher − student).
    """
    residual = teacher - student  # (N, C, m, m)
    total = residual.new_zeros(())
    for scale in scales:
        pooled = functional.avg_pool2d(residual, scale) if scale > 1 else residual  # (N, C, m/s, m/s)
        weight = pooled_mask(mask, scale, reduction)  # (N, 1, m/s, m/s)
        square = pooled.square().sum(dim=1, keepdim=True)  # (N, 1, m/s, m/s)
        total = total + reduced(square, weight, residual.shape[1], reduction)
    return total / len(scales)


class Distance(nn.Module):
    """Teacher and student outputs (N, C, m, m) → anomaly map (N, 1, m, m).

    Mean over channels of the squared residual, times the mask, once or (`squared`) twice; float32 whatever
    comes in.
    """

    def __init__(self, *, squared: bool = False) -> None:
        super().__init__()
        self.squared = squared

    def forward(self, teacher: Tensor, student: Tensor, mask: Tensor) -> Tensor:
        residual = teacher.float() - student.float()  # (N, C, m, m)
        weight = mask * mask if self.squared else mask  # (N, 1, m, m)
        return weight * residual.square().mean(dim=1, keepdim=True)
