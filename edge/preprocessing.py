"""Frame → the tensors that a bundle's stages may ask for. Training and the device both call this."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from edge.depth import (
    BackgroundPlane,
    Mask,
    fill_holes,
    fit_background_plane,
    foreground_mask,
    height_over_plane,
    normalise_z,
    normals_image,
    pieces_touching,
    pixel_unshuffle,
)
from edge.frame import Frame
from edge.framing import FramingConfig, View, view_of

__all__ = [
    "TENSORS",
    "ForegroundConfig",
    "NormalsConfig",
    "Prepared",
    "Preprocessing",
    "ZConfig",
    "mask_above",
    "preprocess",
    "tensor_shapes",
]

TENSORS = ("image", "normals", "depth", "z", "mask")
"""The names of the tensors that the device offers to a bundle's stages."""

_Float = npt.NDArray[np.float32]


class ForegroundConfig(BaseModel):
    """How the part is told from its background, by height over the plane.

    `part_threshold_m` finds the part (for the window, and whether there is one at all): well above the
    noise of the bed. `mask_threshold_m`, finer, gives the mask for the score, of which the pieces count
    that hold some of the part. The mask is grown by `dilation_px` pixels of the depth square so that a
    defect at the outline is seen. `closing_px` closes the notches that stereo leaves in the outline; over
    a bed whose noise reaches the thresholds it would join the noise to the part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    part_threshold_m: float = Field(default=0.005, gt=0)
    mask_threshold_m: float = Field(default=0.004, gt=0)
    closing_px: int = Field(default=1, ge=1)
    opening_px: int = Field(default=5, ge=1)
    min_area_mm2: float = Field(default=25.0, gt=0)
    dilation_px: int = Field(default=8, ge=0)
    fill: bool = True
    border_share: float = Field(default=0.08, gt=0, le=0.5)


class ZConfig(BaseModel):
    """The z channel: `raw` depth as in the paper, or `height` over the background plane.

    (value − mean over the mask) / `scale_m`, within ±`clamp`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["raw", "height"] = "height"
    scale_m: float = Field(default=0.01, gt=0)
    clamp: float = Field(default=8.0, gt=0)


class NormalsConfig(BaseModel):
    """The normals image; see `edge.depth.normals_image`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    smoothing_px: float = Field(default=1.0, ge=0)
    relief_m: float = Field(default=0.002, gt=0)


class Preprocessing(BaseModel):
    """All that decides how a frame becomes tensors; part of the bundle's manifest.

    `image_px` is the side of `image` and `normals`, `depth_px` that of `depth`; `map_cells` is the side m
    of `mask`, `z` and the anomaly map: `depth_px` / m is the factor of the unshuffle.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_px: int = Field(default=384, ge=16)
    depth_px: int = Field(default=192, ge=8)
    map_cells: int = Field(default=24, ge=2)
    framing: FramingConfig
    foreground: ForegroundConfig = ForegroundConfig()
    z: ZConfig = ZConfig()
    normals: NormalsConfig = NormalsConfig()

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.depth_px % self.map_cells:
            raise ValueError(f"depth_px {self.depth_px} is not a multiple of map_cells {self.map_cells}")
        return self

    @property
    def unshuffle(self) -> int:
        return self.depth_px // self.map_cells


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What preprocessing made of a frame.

    `tensors` holds those that were asked for, each with a leading batch axis of 1. `mask` (depth_px,
    depth_px) is the foreground of the view, grown; `part` (H, W) the coarse foreground of the frame, not
    grown; `lost_share` the part of it that lies outside the view; `part_area_mm2` measured on the plane.
    """

    tensors: dict[str, npt.NDArray[np.generic]]
    view: View
    plane: BackgroundPlane
    mask: Mask
    part: Mask
    part_area_mm2: float
    lost_share: float
    pixel_mm: float


def tensor_shapes(config: Preprocessing) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name → (dtype, shape) of each tensor that the device offers under this configuration."""
    image, depth, cells = config.image_px, config.depth_px, config.map_cells
    return {
        "image": ("uint8", (1, image, image, 3)),
        "normals": ("uint8", (1, image, image, 3)),
        "depth": ("float32", (1, 1, depth, depth)),
        "z": ("float32", (1, config.unshuffle**2, cells, cells)),
        "mask": ("float32", (1, 1, cells, cells)),
    }


