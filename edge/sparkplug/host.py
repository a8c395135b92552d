"""What a primary host says of itself: online or not, and since when."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = ["HostState", "host_state_of"]

_MAX_BYTES = 4096


class HostState(BaseModel):
    """A STATE message; `timestamp` in milliseconds since 1970, UTC. More keys may stand there."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    online: bool
    timestamp: Annotated[int, Field(ge=0)]


def host_state_of(payload: bytes) -> HostState | None:
    """The state that a payload tells; None where it is none of Sparkplug 3.0."""
    if len(payload) > _MAX_BYTES:
        return None
    try:
        return HostState.model_validate_json(payload)
    except ValidationError:
        return None
