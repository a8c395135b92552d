"""All that decides a training run; a run keeps it beside its weights."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from edge.scoring import ScoreSpec
from train.methods import FusionConfig, MemoryBankConfig, MsdConfig
from train.plans import PreprocessingPlan

__all__ = ["MethodConfig", "TrainConfig"]

MethodConfig = Annotated[MsdConfig | MemoryBankConfig | FusionConfig, Field(discriminator="name")]


class TrainConfig(BaseModel):
    """A training run: what every method shares, and the method.

    Of the good parts that a data set does not set aside itself, `held_out_share` is kept from training,
    for calibration. With `cross_folds` none is: all parts train the model, and each is scored by one of so
    many models more, which was trained without it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = Field(default=0, ge=0, lt=2**63)
    held_out_share: float = Field(default=0.2, gt=0, lt=1)
    cross_folds: int | None = Field(default=None, ge=2, le=1000)
    false_reject_rate: float = Field(default=0.02, gt=0, lt=1)
    preprocessing: PreprocessingPlan = PreprocessingPlan()
    method: MethodConfig = MsdConfig()
    score: ScoreSpec = ScoreSpec()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.method.check_cells(self.preprocessing.map_cells)
        if self.cross_folds is not None and self.method.needs_held_out is not None:
            raise ValueError(
                f"cross_folds trains on every good part, and {self.method.needs_held_out} needs some that "
                "were held out; leave one of the two"
            )
        return self
