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

from edge.background import BackgroundKind, height_over_background, pass_fill
from edge.depth import (
    BackgroundPlane,
    Mask,
    fill_holes,
    foreground_mask,
    normalise_z,
    normals_image,
    pieces_touching,
    pixel_unshuffle,
)
from edge.errors import DepthUnusable
from edge.frame import DepthImage, Frame, Intrinsics
from edge.framing import FramingConfig, View, box_of, hull_of, view_of

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
    that hold some of the part. `closing_px` closes the notches that stereo leaves in the outline; over
    a bed whose noise reaches the thresholds it would join the noise to the part.

    On its way to the depth square the mask takes the `nearest` pixel, or is set where the square's pixel
    has `touched` it (AST). There it is grown by `dilation_px` so that a defect at the outline is seen: with
    an `ellipse` of 2·`dilation_px` + 1 pixels, or a `square` of 2·`dilation_px` (AST: 4, so 8×8). A cell of
    the `mask` tensor is 1 if it has `touched` the mask, or if `half` of it is set; `soft` is the bilinear
    value between 0 and 1 (AST).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    part_threshold_m: float = Field(default=0.005, gt=0, le=10)
    mask_threshold_m: float = Field(default=0.004, gt=0, le=10)
    closing_px: int = Field(default=1, ge=1, le=101)
    opening_px: int = Field(default=5, ge=1, le=101)
    min_area_mm2: float = Field(default=25.0, gt=0, le=1e7)
    dilation_px: int = Field(default=8, ge=0, le=100)
    dilation_shape: Literal["ellipse", "square"] = "ellipse"
    fill: bool = True
    background: BackgroundKind = "plane"
    border_share: float = Field(default=0.08, gt=0, le=0.5)
    shrinking: Literal["nearest", "touched"] = "nearest"
    cells: Literal["touched", "half", "soft"] = "touched"


class ZConfig(BaseModel):
    """The z channel: `raw` depth as in the paper, or `height` over the background.

    (value − mean over the part) / `scale_m`, within ±`clamp`; 0 outside the part. Computed on the depth
    `square`; or in the `frame` and then resized without smoothing (AST), where the outline's pixels are a
    mixture of the part's and the background's 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: Literal["raw", "height"] = "height"
    scale_m: float = Field(default=0.01, ge=1e-6, le=10)
    clamp: float | None = Field(default=8.0, gt=0, le=1e6)
    normalised: Literal["square", "frame"] = "square"


class NormalsConfig(BaseModel):
    """The normals image; see `edge.depth.normals_image`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    smoothing_px: float = Field(default=1.0, ge=0, le=100)
    relief_m: float = Field(default=0.002, ge=1e-6, le=10)


class Preprocessing(BaseModel):
    """All that decides how a frame becomes tensors; part of the bundle's manifest.

    `image_px` is the side of `image` and `normals`, `depth_px` that of `depth`; `map_cells` is the side m
    of `mask`, `z` and the anomaly map: `depth_px` / m is the factor of the unshuffle. `hole_passes` times,
    before anything else, missing depth becomes the mean of its 3×3 neighbours (AST: 3); what is missing
    within the part after that is filled from its surroundings at every scale.

    Every number has an upper bound, far above any that is of use: a manifest can't ask for all memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    image_px: int = Field(default=384, ge=16, le=4096)
    depth_px: int = Field(default=192, ge=8, le=4096)
    map_cells: int = Field(default=24, ge=2, le=1024)
    hole_passes: int = Field(default=0, ge=0, le=100)
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
    grown; `box` is what surrounds it along the frame's axes, where the view is a window about it;
    `lost_share` the part of it that lies outside the view; `part_area_mm2` measured on the plane, which was
    found as `background` says.
    """

    tensors: dict[str, npt.NDArray[np.generic]]
    view: View
    plane: BackgroundPlane
    mask: Mask
    part: Mask
    part_area_mm2: float
    lost_share: float
    pixel_mm: float
    background: BackgroundKind = "plane"
    box: View | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """A frame's background, the height over it, `height_m` (H, W), and what stands on it, `part` (H, W)."""

    plane: BackgroundPlane
    height_m: _Float
    part: Mask


