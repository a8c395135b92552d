"""Looks a `.bag` recording (ROS 1, librealsense before 2.58) through before it is played."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rosbags.rosbag1 import Reader, ReaderError

from edge.errors import RecordingCorrupt

__all__ = ["BagContents", "check_bag"]

_IMAGE = re.compile(r"/device_\d+/sensor_\d+/(Depth|Color)_\d+/image/data")
_LZ4 = b"\x04\x22\x4d\x18"
_LZ4_CONTENT_CHECKSUM = 0x04  # in the byte that follows the magic number (LZ4 frame format 1.6.3)
_BZIP2 = b"BZh"
_UNREADABLE = (
    ReaderError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""A damaged byte makes rosbags and its decompressors fail in many ways: each means "can't be read"."""


@dataclass(frozen=True, slots=True)
class BagContents:
    """What a `.bag` holds; `has_checksums` if every chunk of it carries one (compressed ones do)."""

    depth_frames: int
    colour_frames: int
    has_checksums: bool


def check_bag(path: Path) -> BagContents:
    """Count the frames and look for damage; reads and decompresses the whole file.

    Chunks compressed by LZ4 or bzip2 are verified by their checksums; others have none, and a changed
    pixel in them can't be found. Raises `RecordingCorrupt`.
    """
    images = {"Depth": 0, "Color": 0}
    try:
        with Reader(path) as reader:
            for connection, _, _ in reader.messages():
                if found := _IMAGE.fullmatch(connection.topic):
                    images[found[1]] += 1
            places = [chunk.datapos for chunk in reader.chunks.values()]
        with path.open("rb") as file:
            has_checksums = all(_has_checksum(file.read(5)) for place in places if file.seek(place) >= 0)
    except _UNREADABLE as error:
        raise RecordingCorrupt(
            f"{path}: is not a whole recording ({type(error).__name__}: {error}); record it again"
        ) from error
    if images["Depth"] == 0 or images["Color"] == 0:
        raise RecordingCorrupt(
            f"{path}: holds {images['Depth']} depth and {images['Color']} colour images; both are needed"
        )
    return BagContents(images["Depth"], images["Color"], has_checksums)


def _has_checksum(head: bytes) -> bool:
    return head.startswith(_BZIP2) or (head[:4] == _LZ4 and bool(head[4] & _LZ4_CONTENT_CHECKSUM))
