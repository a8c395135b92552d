"""The pictures of one part: photo, height and anomaly map, cut out around it, in colours that all share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from edge.background import height_over_background, pass_fill
from edge.camera.sample import Sample
from edge.errors import CaptureError, DatasetError, DepthUnusable
from edge.frame import RgbImage
from edge.heatmap import encode_jpeg, heatmap_image, lay_over
from edge.preprocessing import Preprocessing
from train.report.page import data_uri

__all__ = ["Cut", "PartPictures", "colour_bar", "cut_out", "height_range_mm", "part_pictures"]

SIDE = 256
"""Side of a picture in pixels."""

_MARGIN = 1.12
_QUALITY = 88
_UNKNOWN = (96, 96, 96)
_Float = npt.NDArray[np.float32]
_Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A square around one part, all (SIDE, SIDE): colours, height over the background in mm (NaN where depth
    is missing), anomaly map, and where it is truly defective."""

    rgb: RgbImage
    height_mm: _Float
    anomaly_map: _Float
    truth: _Bool


@dataclass(frozen=True, slots=True)
class PartPictures:
    """Each as a data URI."""

    photo: Markup
    height: Markup
    overlay: Markup
    heatmap: Markup


def cut_out(sample: Sample, anomaly_map: _Float, preprocessing: Preprocessing) -> Cut:
    """Read a sample and cut out what was judged (the map is 0 elsewhere) and what is truly defective.

    `anomaly_map` (H, W). Raises `DatasetError` naming the file.
    """
    try:
        frame, truth = sample.frame(), sample.mask()
        filled_m = pass_fill(frame.depth_m, preprocessing.hole_passes)  # (H, W)
        _, height_m = height_over_background(
            filled_m,
            frame.intrinsics,
            preprocessing.foreground.background,
            preprocessing.foreground.border_share,
        )  # (H, W)
    except CaptureError as error:
        raise DatasetError(str(error)) from error
    except DepthUnusable as error:
        raise DatasetError(f"{sample.depth_path}: {error}") from error
    # What was filled in is not shown: it was not seen.
    height_mm = np.where(frame.depth_m > 0, 1e3 * height_m, np.nan).astype(np.float32)  # (H, W)
    around = _square_around((anomaly_map != 0) | truth)
    shrink = cv2.INTER_AREA if around[2] > SIDE else cv2.INTER_LINEAR
    return Cut(
        rgb=np.asarray(_taken(frame.rgb, around, shrink, 0), dtype=np.uint8),
        # Nearest: a height between part and bed is nowhere, and a mean with NaN is none.
        height_mm=np.asarray(_taken(height_mm, around, cv2.INTER_NEAREST, np.nan), dtype=np.float32),
        anomaly_map=np.asarray(_taken(anomaly_map, around, cv2.INTER_LINEAR, 0), dtype=np.float32),
        truth=_taken(truth.astype(np.uint8), around, cv2.INTER_NEAREST, 0) > 0,
    )


def height_range_mm(cuts: Sequence[Cut]) -> tuple[float, float]:
    """The ends of one height scale for all parts, in mm: all but the outermost half percent at each end."""
    known = [cut.height_mm[np.isfinite(cut.height_mm)] for cut in cuts]
    every = np.concatenate(known) if known else np.zeros(0)
    if every.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(every, (0.5, 99.5)))
    return (low, high) if high - low > 0.1 else (low - 0.5, high + 0.5)


def part_pictures(cut: Cut, map_range: tuple[float, float], heights_mm: tuple[float, float]) -> PartPictures:
    """The four pictures of a part; a white line runs round what is truly defective on the last two.

    `map_range` and `heights_mm` are the ends of the colour scales, the same for all parts of a report.
    """
    outside = np.repeat(cut.rgb.mean(axis=2, keepdims=True) * 0.4, 3, axis=2)  # (S, S, 3)
    judged = (cut.anomaly_map != 0)[..., None]  # (S, S, 1)
    alone = np.where(judged, heatmap_image(cut.anomaly_map, *map_range), outside).astype(np.uint8)
    overlay = lay_over(cut.rgb, cut.anomaly_map, *map_range)
    return PartPictures(
        photo=_jpeg(cut.rgb),
        height=_jpeg(_coloured_height(cut.height_mm, *heights_mm)),
        overlay=_jpeg(_outlined(overlay, cut.truth)),
        heatmap=_jpeg(_outlined(alone, cut.truth)),
    )


def colour_bar(kind: str) -> Markup:
    """The colours of a scale from its low end to its high one, as a data URI; `kind`: map or height."""
    ramp = np.linspace(0.0, 1.0, 256, dtype=np.float32)[None, :]  # (1, 256)
    picture = heatmap_image(ramp, 0.0, 1.0) if kind == "map" else _coloured_height(ramp, 0.0, 1.0)
    done, data = cv2.imencode(".png", picture[..., ::-1])
    if not done:
        raise DatasetError("a colour bar could not be encoded as PNG; is OpenCV built without it?")
    return data_uri(bytes(data.tobytes()), "png")


def _coloured_height(height_mm: _Float, low: float, high: float) -> RgbImage:
    """(S, S) → (S, S, 3) RGB; grey where the height is not known."""
    known = np.isfinite(height_mm)
    level = np.clip((np.where(known, height_mm, low) - low) / (high - low), 0.0, 1.0) * 255.0
    coloured = cv2.applyColorMap(level.astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]
    return np.where(known[..., None], coloured, np.array(_UNKNOWN, np.uint8)).astype(np.uint8)


def _outlined(picture: RgbImage, truth: _Bool) -> RgbImage:
    """A white line with a dark rim, four pixels off the defect, so that it hides none of it."""
    drawn = np.ascontiguousarray(picture)
    grown = cv2.dilate(truth.astype(np.uint8), np.ones((9, 9), np.uint8))
    lines, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, lines, -1, (20, 20, 20), 4)
    cv2.drawContours(drawn, lines, -1, (255, 255, 255), 2)
    return np.asarray(drawn, dtype=np.uint8)


def _square_around(wanted: _Bool) -> tuple[int, int, int]:
    """x, y and side of a square with all that is wanted; the whole frame where nothing is.

    It may reach beyond the frame.
    """
    height, width = wanted.shape
    rows, columns = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
    if rows.size == 0:
        rows, columns = np.array([0, height - 1]), np.array([0, width - 1])
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = min(int(extent * _MARGIN) + 2, max(height, width))
    x = round((columns[0] + columns[-1] + 1 - side) / 2)
    y = round((rows[0] + rows[-1] + 1 - side) / 2)
    return x, y, side


def _taken(
    picture: npt.NDArray[Any], square_px: tuple[int, int, int], interpolation: int, fill: float
) -> npt.NDArray[Any]:
    """The square of a picture (H, W, …) as (SIDE, SIDE, …); `fill` beyond the frame."""
    (x, y, side), (height, width) = square_px, picture.shape[:2]
    square = np.full((side, side, *picture.shape[2:]), fill, dtype=picture.dtype)
    top, left = max(0, y), max(0, x)
    bottom, right = min(height, y + side), min(width, x + side)
    square[top - y : bottom - y, left - x : right - x] = picture[top:bottom, left:right]
    return np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=interpolation))


def _jpeg(picture: RgbImage) -> Markup:
    return data_uri(encode_jpeg(picture, _QUALITY), "jpeg")
