"""The noise of the bed on which parts lie, as the camera sees it: foreground thresholds follow from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.camera.sample import Sample
from edge.depth import Mask, fit_background_plane, height_over_plane
from edge.errors import DatasetError, DepthUnusable
from edge.frame import Frame
from train.datasets.check import evenly
from train.views import read_frame

__all__ = ["PARTS_LOOKED_AT", "BedNoise", "bed_noise", "bed_of"]

PARTS_LOOKED_AT = 32
"""Of a data set's parts, evenly spaced: the bed is the same in all of them."""

_Float = npt.NDArray[np.float32]

_TAIL = 0.999
# In units of the plane's own inliers' spread, which the tail of a Gaussian does not reach.
_BED_RMS = 8.0
# The window over which a bed's own shape is taken away, as a share of the frame's shorter side.
_SHAPE_SHARE = 1 / 12


@dataclass(frozen=True, slots=True)
class BedNoise:
    """`tail_m`: the height over the plane that one pixel of the bed in a thousand exceeds, up or down.

    It holds the bed's own unevenness, too. `correlation_px`: the lag at which the noise's autocorrelation
    falls to a half; one or two pixels for structured light, about half the matcher's window for stereo.
    """

    tail_m: float
    correlation_px: float


def bed_noise(frame: Frame, border_share: float) -> BedNoise:
    """The bed's noise in one frame, from the ring along its border; what stands far out is not the bed.

    Raises `DepthUnusable` where the background can't be found.
    """
    plane = fit_background_plane(frame.depth_m, frame.intrinsics, border_share=border_share)
    height_m = height_over_plane(frame.depth_m, plane, frame.intrinsics)  # (H, W)
    shorter = min(height_m.shape)
    inside = slice(max(2, round(border_share * shorter)), -max(2, round(border_share * shorter)))
    bed = (frame.depth_m > 0) & (np.abs(height_m) <= max(_BED_RMS * plane.rms_m, 1e-6))  # (H, W)
    bed[inside, inside] = False
    return BedNoise(
        tail_m=float(np.quantile(np.abs(height_m[bed]), _TAIL)),
        correlation_px=_correlation_px(height_m, bed, window_px=2 * round(_SHAPE_SHARE * shorter / 2) + 1),
    )


def bed_of(samples: Sequence[Sample], border_share: float, step_done: Callable[[int], None]) -> BedNoise:
    """The median over up to `PARTS_LOOKED_AT` samples; `step_done(1)` after each.

    Raises `DatasetError`, naming the file.
    """
    found = []
    for sample in evenly(samples, PARTS_LOOKED_AT):
        frame = read_frame(sample)
        try:
            found.append(bed_noise(frame, border_share))
        except DepthUnusable as error:
            raise DatasetError(f"{sample.depth_path}: {error}") from error
        step_done(1)
    return BedNoise(
        tail_m=float(np.median([noise.tail_m for noise in found])),
        correlation_px=float(np.median([noise.correlation_px for noise in found])),
    )


def _correlation_px(height_m: _Float, bed: Mask, window_px: int) -> float:
    """Lag at which the autocorrelation of the bed's height over its own surroundings falls to a half.

    0 where the height does not vary, `window_px` / 2 where it does not fall that far.
    """
    weight = bed.astype(np.float32)
    size = (window_px, window_px)
    total = cv2.boxFilter(height_m * weight, -1, size, normalize=False)
    count = cv2.boxFilter(weight, -1, size, normalize=False)
    noise = np.where(bed, height_m - total / np.maximum(count, 1.0), 0.0)  # (H, W)
    variance = float(np.square(noise[bed], dtype=np.float64).mean())
    if variance < 1e-16:  # a hundredth of a micrometre
        return 0.0
    before = 1.0
    for lag in range(1, window_px // 2 + 1):
        across = (noise[:, lag:] * noise[:, :-lag])[bed[:, lag:] & bed[:, :-lag]]
        down = (noise[lag:] * noise[:-lag])[bed[lag:] & bed[:-lag]]
        pairs = across.size + down.size
        if pairs == 0:
            return float(lag)
        now = float(across.sum(dtype=np.float64) + down.sum(dtype=np.float64)) / pairs / variance
        if now <= 0.5:
            return lag - 1 + (before - 0.5) / (before - now)
        before = now
    return window_px / 2
