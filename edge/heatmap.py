"""Pictures for people: the anomaly map in colours that mean the same in every picture of a product."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import FrameError
from edge.frame import RgbImage
from edge.inspection import AnomalyMap, Inspection, Outcome

__all__ = [
    "COLOUR_MAP",
    "colour_range",
    "heatmap_image",
    "heatmap_jpeg",
    "lay_over",
    "map_float16",
    "overlay_image",
    "overlay_jpeg",
    "threshold_range",
]

COLOUR_MAP = "turbo"
_FAIL_RGB = (255, 40, 40)
_REVIEW_RGB = (255, 190, 0)
_Bgr = npt.NDArray[np.uint8]


def colour_range(inspection: Inspection) -> tuple[float, float]:
    """The values at the two ends of the colour scale: `threshold_range`; without a threshold 0 and the
    map's maximum."""
    if inspection.threshold is not None:
        return threshold_range(inspection.threshold)
    top = 0.0 if inspection.anomaly_map is None else float(inspection.anomaly_map.max())
    return 0.0, top if top > 0 else 1.0


def threshold_range(threshold: float) -> tuple[float, float]:
    """0 and twice the threshold, so that the threshold lies in the middle, and a part is never made to look
    worse by its own maximum; from a threshold that is not positive, 1 upwards."""
    low = min(0.0, threshold)
    return low, 2.0 * threshold if threshold > 0 else low + 1.0


def heatmap_image(anomaly_map: AnomalyMap, low: float, high: float) -> RgbImage:
    """The map (H, W) in colours, uint8 (H, W, 3) RGB; values outside low…high take the ends' colours."""
    levels = np.clip((anomaly_map - low) / (high - low), 0.0, 1.0) * 255.0
    coloured = cv2.applyColorMap(levels.astype(np.uint8), cv2.COLORMAP_TURBO)
    return np.asarray(coloured[..., ::-1], dtype=np.uint8)


def lay_over(
    rgb: RgbImage, anomaly_map: AnomalyMap, low: float, high: float, opacity: float = 0.55
) -> RgbImage:
    """The picture (H, W, 3) with the map (H, W) over it in colours; uint8 (H, W, 3) RGB.

    The heatmap shows more where it says more: below a tenth of the scale the picture shines through.
    """
    level = np.clip((anomaly_map - low) / (high - low), 0.0, 1.0)  # (H, W)
    weight = (opacity * np.clip(level / 0.3, 0.0, 1.0))[..., None].astype(np.float32)  # (H, W, 1)
    colours = heatmap_image(anomaly_map, low, high)
    return np.asarray(np.rint(rgb * (1.0 - weight) + colours * weight), dtype=np.uint8)


def overlay_image(inspection: Inspection, opacity: float = 0.55) -> RgbImage:
    """The frame with the heatmap over it, the window and the regions drawn; uint8 (H, W, 3) RGB.

    Without an anomaly map it is the frame alone.
    """
    picture = inspection.frame.rgb.copy()
    if inspection.anomaly_map is not None:
        picture = lay_over(picture, inspection.anomaly_map, *colour_range(inspection), opacity)
    picture = np.ascontiguousarray(picture)
    if inspection.window_px is not None:
        x, y, w, h = inspection.window_px
        cv2.rectangle(picture, (x, y), (x + w - 1, y + h - 1), (160, 160, 160), 1)
    colour = _REVIEW_RGB if inspection.outcome is Outcome.REVIEW else _FAIL_RGB
    for region in inspection.regions:
        x, y, w, h = region.bbox_px
        cv2.rectangle(picture, (x - 2, y - 2), (x + w + 1, y + h + 1), colour, 1)
    return picture


def heatmap_jpeg(inspection: Inspection, quality: int = 85) -> bytes:
    """The heatmap alone, of the frame's size, as JPEG; black where there is no map."""
    frame = inspection.frame
    if inspection.anomaly_map is None:
        return encode_jpeg(np.zeros((frame.height_px, frame.width_px, 3), np.uint8), quality)
    return encode_jpeg(heatmap_image(inspection.anomaly_map, *colour_range(inspection)), quality)


def overlay_jpeg(inspection: Inspection, quality: int = 85) -> bytes:
    """The frame with the heatmap over it, as JPEG."""
    return encode_jpeg(overlay_image(inspection), quality)


def map_float16(inspection: Inspection) -> bytes:
    """The anomaly map (H, W) as float16, row by row, little endian, so that a consumer can re-threshold it.

    Values beyond float16's range become its largest. Empty where there is no map.
    """
    if inspection.anomaly_map is None:
        return b""
    limit = float(np.finfo(np.float16).max)
    return np.clip(inspection.anomaly_map, -limit, limit).astype("<f2").tobytes()


def encode_jpeg(picture: RgbImage, quality: int) -> bytes:
    """A JPEG of a picture, uint8 (H, W, 3) RGB."""
    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise FrameError(f"a picture of shape {picture.shape} could not be encoded as JPEG")
    return bytes(data.tobytes())