def preprocess(
    frame: Frame, config: Preprocessing, wanted: AbstractSet[str], *, angle_deg: float = 0.0
) -> Prepared:
    """The tensors named in `wanted`, of the view that the configuration asks for.

    `angle_deg` turns the view about its middle (training shows a part at many angles). An empty
    foreground is not an error here: `part` is then empty, and the tensors are those of an empty view.

    Raises `DepthUnusable` where the background can't be found.
    """
    intrinsics, foreground = frame.intrinsics, config.foreground
    plane = fit_background_plane(frame.depth_m, intrinsics, border_share=foreground.border_share)
    height_m = height_over_plane(frame.depth_m, plane, intrinsics)  # (H, W)
    pixel_m = plane.distance_m / intrinsics.fx_px
    part = mask_above(height_m, foreground.part_threshold_m, pixel_m, foreground)  # (H, W)
    view = view_of(config.framing, frame.width_px, frame.height_px, part, angle_deg)

    side = config.depth_px
    low = mask_above(height_m, foreground.mask_threshold_m, pixel_m, foreground)  # (H, W)
    fine = pieces_touching(low | part, part)  # (H, W)
    own = view.take(fine.astype(np.uint8), side, nearest=True).astype(np.uint8)  # (side, side)
    if foreground.dilation_px:
        ellipse = cv2.getStructuringElement(
            cv2.MORPH_ELLIPSE, (2 * foreground.dilation_px + 1, 2 * foreground.dilation_px + 1)
        )
        mask = cv2.dilate(own, ellipse).astype(bool)
    else:
        mask = own.astype(bool)

    tensors: dict[str, npt.NDArray[np.generic]] = {}
    if "image" in wanted:
        tensors["image"] = view.take(frame.rgb, config.image_px)[None]  # (1, S, S, 3)
    if wanted & {"normals", "z"}:
        square_m = _height_square(height_m, frame.depth_m > 0, fine, view, side)  # (side, side)
        if "normals" in wanted:
            small = normals_image(
                square_m,
                pixel_m=view.pixel_m(side, plane.distance_m, intrinsics.fx_px),
                smoothing_px=config.normals.smoothing_px,
                relief_m=config.normals.relief_m,
            )
            large = cv2.resize(small, (config.image_px, config.image_px), interpolation=cv2.INTER_LINEAR)
            tensors["normals"] = large[None]  # (1, S, S, 3)
        if "z" in wanted:
            values_m = (
                square_m if config.z.source == "height" else _raw_square(frame, plane, fine, view, side)
            )
            channel = normalise_z(values_m, own.astype(bool), scale_m=config.z.scale_m, clamp=config.z.clamp)
            tensors["z"] = pixel_unshuffle(channel, config.unshuffle)[None]  # (1, r·r, m, m)
    if "depth" in wanted:
        tensors["depth"] = view.take(frame.depth_m, side, nearest=True)[None, None]  # (1, 1, side, side)
    if "mask" in wanted:
        cells = pixel_unshuffle(mask.astype(np.float32), config.unshuffle).max(axis=0)  # (m, m)
        tensors["mask"] = cells[None, None]  # (1, 1, m, m)
    return Prepared(
        tensors=tensors,
        view=view,
        plane=plane,
        mask=mask,
        part=part,
        part_area_mm2=float(part.sum()) * (pixel_m * 1e3) ** 2,
        lost_share=_lost_share(part, view),
        pixel_mm=pixel_m * 1e3,
    )


def mask_above(height_m: _Float, threshold_m: float, pixel_m: float, foreground: ForegroundConfig) -> Mask:
    """What stands more than `threshold_m` above the background, as configured; (H, W) bool.

    `pixel_m` is the width of a pixel on the background.
    """
    return foreground_mask(
        height_m,
        threshold_m=threshold_m,
        closing_px=foreground.closing_px,
        opening_px=foreground.opening_px,
        min_area_px=max(1, round(foreground.min_area_mm2 * 1e-6 / pixel_m**2)),
        fill=foreground.fill,
    )


def _height_square(height_m: _Float, valid: Mask, fine: Mask, view: View, side: int) -> _Float:
    """The view of the height, free of holes: inside the part from its surroundings, outside it flat."""
    known = valid & fine
    flat = ~fine
    filled = fill_holes(np.where(flat, np.float32(0.0), height_m), known | flat)  # (H, W)
    return view.take(filled, side).astype(np.float32)


def _raw_square(frame: Frame, plane: BackgroundPlane, fine: Mask, view: View, side: int) -> _Float:
    """The view of the depth as the paper takes it, metres; outside the part the plane's own depth."""
    columns = np.arange(frame.width_px, dtype=np.float32)[None, :]
    rows = np.arange(frame.height_px, dtype=np.float32)[:, None]
    ground_m = plane.depth_at(columns, rows, frame.intrinsics)  # (H, W)
    known = (frame.depth_m > 0) & fine
    filled = fill_holes(np.where(known, frame.depth_m, ground_m), known | ~fine)
    return view.take(filled, side).astype(np.float32)


def _lost_share(part: Mask, view: View) -> float:
    """The share of the part that lies outside the view."""
    rows, columns = np.nonzero(part)  # (k,) each
    if rows.size == 0:
        return 0.0
    affine = view.to_frame(1)
    offset = np.stack([columns, rows]) - affine[:, 2:]  # (2, k) from the view's middle
    place = np.linalg.solve(affine[:, :2], offset)  # (2, k) in units of the view's sides
    seen = (np.abs(place) <= 0.5 + 1e-9).all(axis=0)  # (k,)
    return float(1.0 - seen.mean())
