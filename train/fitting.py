"""The two training loops: the teacher by likelihood, the student by distillation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from edge.errors import TrainingError
from train.config import OptimiserConfig
from train.distillation import multi_scale_loss
from train.model import DistillationModel
from train.teacher import masked_nll
from train.views import Views

__all__ = ["Curves", "fit", "steps_of"]

StepDone = Callable[[str, float], None]
"""Called after each step with the phase (`teacher`, `student`) and its loss."""


@dataclass(frozen=True, slots=True)
class Curves:
    """The loss of every step, per phase."""

    teacher: tuple[float, ...]
    student: tuple[float, ...]


def steps_of(model: DistillationModel, views: int) -> tuple[int, int]:
    """How many steps teacher and student will be trained for."""
    config = model.config
    return config.teacher_optimiser.total_steps(views), config.student_optimiser.total_steps(views)


def fit(model: DistillationModel, views: Views, step_done: StepDone) -> Curves:
    """Train standardisation, teacher and student, in this order; the model is in eval mode afterwards.

    The order of the batches and the weights follow from `config.seed` alone. Raises `TrainingError` where
    a loss is not finite.
    """
    config = model.config
    model.assemble.fit(views.parts, views.mask)
    with torch.no_grad():
        x = model.assemble(views.parts)  # (N, C, m, m)
    teacher_steps, student_steps = steps_of(model, len(x))

    def teacher_loss(rows: Tensor) -> Tensor:
        z, log_det = model.teacher.forward_with_jacobian(x[rows])
        return masked_nll(z, log_det, views.mask[rows])

    teacher_curve = _descend(
        "teacher",
        model.teacher,
        teacher_loss,
        config.teacher_optimiser,
        batches=_batches(len(x), config.teacher_optimiser.batch, config.seed),
        steps=teacher_steps,
        step_done=step_done,
    )
    model.teacher.eval()
    with torch.no_grad():
        targets = torch.cat([model.teacher(batch) for batch in x.split(16)])  # (N, C, m, m)

    def student_loss(rows: Tensor) -> Tensor:
        return multi_scale_loss(
            targets[rows], model.student(x[rows]), views.mask[rows], config.distillation.scales
        )

    student_curve = _descend(
        "student",
        model.student,
        student_loss,
        config.student_optimiser,
        batches=_batches(len(x), config.student_optimiser.batch, config.seed + 1),
        steps=student_steps,
        step_done=step_done,
    )
    model.eval()
    return Curves(teacher_curve, student_curve)


def _descend(
    phase: str,
    network: torch.nn.Module,
    loss_of: Callable[[Tensor], Tensor],
    optimiser: OptimiserConfig,
    *,
    batches: Iterator[Tensor],
    steps: int,
    step_done: StepDone,
) -> tuple[float, ...]:
    network.train()
    # FrEIA's permutations are parameters, too, of whole numbers.
    weights = [p for p in network.parameters() if p.requires_grad]
    adam = torch.optim.Adam(weights, lr=optimiser.learning_rate, weight_decay=optimiser.weight_decay)
    curve = []
    for step in range(steps):
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
        step_done(phase, value)
    return tuple(curve)


def _batches(views: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Endless batches of row numbers, none of them short: each view at most once per epoch."""
    generator = torch.Generator().manual_seed(seed)
    batch = min(batch, views)
    while True:
        order = torch.randperm(views, generator=generator)
        for start in range(0, views - batch + 1, batch):
            yield order[start : start + batch]
