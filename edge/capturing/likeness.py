"""Whether two frames show the same: no more than the camera's noise lies between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.depth import Mask
from edge.frame import Frame

__all__ = ["Known", "Thumbnail", "thumbnail_of"]

_GREY_CELL_PX = 4
_DEPTH_CELL_PX = 8
_MARGIN_PX = 9
_SIGNATURE = (16, 12)

_SIGNATURE_MAX = 0.25
"""RMS between two signatures, each of mean 0 and standard deviation 1; by more, nothing can be the same."""

_ABOVE_NOISE = 1.3
"""Measured on the simulated products, in units of the noise by one frame: the same part again 0.7 to 0.8, at
rest under a light that flickers up to 1.2; another part in the very same place 1.9 and more."""

_ABOVE_REST = 1.5
"""The same in units of what was seen between frames of a scene at rest: 1 by definition; another part 2.6."""

_REST_TRUSTED = 3.0
"""A camera may smooth its picture: one frame then shows too little of the noise, a third of it at least."""

_DEPTH_SIGMAS = 4.0
_DEPTH_SHARE = 0.05

_Float = npt.NDArray[np.float32]
_Half = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class Thumbnail:
    """A frame made small, to be compared: means of cells, which calm the noise.

    `grey` (h, w) in cells of 4 px, 0 to 255; `near` (h, w) the part and a margin, all where there is no part;
    `depth_mm` (h/2, w/2) in cells of 8 px, 0 where less than half is known; `grey_noise` what two such
    frames of the same differ by, `depth_noise_mm` the spread of depth over the tray.
    """

    grey: _Half
    near: Mask
    depth_mm: _Half
    grey_noise: float
    depth_noise_mm: float
    signature: _Float


def thumbnail_of(frame: Frame, part: Mask, depth_noise_m: float) -> Thumbnail:
    """`part` (H, W); empty where there is none, and then the whole frame is compared."""
    grey = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)  # (H, W)
    near = np.ones_like(grey)
    if bool(part.any()):
        near = cv2.dilate(part.astype(np.uint8), np.ones((_MARGIN_PX, _MARGIN_PX), np.uint8))
    valid = (frame.depth_m > 0).astype(np.float32)  # (H, W)
    share = _cells(valid, _DEPTH_CELL_PX)
    depth_m = _cells(frame.depth_m, _DEPTH_CELL_PX) / np.maximum(share, np.float32(1e-6))
    small = np.asarray(cv2.resize(grey, _SIGNATURE, interpolation=cv2.INTER_AREA), dtype=np.float32)
    return Thumbnail(
        grey=_cells(grey.astype(np.float32), _GREY_CELL_PX).astype(np.float16),
        near=_cells(near.astype(np.float32), _GREY_CELL_PX) > 0.5,
        depth_mm=np.where(share > 0.5, depth_m * np.float32(1e3), np.float32(0)).astype(np.float16),
        grey_noise=_noise(grey) * 2**0.5 / _GREY_CELL_PX,
        depth_noise_mm=depth_noise_m * 1e3,
        signature=_standard(small).ravel(),
    )


class Known:
    """The frames that were kept, by name. `rests` whether the frames come from one camera, one after another.

    Then it learns from them by how much two frames of a scene at rest differ, which is what the noise is.
    """

    def __init__(self, *, rests: bool) -> None:
        self._rests = rests
        self._kept: dict[str, Thumbnail] = {}
        self._before: Thumbnail | None = None
        self._at_rest: float | None = None

    def add(self, name: str, thumbnail: Thumbnail) -> None:
        """One more is kept."""
        self._kept[name] = thumbnail

    def remove(self, name: str) -> None:
        """It is kept no longer."""
        self._kept.pop(name, None)

    def seen(self, thumbnail: Thumbnail) -> None:
        """The next frame of the camera, kept or not."""
        before, self._before = self._before, thumbnail
        if self._rests and before is not None and before.grey.shape == thumbnail.grey.shape:
            differs = _difference(before, thumbnail)
            if differs > 0:  # bit for bit the same is a repetition, not a rest
                self._at_rest = differs if self._at_rest is None else min(self._at_rest, differs)

    def same(self, thumbnail: Thumbnail) -> str | None:
        """The name of a kept frame that shows the same, the latest one; None where there is none."""
        names = [name for name, kept in self._kept.items() if kept.grey.shape == thumbnail.grey.shape]
        if not names:
            return None
        signatures = np.stack([self._kept[name].signature for name in names])  # (n, 192)
        apart = np.sqrt(np.mean((signatures - thumbnail.signature) ** 2, axis=1))  # (n,)
        for index in np.flatnonzero(apart <= _SIGNATURE_MAX)[::-1]:
            if self._is_same(self._kept[names[index]], thumbnail):
                return str(names[index])
        return None

    def _is_same(self, one: Thumbnail, other: Thumbnail) -> bool:
        return _difference(one, other) <= self._limit(one, other) and not _other_depth(one, other)

    def _limit(self, one: Thumbnail, other: Thumbnail) -> float:
        by_frame = max(one.grey_noise, other.grey_noise)
        if self._at_rest is None:
            return _ABOVE_NOISE * by_frame
        return _ABOVE_REST * min(self._at_rest, _REST_TRUSTED * by_frame)


def _difference(one: Thumbnail, other: Thumbnail) -> float:
    """By how many grey levels cells of the part differ: a robust standard deviation.

    After brightness and contrast are made equal: a lamp that flickers makes no other part.
    """
    near = one.near | other.near  # (h, w)
    if not bool(near.any()):
        near = np.ones_like(near)
    a, b = one.grey[near].astype(np.float32), other.grey[near].astype(np.float32)  # (k,) each
    spread = float(b.std())
    gain = float(a.std()) / spread if spread > 0 else 1.0
    return float(np.median(np.abs((a - a.mean()) - gain * (b - b.mean())))) / 0.6745


def _other_depth(one: Thumbnail, other: Thumbnail) -> bool:
    """Whether depth differs by more than its noise in more cells than noise would have it."""
    known = (one.depth_mm > 0) & (other.depth_mm > 0)  # (h, w)
    if not bool(known.any()):
        return False
    apart_mm = np.abs(one.depth_mm[known].astype(np.float32) - other.depth_mm[known].astype(np.float32))
    limit_mm = _DEPTH_SIGMAS * max(one.depth_noise_mm, other.depth_noise_mm)
    return float((apart_mm > limit_mm).mean()) > _DEPTH_SHARE


def _cells(image: _Float, side_px: int) -> _Float:
    """(H, W) → (⌈H/side⌉, ⌈W/side⌉), means."""
    size = (-(-image.shape[1] // side_px), -(-image.shape[0] // side_px))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _noise(grey: npt.NDArray[np.integer[Any] | np.floating[Any]]) -> float:
    """Standard deviation of the picture's noise (Immerkær, CVIU 1996), by the median: edges don't count."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    residual = np.abs(cv2.filter2D(grey, cv2.CV_32F, kernel)[1:-1, 1:-1])
    return max(float(np.median(residual)) / 0.6745 / 6.0, 0.3)  # 8 bits round by 0.29


def _standard(image: _Float) -> _Float:
    spread = float(image.std())
    centred = image - image.mean()
    return np.asarray(centred / spread if spread > 0 else centred, dtype=np.float32)
