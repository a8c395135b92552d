"""A picture of a data set: of each split and kind a few parts as RGB, depth in colours, and mask."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import DatasetError
from edge.frame import DepthImage, RgbImage
from edge.heatmap import heatmap_image
from edge.sealed import write_atomically
from train.datasets.check import evenly
from train.datasets.survey import TILE_PX, Looked

__all__ = ["contact_sheet", "write_contact_sheet"]

PARTS_IN_A_ROW = 2
_GAP_PX = 6
_LABEL_PX = 26
_HEAD_PX = 46
_INK = (40, 40, 40)
_PAPER = 250
_DEFECT_RGB = (230, 30, 30)


def contact_sheet(parts: Sequence[Looked], title: str) -> RgbImage:
    """uint8 (H, W, 3) RGB: a row for each split and kind, up to two parts in it.

    All depths are in one scale, from the 1st to the 99th percentile of what is shown; black has no depth.
    """
    low_m, high_m = _depth_range(parts)
    rows = []
    for _, group in groupby(parts, key=lambda part: (part.split, part.label)):
        shown = evenly(tuple(group), PARTS_IN_A_ROW)
        rows.append(_row(shown, low_m, high_m))
    width = max(row.shape[1] for row in rows)
    head = _head(title, low_m, high_m, width)
    sheet = np.concatenate([head, *(_padded(row, width) for row in rows)])
    return np.pad(sheet, ((_GAP_PX, _GAP_PX), (2 * _GAP_PX, 0), (0, 0)), constant_values=_PAPER)


def write_contact_sheet(path: Path, parts: Sequence[Looked], title: str) -> None:
    """Write the sheet as PNG; raises `DatasetError` where nothing could be read, or the disk refuses."""
    if not parts:
        raise DatasetError(f"{path}: not written; no part could be read")
    done, data = cv2.imencode(".png", contact_sheet(parts, title)[..., ::-1])
    if not done:
        raise DatasetError(f"{path}: OpenCV can't encode it as PNG")
    try:
        write_atomically(path, data.tobytes())
    except OSError as error:
        raise DatasetError(f"{path}: can't be written ({error.strerror})") from error


def _depth_range(parts: Sequence[Looked]) -> tuple[float, float]:
    valid = [part.depth_m[part.depth_m > 0] for part in parts]
    every = np.concatenate(valid) if valid else np.zeros(0, np.float32)
    if not every.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(every, (1, 99)))
    return low, high if high > low else low + 1e-3


def _row(parts: Sequence[Looked], low_m: float, high_m: float) -> RgbImage:
    tiles = [
        tile for part in parts for tile in (part.rgb, _coloured(part.depth_m, low_m, high_m), _marked(part))
    ]
    height = max(tile.shape[0] for tile in tiles)
    blocks = []
    for number, tile in enumerate(tiles):
        block = _paper(height, tile.shape[1] + (2 if number % 3 == 2 else 1) * _GAP_PX)
        block[: tile.shape[0], : tile.shape[1]] = tile
        blocks.append(block)
    picture = np.concatenate(blocks, axis=1)
    label = _paper(_LABEL_PX, picture.shape[1])
    x = 0
    for part in parts:
        _write(label, f"{part.split}  {part.part_id}", (x, _LABEL_PX - 8), 0.45)
        x += part.rgb.shape[1] * 3 + 4 * _GAP_PX
    return np.concatenate([label, picture])


def _coloured(depth_m: DepthImage, low_m: float, high_m: float) -> RgbImage:
    picture = heatmap_image(depth_m, low_m, high_m)
    picture[depth_m <= 0] = 0
    return picture


def _marked(part: Looked) -> RgbImage:
    """The part in grey, its defect in red."""
    grey = cv2.cvtColor(part.rgb, cv2.COLOR_RGB2GRAY)
    picture = np.repeat((grey // 2 + 96)[..., None], 3, axis=2)
    picture[part.mask] = _DEFECT_RGB
    return np.asarray(picture, dtype=np.uint8)


def _head(title: str, low_m: float, high_m: float, width: int) -> RgbImage:
    head = _paper(_HEAD_PX, width)
    _write(head, title, (0, 18), 0.55)
    bar = heatmap_image(
        np.tile(np.linspace(low_m, high_m, TILE_PX, dtype=np.float32), (12, 1)), low_m, high_m
    )
    head[26:38, : bar.shape[1]] = bar[:, :width]
    _write(head, f"{low_m:.3f} to {high_m:.3f} m, black: no depth", (TILE_PX + _GAP_PX, 37), 0.45)
    return head


def _paper(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.full((height, width, 3), _PAPER, dtype=np.uint8)


def _padded(row: RgbImage, width: int) -> RgbImage:
    return np.concatenate([row, _paper(row.shape[0], width - row.shape[1])], axis=1)


def _write(picture: RgbImage, text: str, at: tuple[int, int], size: float) -> None:
    # OpenCV's fonts hold ASCII alone, and show ? for the rest.
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)
