"""The pictures that go out beside a verdict."""

from __future__ import annotations

from edge.config import PicturesConfig
from edge.heatmap import COLOUR_MAP, colour_range, encode_jpeg, heatmap_jpeg, map_float16
from edge.inspection import Inspection
from edge.messages import PictureKind
from edge.publisher import Picture

__all__ = ["pictures_of"]


def pictures_of(inspection: Inspection, config: PicturesConfig) -> tuple[Picture, ...]:
    """Heatmap, photo and map of `inspection`, as far as `config` wants them and the inspection has them.

    All have the frame's size. An inspection that did not come to an anomaly map has the photo alone: a
    black heatmap would say that nothing was found.
    """
    frame = inspection.frame
    pictures = []
    if config.heatmap and inspection.anomaly_map is not None:
        low, high = colour_range(inspection)
        pictures.append(
            Picture(
                kind=PictureKind.HEATMAP,
                data=heatmap_jpeg(inspection, config.jpeg_quality),
                encoding="image/jpeg",
                width_px=frame.width_px,
                height_px=frame.height_px,
                low=low,
                high=high,
                colour_map=COLOUR_MAP,
            )
        )
    if config.image:
        pictures.append(
            Picture(
                kind=PictureKind.IMAGE,
                data=encode_jpeg(frame.rgb, config.jpeg_quality),
                encoding="image/jpeg",
                width_px=frame.width_px,
                height_px=frame.height_px,
            )
        )
    if config.map and inspection.anomaly_map is not None:
        height_px, width_px = inspection.anomaly_map.shape
        pictures.append(
            Picture(
                kind=PictureKind.MAP,
                data=map_float16(inspection),
                encoding="float16-le",
                width_px=width_px,
                height_px=height_px,
            )
        )
    return tuple(pictures)
