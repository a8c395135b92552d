"""A few rows that stand for many: greedy k-centre selection (Sener and Savarese, ICLR 2018; PatchCore)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.random_projection import SparseRandomProjection
from torch import Tensor

__all__ = ["greedy_coreset", "project"]


def greedy_coreset(rows: Tensor, count: int, step_done: Callable[[int], None]) -> Tensor:
    """Indices (count,) of rows (N, D): begun at row 0, each next one is the farthest from those chosen.

    Every row then lies within twice the least possible radius of a chosen one (Gonzalez, 1985). Where rows
    repeat, fewer than `count` may differ; the rest repeat, too.
    """
    count = min(count, len(rows))
    squares = rows.square().sum(dim=1)  # (N,)
    nearest = torch.full((len(rows),), torch.inf)
    chosen = torch.zeros(count, dtype=torch.int64)
    last = 0
    for number in range(count):
        chosen[number] = last
        # ‖r − c‖² = ‖r‖² − 2 r·c + ‖c‖²: one product of a matrix and a vector a step
        distance = torch.addmv(squares, rows, rows[last], alpha=-2.0).add_(squares[last])  # (N,)
        torch.minimum(nearest, distance, out=nearest)
        nearest[last] = -torch.inf
        last = int(nearest.argmax())
        step_done(1)
    return chosen


def project(rows: Tensor, dimensions: int | None, seed: int) -> Tensor:
    """Rows (N, C) in fewer dimensions, distances nearly kept (sparse random projection); None keeps all."""
    if dimensions is None or dimensions >= rows.shape[1]:
        return rows
    projection = SparseRandomProjection(dimensions, random_state=seed, dense_output=True)
    return torch.from_numpy(np.asarray(projection.fit_transform(rows.numpy()), dtype=np.float32))
