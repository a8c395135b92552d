"""Where the model may find something, and how large it must be: rules that are part of the score."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

__all__ = ["RegionRules", "Zone"]

_MAX_ZONES = 16
_MAX_CORNERS = 24

_LOWEST = 1e-12
"""The map is divided by a zone's threshold, and must stay a number."""

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


# In a message all fields are there, so a consumer may count on them.
_CONFIG = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class Zone(BaseModel):
    """A polygon of the square that the model sees, with a threshold of its own, or none at all.

    `corners` are (x, y) in shares of the square, (0, 0) its top left corner, (1, 1) its bottom right one. It
    is closed by itself.
    """

    model_config = _CONFIG

    name: str = Field(min_length=1, max_length=60)
    corners: tuple[tuple[_Share, _Share], ...] = Field(min_length=3, max_length=_MAX_CORNERS)
    ignore: bool = False
    threshold: float | None = Field(default=None, ge=_LOWEST, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.ignore is (self.threshold is not None):
            raise ValueError(f"zone {self.name!r} needs either ignore: true or a threshold of its own")
        return self


class RegionRules(BaseModel):
    """What a score is made of beside the map: see docs/calibration.md.

    In a zone to `ignore` nothing is found; in one with a threshold, what lies above that one is a fail; where
    zones overlap, the strictest threshold holds, and `ignore` before all. What covers less than
    `min_area_mm2` on the background plane is no fail. Area and thresholds only for a score that is the map's
    maximum: `edge.ruled_score` makes the score.
    """

    model_config = _CONFIG

    min_area_mm2: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    zones: tuple[Zone, ...] = Field(default=(), max_length=_MAX_ZONES)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [zone.name for zone in self.zones]
        if len(set(names)) < len(names):
            raise ValueError(f"zones {names}: each needs a name of its own")
        return self

    @property
    def scales(self) -> bool:
        """Whether a zone has a threshold of its own."""
        return any(zone.threshold is not None for zone in self.zones)
