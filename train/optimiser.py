"""Settings of a gradient descent."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

__all__ = ["OptimiserConfig"]


class OptimiserConfig(BaseModel):
    """Adam; a number of steps, or of epochs over the training views (the paper's are 72)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
