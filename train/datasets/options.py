"""What a reader may be told beside where the data set lies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from edge.errors import ConfigError

__all__ = ["FORMATS", "LIGHTS", "DatasetOptions", "Format"]

Format = Literal["captures", "mvtec3d", "eyecandies", "pdreal", "globs"]
FORMATS: tuple[str, ...] = get_args(Format)

LIGHTS = 6
"""Eyecandies shows each part six times: image_0 to image_5."""


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """Options of all formats; each says whose it is.

    `light` (eyecandies): which of image_0 … image_5 is the picture; 4, the left spotlight, is what the
    published RGB + depth figures were made with. `layout_file` (globs, pdreal): the YAML that describes the
    folders; pdreal has one of its own. `test_lots` (captures): a name such as `test-*`; the lots that match
    are the test split. `depth_range_m`: where the median depth may lie, in place of the format's own range.
    `depth_scale`: every depth is multiplied by it, as if the whole scene were that much smaller. Raises
    `ConfigError`.
    """

    light: int = 4
    layout_file: Path | None = None
    test_lots: str | None = None
    depth_range_m: tuple[float, float] | None = None
    depth_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.light < LIGHTS:
            raise ConfigError(f"light is {self.light}; Eyecandies has image_0 to image_{LIGHTS - 1}")
        if not (math.isfinite(self.depth_scale) and self.depth_scale > 0):
            raise ConfigError(f"depth_scale is {self.depth_scale}; must be positive (1 = as stored)")
        if self.depth_range_m is not None:
            low, high = self.depth_range_m
            if not (math.isfinite(high) and 0 <= low < high):
                raise ConfigError(
                    f"depth_range_m is {low:g} to {high:g} m; must be two depths, the nearer first"
                )
