"""From the pictures on the wire to pictures that a person looks at: overlays, and one sheet of them all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.demo.gathering import Evidence
from edge.errors import BrokerError
from edge.frame import RgbImage
from edge.heatmap import encode_jpeg, lay_over
from edge.inspection import AnomalyMap

__all__ = ["Tile", "contact_sheet", "draw_evidence"]

_SIDE = 200
_CAPTION = 40
_COLUMNS = 5
_MARGIN = 8
_MOST_TILES = 120
_WHITE, _GREEN, _RED, _GREY = (255, 255, 255), (90, 220, 110), (255, 90, 80), (170, 170, 170)

_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One part on the sheet: the photo (S, S, 3) and its overlay, cut out around the part."""

    seq: int
    photo: RgbImage
    overlay: RgbImage
    lines: tuple[str, str]
    agrees: bool


def draw_evidence(evidence: Evidence, truth_mask: _Mask | None) -> tuple[bytes, Tile]:
    """The overlay as JPEG, and the part's tile; a white line runs round what is truly defective.

    Raises `BrokerError` where a picture can't be decoded, or the heatmap or the map has another size than
    the photo.
    """
    photo = _decoded(evidence.photo_jpeg, evidence)
    overlay, anomaly_map = photo.copy(), None
    if evidence.map_float16 is not None and evidence.heatmap_jpeg is not None:
        anomaly_map = _map(evidence, photo.shape[:2])
        heatmap = _decoded(evidence.heatmap_jpeg, evidence)
        if heatmap.shape != photo.shape:
            raise BrokerError(
                f"{evidence.result.part_id}: the heatmap is {heatmap.shape}, the photo {photo.shape}"
            )
        overlay = lay_over(photo, anomaly_map, evidence.low, evidence.high)
    overlay = np.ascontiguousarray(overlay)
    for region in evidence.result.verdict.regions:
        x, y, w, h = region.bbox_px
        cv2.rectangle(overlay, (x - 2, y - 2), (x + w + 1, y + h + 1), _RED, 1)
    if truth_mask is not None:
        grown = cv2.dilate(truth_mask.astype(np.uint8), np.ones((5, 5), np.uint8))
        outlines, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(overlay, outlines, -1, _WHITE, 1)
    return encode_jpeg(overlay, 92), _tile(evidence, photo, overlay, anomaly_map)


def _decoded(jpeg: bytes, evidence: Evidence) -> RgbImage:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise BrokerError(f"{evidence.result.part_id}: a picture that came can't be decoded")
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)  # (H, W, 3)


def _map(evidence: Evidence, shape: tuple[int, ...]) -> AnomalyMap:
    values = np.frombuffer(evidence.map_float16 or b"", "<f2")
    if values.size != math.prod(shape):
        raise BrokerError(
            f"{evidence.result.part_id}: the anomaly map has {values.size} values, the photo {shape} pixels"
        )
    return values.reshape(shape).astype(np.float32)  # (H, W)


def _tile(evidence: Evidence, photo: RgbImage, overlay: RgbImage, anomaly_map: AnomalyMap | None) -> Tile:
    result = evidence.result
    verdict = result.verdict
    said = verdict.outcome.value + (f" ({verdict.reason})" if verdict.reason else "")
    score = "" if verdict.score is None else f", score {verdict.score:.3g}"
    x, y, side = _square_around(anomaly_map, photo.shape[0], photo.shape[1])
    window = (slice(y, y + side), slice(x, x + side))
    size = (_SIDE, _SIDE)
    return Tile(
        seq=verdict.seq,
        photo=np.asarray(cv2.resize(photo[window], size, interpolation=cv2.INTER_AREA), np.uint8),
        overlay=np.asarray(cv2.resize(overlay[window], size, interpolation=cv2.INTER_AREA), np.uint8),
        lines=(f"{result.part_id}: {result.truth_text}", f"{said}{score}"),
        agrees=result.agrees,
    )


def _square_around(anomaly_map: AnomalyMap | None, height: int, width: int) -> tuple[int, int, int]:
    """x, y and side of the square that holds all of the map that is not 0; the middle where there is none."""
    side = min(height, width)
    middle = (width / 2, height / 2)
    if anomaly_map is not None and bool((anomaly_map != 0).any()):
        rows, columns = (np.flatnonzero((anomaly_map != 0).any(axis=axis)) for axis in (1, 0))
        extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
        side = min(side, int(extent * 1.1) + 2)
        middle = ((columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2)
    x = int(np.clip(middle[0] - side / 2, 0, width - side))
    y = int(np.clip(middle[1] - side / 2, 0, height - side))
    return x, y, side


def contact_sheet(tiles: Sequence[Tile]) -> bytes:
    """A PNG of the tiles in the order of their verdicts: photo beside overlay, truth and verdict below.

    At most 120 of them; those that disagree with the truth are never among the ones left out.
    """
    chosen = sorted(
        sorted(tiles, key=lambda tile: (tile.agrees, tile.seq))[:_MOST_TILES], key=lambda t: t.seq
    )
    columns = min(_COLUMNS, max(1, len(chosen)))
    width, height = 2 * _SIDE + _MARGIN, _SIDE + _CAPTION + _MARGIN
    rows = math.ceil(len(chosen) / columns)
    sheet = np.full((rows * height + _MARGIN, columns * width + _MARGIN, 3), 24, np.uint8)
    for number, tile in enumerate(chosen):
        x, y = _MARGIN + number % columns * width, _MARGIN + number // columns * height
        sheet[y : y + _SIDE, x : x + _SIDE] = tile.photo
        sheet[y : y + _SIDE, x + _SIDE : x + 2 * _SIDE] = tile.overlay
        for line, text in enumerate(tile.lines):
            colour = _GREY if line == 0 else (_GREEN if tile.agrees else _RED)
            cv2.putText(
                sheet,
                text,
                (x + 2, y + _SIDE + 15 + 18 * line),
                cv2.FONT_HERSHEY_SIMPLEX,
                0.48,
                colour,
                1,
                cv2.LINE_AA,
            )
    done, data = cv2.imencode(".png", sheet[..., ::-1])
    if not done:
        raise BrokerError(f"a sheet of {len(chosen)} parts could not be encoded as PNG")
    return bytes(data.tobytes())
