"""Looks a `.bag` recording (ROS 1, librealsense before 2.58) through before it is played."""

from __future__ import annotations

import re
from pathlib import Path

from rosbags.rosbag1 import Reader, ReaderError

from edge.errors import RecordingCorrupt

__all__ = ["check_bag"]

_IMAGE = re.compile(r"/device_\d+/sensor_\d+/(Depth|Color)_\d+/image/data")


def check_bag(path: Path) -> int:
    """How many depth frames a `.bag` holds; reads and decompresses the whole file.

    A `.bag` has no checksum of its images: a changed pixel can't be found, a chunk that no longer
    decompresses or parses can. Raises `RecordingCorrupt`.
    """
    images = {"Depth": 0, "Color": 0}
    try:
        with Reader(path) as reader:
            for connection, _, _ in reader.messages():
                if found := _IMAGE.fullmatch(connection.topic):
                    images[found[1]] += 1
    # A damaged byte makes rosbags and its decompressors fail in as many ways as there are lines in them;
    # each of them means that the recording can't be read.
    except (
        ReaderError,
        RuntimeError,
        ValueError,
        LookupError,
        ArithmeticError,
        OSError,
        AssertionError,
        MemoryError,
        EOFError,
        AttributeError,
        TypeError,
    ) as error:
        raise RecordingCorrupt(
            f"{path}: is not a whole recording ({type(error).__name__}: {error}); record it again"
        ) from error
    if images["Depth"] == 0 or images["Color"] == 0:
        raise RecordingCorrupt(
            f"{path}: holds {images['Depth']} depth and {images['Color']} colour images; both are needed"
        )
    return images["Depth"]
