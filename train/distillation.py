"""The loss of multi-scale masked distillation, and the anomaly map that follows from it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Distance", "multi_scale_loss"]


def multi_scale_loss(teacher: Tensor, student: Tensor, mask: Tensor, scales: Sequence[int]) -> Tensor:
    """Mean over the scales of the masked squared residual of average-pooled outputs; a scalar.

    `teacher`, `student` (N, C, m, m); `mask` (N, 1, m, m) in 0…1. Scale s pools by s×s; its mask is the
    maximum of the mask in each s×s. Averaged over channels and foreground cells. Scale 1 alone is AST's
    loss, (1, 2, 4) that of multi-scale distillation (PD-REAL, Eq. 3). Pooling is linear, so the residual
    is pooled once: pool(teacher) − pool(student) = pool(teacher − student).
    """
    residual = teacher - student  # (N, C, m, m)
    total = residual.new_zeros(())
    for scale in scales:
        pooled = functional.avg_pool2d(residual, scale) if scale > 1 else residual  # (N, C, m/s, m/s)
        weight = functional.max_pool2d(mask, scale) if scale > 1 else mask  # (N, 1, m/s, m/s)
        total = total + (weight * pooled.square().mean(dim=1, keepdim=True)).sum() / weight.sum()
    return total / len(scales)


class Distance(nn.Module):
    """Teacher and student outputs (N, C, m, m) → anomaly map (N, 1, m, m).

    Mean over channels of the squared residual, times the mask; float32 whatever comes in.
    """

    def forward(self, teacher: Tensor, student: Tensor, mask: Tensor) -> Tensor:
        residual = teacher.float() - student.float()  # (N, C, m, m)
        return mask * residual.square().mean(dim=1, keepdim=True)
