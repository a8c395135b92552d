"""Plays a recording by librealsense in a process of its own, and hands each frame to the one that asked.

librealsense searches for ever in a damaged file, or crashes; and its reading thread races with `stop` for one
callback, so that about one close in two hundred aborts the process (seen with 2.59, and known upstream).
Here all that ends a child.

Run as `python -m edge.camera.player <file descriptor> <recording>`.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from edge.camera.librealsense import import_librealsense
from edge.camera.pairs import Pair, PairReader
from edge.camera.played import Failed, Message, Opened
from edge.errors import CameraError

__all__ = ["main"]

_SLICE_MS = 200
_QUIET_SLICES = 3
"""After librealsense says that the file has ended, so many empty waits make sure that nothing is queued."""


def main(descriptor: int, path: Path) -> None:
    """Send every message; ends early where nobody reads any more."""
    connection: Connection[Message, None] = Connection(descriptor, readable=False)
    try:
        _play(connection, path)
    except (RuntimeError, CameraError) as error:
        connection.send(Failed(f"librealsense {import_librealsense().__version__} says: {error}"))


def _play(connection: Connection[Message, None], path: Path) -> None:
    rs = import_librealsense()
    streams = rs.config()
    streams.enable_device_from_file(str(path), repeat_playback=False)
    pipeline = rs.pipeline()
    # Resolved first: real time has to be off before the first frame is played, or some are dropped.
    profile = streams.resolve(rs.pipeline_wrapper(pipeline))
    playback = profile.get_device().as_playback()
    playback.set_real_time(False)
    reader = PairReader(rs, profile, str(path))
    pipeline.start(streams)
    key = rs.camera_info.serial_number
    serial = str(playback.get_info(key)) if playback.supports(key) else None
    connection.send(Opened(serial, reader.intrinsics))
    quiet = 0
    while quiet < _QUIET_SLICES:
        arrived, frames = pipeline.try_wait_for_frames(_SLICE_MS)
        pair: Pair | None = reader.pair(frames) if arrived else None
        del frames
        if pair is not None:
            connection.send(pair)
        if arrived:
            quiet = 0
        elif _has_ended(rs, playback):
            quiet += 1
    connection.send(None)


def _has_ended(rs: Any, playback: Any) -> bool:
    return bool(playback.current_status() == rs.playback_status.stopped)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main(int(sys.argv[1]), Path(sys.argv[2]))
    # Without destructors: those of librealsense's threads are what may abort.
    os._exit(0)
