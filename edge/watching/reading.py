"""What the watch reads of a rig's messages: a few fields of each, and of those nothing unlooked at.

Models of their own, since a rig may be of another version than the watch: fields that it does not know it
passes over, and a new word where it knows others is shown as it is.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from edge.utc_time import UtcTime

__all__ = [
    "AvailabilityRead",
    "HealthRead",
    "MachineRead",
    "RecipeRead",
    "VerdictRead",
    "printable",
]

_TEXT_MAX_CHARACTERS = 200
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(text: str) -> str:
    """`text` as one line that does nothing to a terminal: what is no visible character is written out."""
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _HIDDEN
        else character
        for character in text[:_TEXT_MAX_CHARACTERS]
    )


Text = Annotated[str, AfterValidator(printable)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class AvailabilityRead(_Read):
    """Of `availability`."""

    state: Text
    reason: Text


class MachineRead(_Read):
    """Of `state/machine`."""

    state: Text
    reason: Text | None


class _Running(_Read):
    name: Text


class RecipeRead(_Read):
    """Of `state/recipe`."""

    running: _Running
    loading: Text | None


class VerdictRead(_Read):
    """Of `verdict` and `state/last_verdict`."""

    result_id: Text
    creation_time: UtcTime
    outcome: Text
    reason: Text | None
    score: float | None
    threshold: float | None
    epoch: Count
    seq: Count


class _Camera(_Read):
    name: Text
    down_s: float | None = None
    down_reason: Text | None = None


class _Broker(_Read):
    verdicts_pending: Count


class _SceneWarning(_Read):
    reason: Text


class _Scene(_Read):
    warnings: Annotated[tuple[_SceneWarning, ...], Field(max_length=100)]


class _Score(_Read):
    warning: Text | None


class _Promise(_Read):
    warning: Text | None


class _Outbox(_Read):
    alarms: Annotated[tuple[Text, ...], Field(max_length=100)]


class HealthRead(_Read):
    """Of `health`."""

    creation_time: UtcTime
    recipe_id: Text
    inspections: Annotated[dict[Text, Count], Field(max_length=20)]
    camera: _Camera
    broker: _Broker
    scene: _Scene | None = None
    score: _Score | None = None
    promise: _Promise | None = None
    outbox: _Outbox | None = None
    clock_synced: bool | None
