"""What the two descents of distillation go down: the teacher's likelihood, the student's residual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from train.distillation import multi_scale_loss
from train.inputs import Assemble
from train.loop.descent import Loop, Watch, descend
from train.optimiser import OptimiserConfig
from train.rows import RowFile
from train.student import Student
from train.teacher import Teacher, masked_nll
from train.views import Views

__all__ = ["fit_student", "fit_teacher", "teacher_targets"]

StepDone = Callable[[int], None]


class _TeacherObjective(nn.Module):
    """Standardised views (k, C, m, m) and masks (k, 1, m, m) → the masked negative log-likelihood."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        z, log_det = self.teacher.forward_with_jacobian(x)
        with torch.autocast(x.device.type, enabled=False):  # sums over thousands of cells in full precision
            return masked_nll(z.float(), log_det.float(), mask)


class _StudentObjective(nn.Module):
    """Standardised views, the teacher's outputs (k, C, m, m) and masks → the multi-scale loss.

    `shares` (S,) weigh the scales where the batch is spread over several workers.
    """

    def __init__(self, student: Student, scales: Sequence[int]) -> None:
        super().__init__()
        self.student = student
        self.scales = tuple(scales)

    def forward(self, x: Tensor, target: Tensor, mask: Tensor, shares: Tensor | None) -> Tensor:
        y: Tensor = self.student(x)
        with torch.autocast(x.device.type, enabled=False):
            if shares is None:
                return multi_scale_loss(target, y.float(), mask, self.scales)
            each = [multi_scale_loss(target, y.float(), mask, (scale,)) for scale in self.scales]
            return (torch.stack(each) * shares).mean()


def _share(mask: Tensor, mine: Tensor, batch: Tensor, scale: int, workers: int) -> float:
    """What this worker's mean over its foreground counts in the mean over the batch's, times the workers.

    DDP takes the plain mean of the workers' gradients; weighed so, it is that of the whole batch. `mask`
    (N, 1, m, m) of all views.
    """
    pooled = nn.functional.max_pool2d(mask[batch], scale)  # (b, 1, m/s, m/s)
    own = nn.functional.max_pool2d(mask[mine], scale)  # (k, 1, m/s, m/s)
    return workers * float(own.sum() / pooled.sum())


def fit_teacher(
    teacher: Teacher,
    assemble: Assemble,
    views: Views,
    *,
    optimiser: OptimiserConfig,
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
        return loss if workers.count == 1 else loss * _share(views.mask, mine, batch, 1, workers.count)

    return descend(
        "teacher",
        teacher,
        _TeacherObjective,
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
    scales: Sequence[int],
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
            each = [_share(views.mask, mine, batch, scale, workers.count) for scale in scales]
            shares = torch.tensor(each, device=workers.device)  # (S,)
        x, target, mask = assemble(views.rows(mine)), targets.take(mine), views.mask[mine]
        loss: Tensor = objective(
            x.to(workers.device), target.to(workers.device), mask.to(workers.device), shares
        )
        return loss

    return descend(
        "student",
        student,
        lambda network: _StudentObjective(network, scales),
        loss_of,
        optimiser=optimiser,
        views=len(views),
        seed=seed,
        loop=loop,
        step_done=step_done,
        watch=watch,
    )
