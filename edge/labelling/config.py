"""The `captures` section of the rig's YAML."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["CapturesConfig"]


class CapturesConfig(BaseModel):
    """The frames of the last judged parts, kept so that a label can make captures of them.

    At most `recent_parts` (0 keeps none), and at most `recent_max_mb` (MiB); none while less than
    `outbox.keep_free_mb` is free. Of passed parts one in `passed_every_s` at most; of frames in free running
    (`every_frame`, `interval`) the rejected ones alone, one in `free_running_every_s` at most, unless
    `score_watch.enabled: true` says that each shows another part. 0 takes each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recent_parts: int = Field(default=200, ge=0, le=10_000)
    recent_max_mb: int = Field(default=500, ge=1)
    passed_every_s: float = Field(default=10.0, ge=0, le=86_400)
    free_running_every_s: float = Field(default=10.0, ge=0, le=86_400)
