"""The two training loops: the teacher by likelihood, the student by distillation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edge.errors import TrainingError
from train.distillation import multi_scale_loss
from train.inputs import Assemble
from train.optimiser import OptimiserConfig
from train.student import Student
from train.teacher import Teacher, masked_nll
from train.views import Views

__all__ = ["fit_student", "fit_teacher"]

StepDone = Callable[[], None]


def fit_teacher(
    teacher: Teacher,
    assemble: Assemble,
    views: Views,
    optimiser: OptimiserConfig,
    seed: int,
    step_done: StepDone,
) -> tuple[float, ...]:
    """Train the teacher by the masked likelihood of the standardised views; the loss of each step.

    The order of the batches follows from the seed alone. Raises `TrainingError` where a loss is not finite.
    """

    def loss_of(rows: Tensor) -> Tensor:
        z, log_det = teacher.forward_with_jacobian(assemble(views.rows(rows)))
        return masked_nll(z, log_det, views.mask[rows])

    return _descend("teacher", teacher, loss_of, optimiser, len(views), seed, step_done)


def fit_student(
    student: Student,
    teacher: Teacher,
    assemble: Assemble,
    views: Views,
    optimiser: OptimiserConfig,
    seed: int,
    scales: Sequence[int],
    scratch: Path,
    step_done: StepDone,
) -> tuple[float, ...]:
    """Train the student to imitate the frozen teacher; the loss of each step.

    The teacher's outputs are computed once and lie in the new file `scratch`.
    """
    teacher.eval()
    targets = np.lib.format.open_memmap(scratch, mode="w+", dtype=np.float32, shape=views.parts.shape)
    with torch.no_grad():
        done = 0
        for parts, _ in views.batches(16):
            targets[done : done + len(parts)] = teacher(assemble(parts)).numpy()  # (k, C, m, m)
            done += len(parts)

    def loss_of(rows: Tensor) -> Tensor:
        target = torch.from_numpy(np.asarray(targets[rows.numpy()]))  # (k, C, m, m)
        return multi_scale_loss(target, student(assemble(views.rows(rows))), views.mask[rows], scales)

    return _descend("student", student, loss_of, optimiser, len(views), seed, step_done)


def _descend(
    phase: str,
    network: nn.Module,
    loss_of: Callable[[Tensor], Tensor],
    optimiser: OptimiserConfig,
    views: int,
    seed: int,
    step_done: StepDone,
) -> tuple[float, ...]:
    network.train()
    # FrEIA's permutations are parameters, too, of whole numbers.
    weights = [p for p in network.parameters() if p.requires_grad]
    adam = torch.optim.Adam(weights, lr=optimiser.learning_rate, weight_decay=optimiser.weight_decay)
    batches = _batches(views, optimiser.batch, seed)
    curve = []
    for step in range(optimiser.total_steps(views)):
        loss = loss_of(next(batches))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"{phase}: the loss of step {step + 1} is {value}; lower {phase}_optimiser.learning_rate"
            )
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if optimiser.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(weights, optimiser.clip_norm)
        adam.step()
        curve.append(value)
        step_done()
    network.eval()
    return tuple(curve)


def _batches(views: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Endless batches of row numbers, none of them short: each view at most once per epoch."""
    generator = torch.Generator().manual_seed(seed)
    batch = min(batch, views)
    while True:
        order = torch.randperm(views, generator=generator)
        for start in range(0, views - batch + 1, batch):
            yield order[start : start + batch]
