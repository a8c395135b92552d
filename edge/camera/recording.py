"""Plays a recording of librealsense: every frame that is in it, or an error."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

from edge.camera.bag import check_bag
from edge.camera.config import RecordingCamera
from edge.camera.db3 import check_db3
from edge.camera.pairs import Pair
from edge.camera.played import Failed, Message, Opened
from edge.camera.recorder import UNFINISHED, read_sidecar, sidecar_path
from edge.camera.source import FrameSource, SourceHealth
from edge.clock import utc_now
from edge.errors import CameraError, CameraStalled, RecordingCorrupt
from edge.frame import Frame, Intrinsics
from edge.sealed import file_sha256

__all__ = ["RecordingSource"]

_VERIFIED = "verified"
_OPEN_TIMEOUT_S = 30.0
"""Opening takes a second; so long only where it never ends."""


class RecordingSource(FrameSource):
    """The frames of a `.db3` or `.bag`, in order, none dropped, as fast as they are read.

    `open` reads the whole file once: its frames are counted and its checksums verified, for librealsense
    plays a damaged recording up to the damage and ends as if it were whole. librealsense itself runs in a
    child (`edge.camera.player`). `read` returns None after the last frame, and raises `RecordingCorrupt`
    where librealsense gave fewer, or more, than were counted. Part ids are not in a recording.
    """

    def __init__(self, config: RecordingCamera) -> None:
        self._config = config
        self._path = config.path
        self._player: _Player | None = None
        self._intrinsics: Intrinsics | None = None
        self._ended = False
        self._expected = 0
        self._unit_m: float | None = None
        self._last_number = 0
        self._health = SourceHealth(frames=0)

    @property
    def name(self) -> str:
        return str(self._path)

    def open(self) -> None:
        if self._player is not None:
            raise CameraError(f"{self._path}: is open already")
        details = self._verify()
        self._last_number, self._ended = 0, False
        player = _Player(self._path)
        try:
            serial = self._opened(player)
        except BaseException:
            player.close()
            raise
        self._player = player
        self._health = SourceHealth(frames=0, serial=serial, details=details)

    def _opened(self, player: _Player) -> str | None:
        """The serial of the camera that was recorded."""
        try:
            first = player.next(_OPEN_TIMEOUT_S)
        except CameraStalled as error:
            raise RecordingCorrupt(
                f"{self._path}: librealsense was still trying to open it after {_OPEN_TIMEOUT_S:g} s; it is "
                "damaged"
            ) from error
        if not isinstance(first, Opened):
            raise RecordingCorrupt(
                f"{self._path}: can't be played ({_reason(first)}); it is damaged, was not made for this, "
                "or needs a later release of librealsense"
            )
        self._intrinsics = first.intrinsics
        return first.serial

    def _verify(self) -> dict[str, str]:
        """Count the frames and look for damage; returns what was checked, and what could not be."""
        path = self._path
        if not path.is_file():
            raise CameraError(f"{path}: is not there; mend camera.path")
        if path.name.endswith(UNFINISHED):
            raise RecordingCorrupt(
                f"{path}: was never finished, its last frames are missing; rename it to play what it holds"
            )
        sidecar = read_sidecar(path)
        if sidecar is not None and (digest := file_sha256(path)) != sidecar.sha256:
            raise RecordingCorrupt(
                f"{path}: differs from the sha256 in {sidecar_path(path).name} ({digest[:12]}…, "
                f"{sidecar.sha256[:12]}… was recorded); it was damaged or changed: copy it again"
            )
        guarantee = self._count()
        if sidecar is None:
            return {
                "sha256": f"not checked: there is no {sidecar_path(path).name}",
                "damage": f"none found; {guarantee}",
            }
        if sidecar.frames != self._expected:
            raise RecordingCorrupt(
                f"{path}: holds {self._expected} frames, {sidecar_path(path).name} says {sidecar.frames}"
            )
        if None not in (self._unit_m, sidecar.depth_unit_m) and self._unit_m != sidecar.depth_unit_m:
            raise RecordingCorrupt(
                f"{path}: counts depth in {self._unit_m} m, {sidecar_path(path).name} says "
                f"{sidecar.depth_unit_m} m"
            )
        return {
            "sha256": _VERIFIED,
            "damage": "none: every byte is as it was recorded",
            "recorded_by_librealsense": sidecar.librealsense or "unknown",
        }

    def _count(self) -> str:
        """Count the frames that must come, and say what the file's own checksums vouch for."""
        if self._path.suffix == ".db3":
            database = check_db3(self._path)
            self._expected, self._unit_m = database.depth_frames, database.depth_unit_m
            if database.unchecked_images == 0:
                return (
                    "every image carries a CRC, the extrinsics beside them do not: a changed digit of those "
                    "would not be noticed"
                )
        else:
            bag = check_bag(self._path)
            self._expected, self._unit_m = bag.depth_frames, None
            if bag.has_checksums:
                return "every chunk carries a checksum"
        return "the images carry no checksum: a changed pixel is not noticed"

    def read(self, timeout_s: float = 5.0) -> Frame | None:
        pair, intrinsics = self._next(timeout_s), self._intrinsics
        delivered = self._health.frames
        if pair is None or intrinsics is None:
            if delivered != self._expected:
                raise RecordingCorrupt(
                    f"{self._path}: ended after {delivered} frames of {self._expected} that it holds; it is "
                    "damaged, or was recorded by a later librealsense"
                )
            return None
        if delivered >= self._expected or pair.number <= self._last_number:
            raise RecordingCorrupt(
                f"{self._path}: frame {pair.number} came after frame {self._last_number}, as number "
                f"{delivered + 1} of {self._expected}; it is damaged"
            )
        if self._unit_m is not None and pair.depth_unit_m != self._unit_m:
            raise RecordingCorrupt(
                f"{self._path}: frame {pair.number} counts depth in {pair.depth_unit_m} m, the recording "
                f"in {self._unit_m} m; it is damaged"
            )
        self._unit_m = pair.depth_unit_m
        self._last_number = pair.number
        frame = pair.frame(intrinsics, delivered, self.name)
        old = self._health
        self._health = SourceHealth(
            frames=delivered + 1,
            serial=old.serial,
            details={**old.details, "of_frames": str(self._expected)},
        )
        return frame

    def _next(self, timeout_s: float) -> Pair | None:
        """The next pair; None at the file's end."""
        player = self._player
        if player is None:
            raise CameraError(f"{self._path}: is not open")
        if self._ended:
            return None
        message = player.next(timeout_s)
        if message is None:
            self._ended = True
            return None
        if not isinstance(message, Pair):
            raise RecordingCorrupt(f"{self._path}: {_reason(message)}; it is damaged")
        # Whoever is slow to ask has not got an old frame: it arrives when it is asked for.
        return replace(message, arrived_ns=time.monotonic_ns(), arrived_utc=utc_now())

    def health(self) -> SourceHealth:
        return self._health

    def close(self) -> None:
        player, self._player = self._player, None
        if player is not None:
            player.close()


class _Player:
    """The child that plays a recording, and the pipe from it; raises `RecordingCorrupt` where it crashes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pipe, theirs = Pipe(duplex=False)
        with theirs:
            command = [sys.executable, "-m", "edge.camera.player", str(theirs.fileno()), str(path.absolute())]
            # A session of its own: a Ctrl-C in the terminal is for the parent, who closes in its own time.
            self._child = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )

    def next(self, timeout_s: float) -> Message:
        """What it sends next; raises `CameraStalled` after `timeout_s` without anything."""
        try:
            if not self._pipe.poll(timeout_s):
                raise CameraStalled(
                    f"{self._path}: gave no frame for {timeout_s:g} s; is its disk still there?"
                )
            message: Message = self._pipe.recv()
        except (EOFError, OSError) as error:
            code = self._child.wait()
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise RecordingCorrupt(
                f"{self._path}: librealsense crashed on it ({how}); it is damaged, or of a later release "
                "than the one installed"
            ) from error
        return message

    def close(self) -> None:
        self._pipe.close()
        self._child.kill()
        self._child.wait()


def _reason(message: Message) -> str:
    return message.reason if isinstance(message, Failed) else "librealsense began anew in the middle of it"
