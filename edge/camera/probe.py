"""Opens a recording in a process of its own: damage makes librealsense search for ever, or crash.

Run as `python -m edge.camera.probe <recording>`; ends with 0 where librealsense can open it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edge.camera.librealsense import import_librealsense
from edge.errors import RecordingCorrupt

__all__ = ["probe_recording"]

_TIMEOUT_S = 30.0
"""Opening takes a fraction of a second; so long only where it never ends."""


def probe_recording(path: Path) -> None:
    """Raises `RecordingCorrupt` where librealsense hangs on opening the file, fails, or crashes."""
    command = [sys.executable, "-m", "edge.camera.probe", str(path.absolute())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise RecordingCorrupt(
            f"{path}: librealsense was still trying to open it after {_TIMEOUT_S:g} s; it is damaged"
        ) from error
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it crashed"])[-1]
        raise RecordingCorrupt(
            f"{path}: librealsense can't open it (exit code {done.returncode}, {reason}); it is damaged, or "
            "of a later release than the one installed"
        )


def _open(path: str) -> None:
    rs = import_librealsense()
    streams = rs.config()
    streams.enable_device_from_file(path, repeat_playback=False)
    profile = streams.resolve(rs.pipeline_wrapper(rs.pipeline()))
    for stream in profile.get_streams():
        stream.as_video_stream_profile().get_intrinsics()


if __name__ == "__main__":
    _open(sys.argv[1])
