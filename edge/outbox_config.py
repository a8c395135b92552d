"""The `outbox` section of the rig's YAML."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

__all__ = ["OutboxConfig"]


class OutboxConfig(BaseModel):
    """What is kept on disk, and what is given up first where there is little room; sizes are MiB.

    A verdict stays until the broker has acknowledged it, and `ledger_days` of running longer (a clock that
    jumps shortens nothing), as long as all verdicts need no more than `ledger_max_mb`. `pictures_max_mb`
    is the most that pictures take (0 keeps none); they also go while less than `keep_free_mb` is free on
    that disk. `ballast_mb` is a file that is given up when the disk is full, so that verdicts can still be
    written. After a broker lost what it had, what it acknowledged in the last `requeue_s` is sent again;
    at any other new connection, the first of a start too, that of its last `unsaved_s`: a broker that was
    killed comes back without what it acknowledged and had not saved yet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ledger_days: PositiveFloat = Field(default=30.0, le=3650)
    ledger_max_mb: int = Field(default=1024, ge=1)
    pictures_max_mb: int = Field(default=2048, ge=0)
    keep_free_mb: int = Field(default=512, ge=0)
    ballast_mb: int = Field(default=32, ge=32, le=4096)
    requeue_s: PositiveFloat = Field(default=60.0, le=86_400)
    unsaved_s: PositiveFloat = Field(default=10.0, le=86_400)
