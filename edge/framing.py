"""Which part of the frame the model sees, and the way back from map cells to pixels and millimetres."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from edge.depth import Mask, largest_pieces

__all__ = ["FramingConfig", "Hull", "Upright", "View", "box_of", "hull_of", "view_of"]

_PIECE_SHARE = 0.02
"""How large a piece of the foreground must be, of the largest, to belong to the part."""

Upright = Literal["off", "reach", "axis", "triangle", "square", "hexagon"]
"""By what a part is turned upright: its long axis, or where it has none, the outline that it resembles."""

_FOLDS: dict[Upright, int] = {"reach": 1, "axis": 2, "triangle": 3, "square": 4, "hexagon": 6}

_Float = npt.NDArray[np.float32]
_Pixel = Annotated[int, Field(le=16_384)]
Hull = npt.NDArray[np.float64]
"""(j, 2) x, y of the corners of what a part's outline spans."""

_Pixels = TypeVar("_Pixels", npt.NDArray[np.uint8], npt.NDArray[np.float32])


class FramingConfig(BaseModel):
    """What the model is shown of the frame.

    `whole`: the frame, stretched to a square as in the paper, or letter-boxed; `roi`: a fixed rectangle
    (x, y, width, height in pixels); `part`: a square of `window_px` around the part, found from depth, and
    with `upright` turned so that every part is seen alike (see `box_of`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["whole", "roi", "part"] = "part"
    fit: Literal["stretch", "letterbox"] = "stretch"
    roi_px: tuple[_Pixel, _Pixel, _Pixel, _Pixel] | None = None
    window_px: int | None = Field(default=None, ge=16, le=16_384)
    upright: Upright = "off"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.mode == "roi" and (self.roi_px is None or min(self.roi_px) < 0 or min(self.roi_px[2:]) < 16):
            raise ValueError("framing 'roi' needs roi_px: [x, y, width, height], at least 16 pixels a side")
        if self.mode == "part" and self.window_px is None:
            raise ValueError("framing 'part' needs window_px: the side of the square around the part")
        return self


@dataclass(frozen=True, slots=True)
class View:
    """A rectangle of the frame, turned by an angle about its centre: what is resized to the model's square.

    `centre_px` (x, y) and `size_px` (width, height) in pixels of the frame, where the centre of the
    top-left pixel is (0, 0); the view may reach past the frame's edge. `angle_deg` turns the picture
    counter-clockwise as it is looked at.
    """

    centre_px: tuple[float, float]
    size_px: tuple[float, float]
    angle_deg: float = 0.0

    def to_frame(self, side: int) -> npt.NDArray[np.float64]:
        """(2, 3) affine from pixels of the model's `side`×`side` square to pixels of the frame."""
        radians = np.radians(self.angle_deg)
        turn = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])  # (2, 2)
        linear = turn @ np.diag([self.size_px[0] / side, self.size_px[1] / side])
        middle = np.full(2, (side - 1) / 2)
        return np.column_stack([linear, np.asarray(self.centre_px) - linear @ middle])

    def take(self, image: _Pixels, side: int, *, nearest: bool = False, smooth: bool = True) -> _Pixels:
        """What the view shows of an image (H, W[, C]) as (side, side[, C]); the edge pixels go on outside.

        Bilinear; with `smooth` a view that shrinks is smoothed first, so that nothing fine turns into moiré.
        """
        source: npt.NDArray[np.uint8] | npt.NDArray[np.float32] = image
        shrink = max(self.size_px) / side
        if shrink > 1.0 and smooth and not nearest:
            source = _like(cv2.GaussianBlur(image, (0, 0), 0.5 * math.sqrt(shrink**2 - 1.0)), image)
        warped = cv2.warpAffine(
            source,
            self.to_frame(side),
            (side, side),
            flags=(cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return _like(warped, image)

    def give_back(self, square: _Float, width_px: int, height_px: int) -> _Float:
        """An image (side, side) of the view laid back into the frame, (height_px, width_px); 0 elsewhere.

        Bilinear between the centres of the square's cells, and constant from the outermost centres to
        the view's edge.
        """
        side = square.shape[0]
        padded = cv2.copyMakeBorder(square, 1, 1, 1, 1, cv2.BORDER_REPLICATE)  # (side + 2, side + 2)
        affine = self.to_frame(side)
        affine[:, 2] -= affine[:, :2] @ np.ones(2)  # the padded square's origin lies one cell further out
        in_frame = cv2.warpAffine(padded, affine, (width_px, height_px), flags=cv2.INTER_LINEAR)
        back = np.linalg.inv(np.vstack([self.to_frame(side), [0.0, 0.0, 1.0]]))  # frame → square
        columns, rows = np.arange(width_px)[None, :], np.arange(height_px)[:, None]
        inside = np.ones((height_px, width_px), dtype=bool)
        for axis in (0, 1):
            place = back[axis, 0] * columns + back[axis, 1] * rows + back[axis, 2]  # (H, W)
            inside &= (place >= -0.5) & (place <= side - 0.5)
        return np.where(inside, in_frame, np.float32(0.0)).astype(np.float32)

    def corners_px(self) -> npt.NDArray[np.float64]:
        """(4, 2) the view's corners in the frame, clockwise from the top left as it is looked at."""
        affine = self.to_frame(1)
        unit = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        return np.asarray(unit @ affine[:, :2].T + affine[:, 2])

    def pixel_m(self, side: int, depth_m: float, fx_px: float) -> float:
        """The width of one pixel of the model's `side`×`side` square, in metres, at that depth."""
        return self.size_px[0] / side * depth_m / fx_px


def box_of(part: Mask, *, upright: Upright, hull: Hull | None = None) -> View:
    """The box around a mask (H, W) that is not empty, along the frame's axes or the part's own.

    `hull` is its `hull_of`, where that is known already.

    The part's own axis is found from its convex hull, which hardly changes where depth is missing: it is
    the phase of the hull's complex moment Σ zⁿ, n the order of the symmetry (2: the axis of the largest
    second moment; 4: the sides of a square). Of the n axes it is the one with the largest third moment: the
    side that reaches further, and so weighs less, lies to the right.
    """
    hull = hull_of(part) if hull is None else hull  # (j, 2)
    fold = _FOLDS.get(upright)
    angle_deg = 0.0 if fold is None else math.degrees(_angle(hull, fold))
    radians = math.radians(angle_deg)
    turn = np.array([[math.cos(radians), -math.sin(radians)], [math.sin(radians), math.cos(radians)]])
    own = hull @ turn  # along the part's axes
    low, high = own.min(axis=0), own.max(axis=0)
    centre = turn @ ((low + high) / 2)
    size = high - low + 1.0
    return View((float(centre[0]), float(centre[1])), (float(size[0]), float(size[1])), angle_deg)


def hull_of(part: Mask) -> Hull:
    """The convex hull of a mask (H, W) that is not empty.

    Only the largest connected piece counts, with those at least a fiftieth of it: a speck of noise or a
    small foreign body somewhere on the tray must not pull the view away from the part.
    """
    pieces = largest_pieces(part, share=_PIECE_SHARE).astype(np.uint8)  # (H, W)
    points = np.asarray(cv2.convexHull(np.asarray(cv2.findNonZero(pieces))))  # (j, 1, 2)
    return points[:, 0, :].astype(np.float64)


def _from_centre(hull: npt.NDArray[np.float64]) -> npt.NDArray[np.complex128]:
    """(k,) the hull's pixels as complex numbers about their centre."""
    low = np.floor(hull.min(axis=0)).astype(int)
    width, height = np.ceil(hull.max(axis=0)).astype(int) - low + 1
    inside = np.zeros((height, width), dtype=np.uint8)
    cv2.fillConvexPoly(inside, (hull - low).astype(np.int32), 1)
    rows, columns = np.nonzero(inside)  # (k,) each
    z = columns + 1j * rows
    return np.asarray(z - z.mean())


def _angle(hull: npt.NDArray[np.float64], fold: int) -> float:
    """Radians from x to the hull's own axis; see `box_of`."""
    z = _from_centre(hull)  # (k,)
    if fold == 1:
        return float(np.angle((z * np.abs(z) ** 2).sum()))
    phase = float(np.angle((z**fold).sum()))
    # Of a square the phase points to a corner: half a turn of it, and the sides lie along x and y.
    angle = (phase + (math.pi if fold == 4 else 0.0)) / fold
    turns = angle + 2.0 * math.pi / fold * np.arange(fold)  # (fold,)
    along = (z[None, :] * np.exp(-1j * turns)[:, None]).real  # (fold, k)
    return float(turns[int((along**3).sum(axis=1).argmax())])


def _like(array: npt.NDArray[np.integer[Any] | np.floating[Any]], image: _Pixels) -> _Pixels:
    """OpenCV keeps the dtype; its annotations don't say so."""
    return np.asarray(array, dtype=image.dtype)


def view_of(
    config: FramingConfig,
    width_px: int,
    height_px: int,
    part: Mask,
    angle_deg: float = 0.0,
    *,
    hull: Hull | None = None,
) -> View:
    """The view of a frame that the configuration asks for; `part` (H, W) is the coarse foreground.

    `hull` is its `hull_of`, where that is known already.

    A window lies around the middle of the part's box, at its angle plus `angle_deg`. An empty `part`
    gives the frame's middle: whether there is a part is for the caller to ask.
    """
    if config.mode == "roi" and config.roi_px is not None:
        x, y, w, h = config.roi_px
        return View((x + (w - 1) / 2, y + (h - 1) / 2), (w, h), angle_deg)
    if config.mode == "part" and config.window_px is not None:
        size = (float(config.window_px), float(config.window_px))
        if hull is None and not bool(part.any()):
            return View(((width_px - 1) / 2, (height_px - 1) / 2), size, angle_deg)
        box = box_of(part, upright=config.upright, hull=hull)
        return View(box.centre_px, size, box.angle_deg + angle_deg)
    side = float(max(width_px, height_px))
    whole = (side, side) if config.fit == "letterbox" else (float(width_px), float(height_px))
    return View(((width_px - 1) / 2, (height_px - 1) / 2), whole, angle_deg)
