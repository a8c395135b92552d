"""What a simulated rig shows to its camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge.frame import DepthImage, Intrinsics, RgbImage

__all__ = ["Scene", "Shot"]


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One view of the tray, and the truth about it.

    `rgb` uint8 (H, W, 3); `depth_m` float32 (H, W), metres, 0 = invalid, already with the camera's noise
    and quantised to a multiple of the scene's depth unit; `truth_mask` bool (H, W), True where the part
    is defective; `defect` is None for a good part (and for an empty tray), else its type.
    """

    rgb: RgbImage
    depth_m: DepthImage
    truth_mask: npt.NDArray[np.bool_]
    part_id: str
    defect: str | None


class Scene(Protocol):
    """A sequence of shots; `shot(i)` is the same whenever it is asked for, in whatever order."""

    @property
    def intrinsics(self) -> Intrinsics:
        """Of colour and depth, which share one view point as on a D405."""

    @property
    def depth_unit_m(self) -> float:
        """The step of the camera's depth integers."""

    def shot(self, index: int) -> Shot | None:
        """The shot of that number, counted from 0; None past the scene's end."""
