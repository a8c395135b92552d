"""One labelled capture on disk: what a folder source shows and what training reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import CaptureError, FrameError
from edge.frame import DepthImage, Frame, Intrinsics, RgbImage

__all__ = ["Sample", "image_size", "read_image", "read_mask", "read_rgb"]


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """(H, W), True where any channel is above 0; raises `CaptureError`."""
    image = read_image(path)
    above = np.asarray(image > 0)  # type: ignore[operator]
    return np.asarray(above.any(axis=2)) if above.ndim == 3 else above


@dataclass(frozen=True, slots=True)
class Sample:
    """Colour, depth and mask of one part; the files are read when asked for.

    `part_id` is its name in its folder ("bent/000"); `split` the part of the data set that it belongs to,
    None where there are no splits; `defect` None for a good part, else its type. `read_depth` and
    `read_mask` know the formats of their files; they are functions that other processes can be sent.
    """

    part_id: str
    split: str | None
    defect: str | None
    source: str
    rgb_path: Path
    depth_path: Path
    mask_path: Path | None
    depth_unit_m: float
    intrinsics: Intrinsics
    read_depth: Callable[[Path, float], DepthImage]
    read_mask: Callable[[Path], npt.NDArray[np.bool_]] = read_mask

    def frame(self, seq: int = 0) -> Frame:
        """Read colour and depth; `captured_ns` and `captured_utc` are now. Raises `CaptureError`."""
        rgb = read_rgb(self.rgb_path)  # (H, W, 3)
        depth_m = self.read_depth(self.depth_path, self.depth_unit_m)  # (H, W)
        expected = (self.intrinsics.height_px, self.intrinsics.width_px)
        for path, found in ((self.rgb_path, rgb.shape[:2]), (self.depth_path, depth_m.shape)):
            _check_size(path, found, expected)
        try:
            return Frame(
                rgb=rgb,
                depth_m=depth_m,
                depth_unit_m=self.depth_unit_m,
                intrinsics=self.intrinsics,
                captured_ns=time.monotonic_ns(),
                captured_utc=datetime.now(timezone.utc),
                seq=seq,
                source=self.source,
                part_id=self.part_id,
            )
        except FrameError as error:
            raise CaptureError(f"{self.depth_path}: {error}") from error

    def mask(self) -> npt.NDArray[np.bool_]:
        """(H, W), True where the part is defective; all False for a good part. Raises `CaptureError`."""
        expected = (self.intrinsics.height_px, self.intrinsics.width_px)
        if self.mask_path is None:
            return np.zeros(expected, dtype=np.bool_)
        mask = self.read_mask(self.mask_path)
        _check_size(self.mask_path, mask.shape, expected)
        return mask


def read_image(path: Path) -> npt.NDArray[np.generic]:
    """An image as it is stored, its channels in OpenCV's order; raises `CaptureError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CaptureError(f"{path}: can't be read ({error.strerror}); restore it") from error
    if not data:
        raise CaptureError(f"{path}: is empty; restore it")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise CaptureError(f"{path}: is no image that OpenCV can read ({error.err}); restore it") from error
    if image is None:
        raise CaptureError(f"{path}: is no image that OpenCV can read; restore it")
    return np.asarray(image)


def read_rgb(path: Path) -> RgbImage:
    """(H, W, 3) uint8, red first; raises `CaptureError`."""
    image = read_image(path)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise CaptureError(f"{path}: is {image.dtype}{image.shape}, must be 8-bit colour (H, W, 3)")
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


def image_size(path: Path) -> tuple[int, int] | None:
    """(height, width) from the header of a PNG without decoding it; None where it is another format.

    Raises `CaptureError` where the file can't be read, or is a PNG cut off within its header.
    """
    try:
        with path.open("rb") as file:
            head = file.read(24)
    except OSError as error:
        raise CaptureError(f"{path}: can't be read ({error.strerror}); restore it") from error
    if len(head) < 24 or not head.startswith(b"\x89PNG\r\n\x1a\n"):
        if path.suffix == ".png":
            raise CaptureError(f"{path}: is not a PNG; restore it")
        return None
    return int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big")


def _check_size(path: Path, found: tuple[int, ...], expected: tuple[int, int]) -> None:
    if tuple(found) != expected:
        raise CaptureError(
            f"{path}: is {found[1]}×{found[0]}, must be {expected[1]}×{expected[0]} as its partner and the "
            "intrinsics; depth has to be aligned to colour, and neither may be resized"
        )
