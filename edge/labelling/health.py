"""How it stands with the frames of judged parts, in the health message."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["RecentFramesHealth"]


class RecentFramesHealth(BaseModel):
    """The frames of the last judged parts, kept for labels; sizes are bytes.

    Since the start: `evicted` made room for newer ones, `dropped` came faster than the disk took them,
    `refused` could not be kept, `labelled` became captures. While none can be kept, `reason` says why in one
    stable word (`disk_full`, `capture_error`, …), `detail` in a sentence; verdicts go on meanwhile.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )

    frames: int = Field(ge=0)
    size_bytes: int = Field(ge=0)
    evicted: int = Field(ge=0)
    dropped: int = Field(ge=0)
    refused: int = Field(ge=0)
    labelled: int = Field(ge=0)
    reason: str | None
    detail: str | None
