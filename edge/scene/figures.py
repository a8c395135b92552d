"""What is measured of the scene around the part: the camera's place over the tray, depth, light, colour."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["LightFigures", "PlaneFigures", "SceneFigures", "SceneModel", "median_of"]

_Share = Annotated[float, Field(ge=0, le=1)]


class SceneModel(BaseModel):
    """Frozen and strict, as all that is written down here."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )


class PlaneFigures(SceneModel):
    """How the camera stands over the tray, and how much its depth strays there.

    `tilt_x_deg` > 0: what is at the top of the picture is further away; `tilt_y_deg` > 0: what is at its
    right. `distance_mm` from the camera to the tray, at right angles to it. `noise_mm`: standard deviation
    of depth across the plane, by the median absolute deviation (a hole or a crumb does not count).
    """

    tilt_x_deg: float = Field(gt=-90, lt=90)
    tilt_y_deg: float = Field(gt=-90, lt=90)
    distance_mm: float = Field(gt=0)
    noise_mm: float = Field(ge=0)


class LightFigures(SceneModel):
    """What light falls on the tray, and of which colour.

    `luma`: median of 0.299 R + 0.587 G + 0.114 B, 0 to 255; `clipped_share`: pixels of which a channel is
    at its end (254 or more). `red_to_green` and `blue_to_green` of linear light (values to the power of 2.2):
    a dimmer lamp does not change them, another lamp or another white balance does.
    """

    luma: float = Field(ge=0, le=255)
    clipped_share: _Share
    red_to_green: float = Field(ge=0)
    blue_to_green: float = Field(ge=0)


class SceneFigures(SceneModel):
    """All that is measured outside the part; `plane` is null where too little depth is left to find it.

    `fill_share`: pixels with depth.
    """

    plane: PlaneFigures | None
    fill_share: _Share
    light: LightFigures


_Model = TypeVar("_Model", bound=SceneModel)


def median_of(readings: Sequence[_Model]) -> _Model:
    """Each figure's median over several readings, at least one; null unless most of them have it."""
    values: dict[str, object] = {}
    for name in type(readings[0]).model_fields:
        there = [value for reading in readings if (value := getattr(reading, name)) is not None]
        if 2 * len(there) <= len(readings):
            values[name] = None
        elif isinstance(there[0], SceneModel):
            values[name] = median_of(there)
        else:
            values[name] = statistics.median(there)
    return type(readings[0]).model_validate(values)
