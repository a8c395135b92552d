"""How a masked loss per cell and channel becomes one number."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional

__all__ = ["PooledReduction", "Reduction", "counted_cells", "pooled_mask", "reduced"]


class Reduction(BaseModel):
    """Over what a loss is averaged.

    `average`: the `foreground`, so that its size does not depend on how much of the view a part fills; or
    all `cells`, of which those outside the mask count 0 (AST, and Eq. 3 of PD-REAL). `channels`: their
    `mean`, so that it does not depend on the backbone, or their `sum`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    average: Literal["foreground", "cells"] = "foreground"
    channels: Literal["mean", "sum"] = "mean"


class PooledReduction(Reduction):
    """The same at several scales: a pooled cell belongs to the mask if `any` of it does, or `half` of it."""

    pooled_mask: Literal["any", "half"] = "any"


def pooled_mask(mask: Tensor, scale: int, reduction: PooledReduction) -> Tensor:
    """The mask (N, 1, m, m), in 0…1, of s×s cells each: (N, 1, m/s, m/s); scale 1 leaves it as it is."""
    if scale == 1:
        return mask
    if reduction.pooled_mask == "any":
        return functional.max_pool2d(mask, scale)
    return (functional.avg_pool2d(mask, scale) >= 0.5).to(mask.dtype)


def counted_cells(mask: Tensor, reduction: Reduction) -> Tensor:
    """By how many cells of a mask (N, 1, m, m) a sum is divided; a scalar.

    Where losses of parts of a batch are put together, each weighs as this says.
    """
    if reduction.average == "cells":
        return mask.new_tensor(float(mask.numel()))
    return mask.sum()


def reduced(loss: Tensor, mask: Tensor, channels: int, reduction: Reduction) -> Tensor:
    """The sum over `channels` of a loss per cell (N, 1, m, m), times the mask, as one number.

    A mask without any foreground gives 0.
    """
    cells = counted_cells(mask, reduction).clamp_min(1e-6)
    total = (mask * loss).sum() / cells
    return total / channels if reduction.channels == "mean" else total
