"""What the two descents of distillation go down: the teacher's likelihood, the student's residual."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from train.distillation import DistillationConfig, multi_scale_loss
from train.inputs import Assemble
from train.loop.descent import Loop, Watch, descend
from train.optimiser import OptimiserConfig
from train.reduction import Reduction, counted_cells, pooled_mask
from train.rows import RowFile
from train.student import Student
from train.teacher import Teacher, masked_nll
from train.views import Views

__all__ = ["fit_student", "fit_teacher", "teacher_targets"]

StepDone = Callable[[int], None]


class _TeacherObjective(nn.Module):
    """Standardised views (k, C, m, m) and masks (k, 1, m, m) → the masked negative log-likelihood."""

    def __init__(self, teacher: Teacher, likelihood: Reduction) -> None:
        super().__init__()
        self.teacher = teacher
        self.likelihood = likelihood

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        z, log_det = self.teacher.forward_with_jacobian(x)
        with torch.autocast(x.device.type, enabled=False):  # sums over thousands of cells in full precision
            return masked_nll(z.float(), log_det.float(), mask, self.likelihood)


class _StudentObjective(nn.Module):
    """Standardised views, the teacher's outputs (k, C, m, m) and masks → the multi-scale loss.

    `shares` (S,) weigh the scales where the batch is spread over several workers.
    """

    def __init__(self, student: Student, distillation: DistillationConfig) -> None:
        super().__init__()
        self.student = student
        self.distillation = distillation

    def forward(self, x: Tensor, target: Tensor, mask: Tensor, shares: Tensor | None) -> Tensor:
        how = self.distillation
        y: Tensor = self.student(x)
        with torch.autocast(x.device.type, enabled=False):
            if shares is None:
                return multi_scale_loss(target, y.float(), mask, how.scales, how)
            each = [multi_scale_loss(target, y.float(), mask, (scale,), how) for scale in how.scales]
            return (torch.stack(each) * shares).mean()


def _share(mine: Tensor, batch: Tensor, reduction: Reduction, workers: int) -> float:
    """What this worker's mean over its cells counts in the mean over the batch's, times the workers.

    DDP takes the plain mean of the workers' gradients; weighed so, it is that of the whole batch. `mine`
    (k, 1, m, m) and `batch` (b, 1, m, m) are masks.
    """
    own, whole = counted_cells(mine, reduction), counted_cells(batch, reduction)
    return workers * float(own / whole.clamp_min(1e-6))


def fit_teacher(
    teacher: Teacher,
    assemble: Assemble,
    views: Views,
    *,
    optimiser: OptimiserConfig,
    likelihood: Reduction,
    seed: int,
    loop: Loop,
    step_done: StepDone,
) -> tuple[float, ...]:
    """Train the teacher by the masked likelihood of the standardised views; the loss of each step.

    Raises `TrainingError` as `descend`.
    """
    workers = loop.workers

    def loss_of(objective: nn.Module, mine: Tensor, batch: Tensor) -> Tensor:
        x = assemble(views.rows(mine)).to(workers.device)  # (k, C, m, m)
        loss: Tensor = objective(x, views.mask[mine].to(workers.device))
        return (
            loss
            if workers.count == 1
            else loss * _share(views.mask[mine], views.mask[batch], likelihood, workers.count)
        )

    return descend(
        "teacher",
        teacher,
        lambda network: _TeacherObjective(network, likelihood),
        loss_of,
        optimiser=optimiser,
        views=len(views),
        seed=seed,
        loop=loop,
        step_done=step_done,
    )


def teacher_targets(teacher: Teacher, assemble: Assemble, views: Views, scratch: Path, loop: Loop) -> RowFile:
    """The trained teacher's outputs for all views, in the new file `scratch`; the workers share the views."""
    workers = loop.workers
    targets = workers.rows(scratch, len(views), views.shape[1:])
    size = 16
    teacher.eval()
    teacher.to(workers.device)
    with workers.together(), torch.no_grad():
        for number in workers.share(-(-len(views) // size)):
            rows = torch.arange(number * size, min((number + 1) * size, len(views)))
            z: Tensor = teacher(assemble(views.rows(rows)).to(workers.device))  # (k, C, m, m)
            targets.put(number * size, z.cpu().numpy())
    teacher.to("cpu")
    return targets


def fit_student(
    student: Student,
    assemble: Assemble,
    views: Views,
    targets: RowFile,
    *,
    optimiser: OptimiserConfig,
    seed: int,
    distillation: DistillationConfig,
    loop: Loop,
    step_done: StepDone,
    watch: Watch | None = None,
) -> tuple[float, ...]:
    """Train the student to imitate the teacher's outputs `targets`; the loss of each step.

    Raises `TrainingError` as `descend`.
    """
    workers = loop.workers

    def loss_of(objective: nn.Module, mine: Tensor, batch: Tensor) -> Tensor:
        shares = None
        if workers.count > 1:
            own, whole = views.mask[mine], views.mask[batch]
            each = [
                _share(
                    pooled_mask(own, scale, distillation),
                    pooled_mask(whole, scale, distillation),
                    distillation,
                    workers.count,
                )
                for scale in distillation.scales
            ]
            shares = torch.tensor(each, device=workers.device)  # (S,)
        x, target, mask = assemble(views.rows(mine)), targets.take(mine), views.mask[mine]
        loss: Tensor = objective(
            x.to(workers.device), target.to(workers.device), mask.to(workers.device), shares
        )
        return loss

    return descend(
        "student",
        student,
        lambda network: _StudentObjective(network, distillation),
        loss_of,
        optimiser=optimiser,
        views=len(views),
        seed=seed,
        loop=loop,
        step_done=step_done,
        watch=watch,
    )
