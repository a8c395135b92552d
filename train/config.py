"""All that decides a training run; a run keeps it beside its weights."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from edge.framing import FramingConfig
from edge.preprocessing import ForegroundConfig, NormalsConfig, Preprocessing, ZConfig
from edge.scoring import ScoreSpec
from train.features import BackboneConfig
from train.student import StudentConfig
from train.teacher import TeacherConfig

__all__ = ["DistillationConfig", "FramingPlan", "OptimiserConfig", "PreprocessingPlan", "TrainConfig"]

Modality = Literal["image", "normals", "z"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FramingPlan(_Section):
    """The framing, where `window_px` may be left to training: `auto` is the largest part's side × `margin`.

    `upright`: see `edge.framing.FramingConfig`.
    """

    mode: Literal["whole", "roi", "part"] = "part"
    fit: Literal["stretch", "letterbox"] = "stretch"
    roi_px: tuple[int, int, int, int] | None = None
    window_px: int | Literal["auto"] = "auto"
    margin: float = Field(default=1.15, ge=1)
    upright: bool = True


class PreprocessingPlan(_Section):
    """`edge.preprocessing.Preprocessing`, before the training parts were looked at."""

    image_px: int = 384
    depth_px: int = 192
    map_cells: int = 24
    framing: FramingPlan = FramingPlan()
    foreground: ForegroundConfig = ForegroundConfig()
    z: ZConfig = ZConfig()
    normals: NormalsConfig = NormalsConfig()

    def resolve(self, window_px: int | None) -> Preprocessing:
        """What the device is given; `window_px` stands in for `auto`."""
        plan = self.framing
        side = (window_px if plan.window_px == "auto" else plan.window_px) if plan.mode == "part" else None
        return Preprocessing(
            image_px=self.image_px,
            depth_px=self.depth_px,
            map_cells=self.map_cells,
            framing=FramingConfig(
                mode=plan.mode,
                fit=plan.fit,
                roi_px=plan.roi_px,
                window_px=side,
                upright=plan.upright and plan.mode == "part",
            ),
            foreground=self.foreground,
            z=self.z,
            normals=self.normals,
        )


class OptimiserConfig(_Section):
    """Adam; a number of steps, or of epochs over the training views (the paper's are 72)."""

    steps: int | None = Field(default=None, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    batch: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-5, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self

    def total_steps(self, views: int) -> int:
        """Steps for that many training views."""
        if self.steps is not None:
            return self.steps
        return (self.epochs or 0) * max(1, views // self.batch)


class DistillationConfig(_Section):
    """The scales of the loss: (1,) is AST's, (1, 2, 4) that of multi-scale distillation."""

    scales: tuple[int, ...] = Field(default=(1, 2, 4), min_length=1)


class TrainConfig(_Section):
    """A training run of the multi-scale distillation.

    `inputs` names what teacher and student see: `image` and `normals` through the backbone, `z` as it is.
    `rotations` shows each training part at that many angles, evenly spread over the circle. Of the good
    parts that a data set does not set aside itself, `held_out_share` is kept from training, for calibration.
    """

    seed: int = 0
    inputs: tuple[Modality, ...] = Field(default=("image",), min_length=1)
    rotations: int = Field(default=1, ge=1)
    held_out_share: float = Field(default=0.2, gt=0, lt=1)
    false_reject_rate: float = Field(default=0.02, gt=0, lt=1)
    preprocessing: PreprocessingPlan = PreprocessingPlan()
    backbone: BackboneConfig = BackboneConfig()
    teacher: TeacherConfig = TeacherConfig()
    teacher_optimiser: OptimiserConfig = OptimiserConfig(steps=100, clip_norm=1.0)
    student: StudentConfig = StudentConfig()
    student_optimiser: OptimiserConfig = OptimiserConfig(steps=150)
    distillation: DistillationConfig = DistillationConfig()
    score: ScoreSpec = ScoreSpec()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(set(self.inputs)) != len(self.inputs):
            raise ValueError(f"inputs {list(self.inputs)} name one thing twice")
        cells = self.preprocessing.map_cells
        bad = [scale for scale in self.distillation.scales if scale < 1 or cells % scale]
        if bad:
            raise ValueError(f"distillation.scales {bad} don't divide map_cells {cells}")
        return self
