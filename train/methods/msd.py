"""Multi-scale distillation (PD-REAL, Qin et al. 2023) on asymmetric teacher and student (AST, WACV 2023)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from edge.bundle import ANOMALY_MAP, StageSpec
from edge.preprocessing import Preprocessing, tensor_shapes
from train.cell_scale import CellScale, OnCells, fit_cell_scale
from train.distillation import Distance, DistillationConfig
from train.early_stopping import EarlyStopping, EarlyStoppingConfig
from train.features import Backbone, load_backbone
from train.fitting import fit_student, fit_teacher, teacher_targets
from train.good_parts import GoodParts
from train.inputs import (
    Assemble,
    LooksConfig,
    OnAssembled,
    backbone_stages,
    input_channels,
    input_examples,
)
from train.methods.method import FittedCurves, Method
from train.optimiser import OptimiserConfig
from train.probe import probe_of
from train.probe_judge import judged_views, student_figure
from train.reduction import Reduction
from train.stages import Stage
from train.student import Student, StudentConfig
from train.teacher import Teacher, TeacherConfig

__all__ = ["DistillationConfig", "MsdConfig", "MsdModel"]


class MsdConfig(LooksConfig):
    """Multi-scale distillation.

    `likelihood` says over what the teacher's loss is averaged, `distillation` how the student's is made,
    `early_stopping` when its training ends. With `normalise_cells` each cell of the map is divided by how
    far good parts held out stray there.
    """

    name: Literal["msd"] = "msd"
    teacher: TeacherConfig = TeacherConfig()
    likelihood: Reduction = Reduction()
    teacher_optimiser: OptimiserConfig = OptimiserConfig(steps=100, clip_norm=1.0)
    student: StudentConfig = StudentConfig()
    student_optimiser: OptimiserConfig = OptimiserConfig(steps=150)
    distillation: DistillationConfig = DistillationConfig()
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    normalise_cells: bool = False

    def check_cells(self, cells: int) -> None:
        """Raises `ValueError` where the scales don't fit a map of that many cells."""
        bad = [scale for scale in self.distillation.scales if cells % scale]
        if bad:
            raise ValueError(f"distillation.scales {bad} don't divide map_cells {cells}")

    @property
    def needs_held_out(self) -> str | None:
        """The key for which some good parts must be held out of training, None where none must."""
        if self.early_stopping.every_steps is not None:
            return "early_stopping"
        return "normalise_cells" if self.normalise_cells else None


class MsdModel(Method):
    """Teacher and student over the configured inputs; the map is their mean squared difference."""

    def __init__(self, config: MsdConfig, preprocessing: Preprocessing, seed: int) -> None:
        super().__init__(preprocessing)
        self.config = config
        backbone = load_backbone(config.backbone, preprocessing.map_cells)
        self._backbone = [backbone]  # in a list, so that its weights are not taken for ours
        channels = input_channels(config.inputs, preprocessing, backbone)
        cells = preprocessing.map_cells
        torch.manual_seed(seed)  # after the backbone: timm draws weights for it that are then overwritten
        self.assemble = Assemble(channels)
        self.teacher = Teacher(config.teacher, channels, cells)
        self.student = Student(config.student, channels, cells)
        self.distance = Distance(squared=config.distillation.map_mask == "twice")
        self.cell_scale = CellScale(cells) if config.normalise_cells else None

    @property
    def label(self) -> str:
        return "ast" if self.config.distillation.scales == (1,) else "msd"

    def backbones(self) -> tuple[Backbone, ...]:
        return tuple(self._backbone)

    def stages(self) -> tuple[Stage, ...]:
        config, (backbone,) = self.config, self._backbone
        parts = input_examples(config.inputs, self.preprocessing, backbone)
        cells = self.preprocessing.map_cells
        latent = torch.zeros(1, self.assemble.mean.numel(), cells, cells)
        networks = tuple(
            Stage(
                StageSpec(
                    name=name,
                    file=f"{name}.onnx",
                    precision="fp32",
                    inputs={tensor: tensor for tensor in parts},
                    outputs={f"{name}_out": f"{name}_out"},
                ),
                OnAssembled(self.assemble, network),
                parts,
            )
            for name, network in (("teacher", self.teacher), ("student", self.student))
        )
        distance = Stage(
            StageSpec(
                name="distance",
                file="distance.onnx",
                precision="fp32",
                inputs={"teacher": "teacher_out", "student": "student_out", "mask": "mask"},
                outputs={ANOMALY_MAP: ANOMALY_MAP},
            ),
            self.distance if self.cell_scale is None else OnCells(self.distance, self.cell_scale),
            {
                "teacher": latent,
                "student": latent,
                "mask": torch.ones(tensor_shapes(self.preprocessing)["mask"][1]),
            },
        )
        return (*backbone_stages(config.inputs, self.preprocessing, backbone), *networks, distance)

    def fit(self, good: GoodParts, seed: int) -> FittedCurves:
        config = self.config
        views = good.views(config.inputs, config.angles_deg, self._backbone[0])
        if config.standardise:
            self.assemble.set(*views.foreground_statistics())
        steps = [o.total_steps(len(views)) for o in (config.teacher_optimiser, config.student_optimiser)]
        with good.progress.task("teacher", steps[0]) as advance:
            teacher = fit_teacher(
                self.teacher,
                self.assemble,
                views,
                optimiser=config.teacher_optimiser,
                likelihood=config.likelihood,
                seed=seed,
                loop=good.loop,
                step_done=advance,
            )
        targets = teacher_targets(self.teacher, self.assemble, views, good.new_file("targets"), good.loop)
        watch = self._early_stopping(good, seed)
        with good.progress.task("student", steps[1]) as advance:
            student = fit_student(
                self.student,
                self.assemble,
                views,
                targets,
                optimiser=config.student_optimiser,
                seed=seed + 1,
                distillation=config.distillation,
                loop=good.loop,
                step_done=advance,
                watch=watch,
            )
        self.eval()
        if self.cell_scale is not None:
            fit_cell_scale(self.cell_scale, self, good)
        figures = {} if watch is None else {"student on the probe": tuple(watch.figures)}
        return {"teacher": teacher, "student": student, **figures}

    def _early_stopping(self, good: GoodParts, seed: int) -> EarlyStopping | None:
        """Whoever watches the student; the teacher is trained already."""
        config = self.config.early_stopping
        if config.every_steps is None:
            return None
        probe = probe_of(good.held_out, good.preprocessing, config.probe, seed)
        views = judged_views(probe, good.preprocessing, self.wanted)
        with torch.no_grad():
            parts = [
                self.assemble(
                    *(
                        view.tensors["z"] if name == "z" else self._backbone[0](view.tensors[name])
                        for name in self.config.inputs
                    )
                )
                for view in views
            ]
            assembled = torch.cat(parts)  # (P, C, m, m)
            targets = torch.cat([self.teacher(part) for part in parts])  # (P, C, m, m)

        def judge(student: nn.Module) -> float:
            return student_figure(
                student,
                self.distance,
                assembled=assembled,
                targets=targets,
                views=views,
                score=good.score,
            )

        return EarlyStopping(config.every_steps, config.patience, judge, good.loop.workers)
