"""Masks drawn with LabelMe: JSON files of polygons.

The shapes are those of LabelMe 5 (https://github.com/wkentaro/labelme): `polygon`, `rectangle` (two opposite
corners) and `circle` (its middle and a point of its edge), in pixels measured from the image's corner.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from edge.errors import CaptureError

__all__ = ["read_labelme_mask"]

_SUBPIXEL_BITS = 4
_Point = tuple[float, float]


class _Loose(BaseModel):
    """LabelMe writes the image itself, flags and colours as well."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Polygon(_Loose):
    shape_type: Literal["polygon"]
    points: tuple[_Point, ...] = Field(min_length=3)


class _TwoPoints(_Loose):
    shape_type: Literal["rectangle", "circle"]
    points: tuple[_Point, _Point]


class _Annotation(_Loose):
    imageHeight: int = Field(ge=1)  # noqa: N815
    imageWidth: int = Field(ge=1)  # noqa: N815
    shapes: tuple[Annotated[_Polygon | _TwoPoints, Field(discriminator="shape_type")], ...]

    @model_validator(mode="before")
    @classmethod
    def _old_files(cls, data: object) -> object:
        # Before 3.0 LabelMe knew polygons alone and did not say so.
        if isinstance(data, dict) and isinstance(data.get("shapes"), list):
            shapes = [
                {"shape_type": "polygon", **shape} if isinstance(shape, dict) else shape
                for shape in data["shapes"]
            ]
            return {**data, "shapes": shapes}
        return data

    @model_validator(mode="after")
    def _sized(self) -> Self:
        if self.imageHeight * self.imageWidth > 100_000_000:
            raise ValueError(f"an image of {self.imageWidth}×{self.imageHeight} is not a camera's")
        return self


def read_labelme_mask(path: Path) -> npt.NDArray[np.bool_]:
    """(H, W), True inside any shape, whatever its label; raises `CaptureError`."""
    try:
        annotation = _Annotation.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CaptureError(f"{path}: can't be read ({error.strerror}); restore it") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise CaptureError(
            f"{path}: {key}: {first['msg']}; a LabelMe mask has imageHeight, imageWidth and shapes, each a "
            "polygon, a rectangle or a circle"
        ) from error
    mask = np.zeros((annotation.imageHeight, annotation.imageWidth), dtype=np.uint8)
    for shape in annotation.shapes:
        # LabelMe measures from the image's corner, OpenCV from the middle of the first pixel.
        points = np.asarray(shape.points, dtype=np.float64) - 0.5  # (N, 2) x, y
        fixed = np.rint(points * 2**_SUBPIXEL_BITS).astype(np.int32)
        if shape.shape_type == "circle":
            radius = float(np.hypot(*(points[1] - points[0]))) * 2**_SUBPIXEL_BITS
            centre = (int(fixed[0, 0]), int(fixed[0, 1]))
            cv2.circle(mask, centre, round(radius), 1, cv2.FILLED, shift=_SUBPIXEL_BITS)
            continue
        if shape.shape_type == "rectangle":
            (x0, y0), (x1, y1) = fixed
            fixed = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.int32)
        cv2.fillPoly(mask, [fixed], 1, shift=_SUBPIXEL_BITS)
    return np.asarray(mask > 0)