def ground_of(depth_m: DepthImage, intrinsics: Intrinsics, foreground: ForegroundConfig) -> Ground:
    """What stands on the background of a depth image; raises `DepthUnusable` where that can't be found."""
    plane, height_m = height_over_background(
        depth_m, intrinsics, foreground.background, foreground.border_share
    )  # height_m (H, W)
    pixel_m = plane.distance_m / intrinsics.fx_px
    return Ground(plane, height_m, mask_above(height_m, foreground.part_threshold_m, pixel_m, foreground))


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
    frame: Frame,
    config: Preprocessing,
    wanted: AbstractSet[str],
    *,
    angle_deg: float = 0.0,
    ground: Ground | None = None,
) -> Prepared:
    """The tensors named in `wanted`, of the view that the configuration asks for.

    `angle_deg` turns the view about its middle (training shows a part at many angles). `ground` is the
    `ground_of` of the frame's depth, where that is known; holes that are filled first ask for another. An
    empty foreground is not an error here: `part` is then empty, and the tensors are those of an empty view.

    Raises `DepthUnusable` where the background can't be found, or a part covers no cell of the mask.
    """
    intrinsics, foreground = frame.intrinsics, config.foreground
    depth_m = pass_fill(frame.depth_m, config.hole_passes) if config.hole_passes else frame.depth_m
    if ground is None or config.hole_passes:
        ground = ground_of(depth_m, intrinsics, foreground)
    plane, height_m, part = ground.plane, ground.height_m, ground.part
    pixel_m = plane.distance_m / intrinsics.fx_px
    hull = hull_of(part) if config.framing.mode == "part" and bool(part.any()) else None  # (j, 2)
    view = view_of(config.framing, frame.width_px, frame.height_px, part, angle_deg, hull=hull)

    side = config.depth_px
    low = mask_above(height_m, foreground.mask_threshold_m, pixel_m, foreground)  # (H, W)
    fine = pieces_touching(low | part, part)  # (H, W)
    own = _own_square(fine, view, side, foreground)  # (side, side)
    mask = _grown(own, foreground)  # (side, side)

    tensors: dict[str, npt.NDArray[np.generic]] = {}
    if "image" in wanted:
        tensors["image"] = view.take(frame.rgb, config.image_px)[None]  # (1, S, S, 3)
    surface = _Surface(depth_m, height_m, fine, plane, intrinsics)
    if "normals" in wanted:
        small = normals_image(
            view.take(surface.filled_m("height"), side),
            pixel_m=view.pixel_m(side, plane.distance_m, intrinsics.fx_px),
            smoothing_px=config.normals.smoothing_px,
            relief_m=config.normals.relief_m,
        )
        large = cv2.resize(small, (config.image_px, config.image_px), interpolation=cv2.INTER_LINEAR)
        tensors["normals"] = large[None]  # (1, S, S, 3)
    if "z" in wanted:
        channel = _z_square(config.z, surface, own, view)  # (side, side)
        tensors["z"] = pixel_unshuffle(channel, config.unshuffle)[None]  # (1, r·r, m, m)
    if "depth" in wanted:
        tensors["depth"] = view.take(frame.depth_m, side, nearest=True)[None, None]  # (1, 1, side, side)
    if "mask" in wanted:
        tensors["mask"] = _mask_cells(mask, config)[None, None]  # (1, 1, m, m)
    return Prepared(
        tensors=tensors,
        view=view,
        plane=plane,
        mask=mask,
        part=part,
        part_area_mm2=float(part.sum()) * (pixel_m * 1e3) ** 2,
        lost_share=_lost_share(part, view),
        pixel_mm=pixel_m * 1e3,
        background=foreground.background,
        box=None if hull is None else box_of(part, upright="off", hull=hull),
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


def _own_square(fine: Mask, view: View, side: int, foreground: ForegroundConfig) -> Mask:
    """The view of the foreground, not grown; (side, side)."""
    if foreground.shrinking == "nearest":
        return np.asarray(view.take(fine.astype(np.uint8), side, nearest=True), dtype=bool)
    return view.take(fine.astype(np.float32), side, smooth=False) > 0


def _grown(own: Mask, foreground: ForegroundConfig) -> Mask:
    reach = foreground.dilation_px
    if not reach:
        return own
    if foreground.dilation_shape == "square":
        # An even square has no middle: like SciPy's dilation, it reaches further up and to the left.
        kernel, anchor = np.ones((2 * reach, 2 * reach), np.uint8), (reach - 1, reach - 1)
    else:
        kernel = np.asarray(
            cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)), dtype=np.uint8
        )
        anchor = (reach, reach)
    return np.asarray(cv2.dilate(own.astype(np.uint8), kernel, anchor=anchor), dtype=bool)


def _mask_cells(mask: Mask, config: Preprocessing) -> _Float:
    """(m, m) the mask of the cells, as configured; `DepthUnusable` where a part falls between all of them."""
    values = mask.astype(np.float32)  # (side, side)
    pixels = pixel_unshuffle(values, config.unshuffle)  # (r·r, m, m)
    how = config.foreground.cells
    if how == "touched":
        return np.asarray(pixels.max(axis=0))
    if how == "half":
        cells = np.asarray(pixels.mean(axis=0) >= 0.5, dtype=np.float32)
    else:
        size = (config.map_cells, config.map_cells)
        cells = np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    if bool(mask.any()) and not bool(cells.any()):  # a map that is 0 everywhere would pass the part
        raise DepthUnusable(
            f"the part covers {int(mask.sum())} pixels of the depth square and, with foreground.cells {how}, "
            "no cell of the map; set foreground.cells to touched, or frame the part closer"
        )
    return cells


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """What depth says of a frame: `depth_m` and `height_m` (H, W), and `fine` (H, W), the part."""

    depth_m: DepthImage
    height_m: _Float
    fine: Mask
    plane: BackgroundPlane
    intrinsics: Intrinsics

    def filled_m(self, source: Literal["raw", "height"]) -> _Float:
        """(H, W) free of holes: inside the part from its surroundings, outside it the bare background."""
        outside: npt.NDArray[np.float32] | np.float32 = np.float32(0.0)
        if source == "raw":
            height, width = self.depth_m.shape
            columns = np.arange(width, dtype=np.float32)[None, :]
            rows = np.arange(height, dtype=np.float32)[:, None]
            outside = self.plane.depth_at(columns, rows, self.intrinsics)  # (H, W)
        values_m = self.depth_m if source == "raw" else self.height_m
        known = (self.depth_m > 0) & self.fine
        return fill_holes(np.where(known, values_m, outside), known | ~self.fine)


def _z_square(z: ZConfig, surface: _Surface, own: Mask, view: View) -> _Float:
    """The z channel (side, side), as configured."""
    side = own.shape[0]
    filled_m = surface.filled_m(z.source)  # (H, W)
    if z.normalised == "frame":
        in_frame = normalise_z(filled_m, surface.fine, scale_m=z.scale_m, clamp=z.clamp)  # (H, W)
        return view.take(in_frame, side, smooth=False)
    return normalise_z(view.take(filled_m, side), own, scale_m=z.scale_m, clamp=z.clamp)


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
