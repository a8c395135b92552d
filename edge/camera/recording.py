"""Plays a recording of librealsense: every frame that is in it, or an error."""

from __future__ import annotations

import gc
import time
from contextlib import suppress
from typing import Any

from edge.camera.bag import check_bag
from edge.camera.config import RecordingCamera
from edge.camera.db3 import check_db3
from edge.camera.librealsense import import_librealsense
from edge.camera.pairs import Pair, PairReader
from edge.camera.probe import probe_recording
from edge.camera.recorder import UNFINISHED, read_sidecar, sidecar_path
from edge.camera.source import FrameSource, SourceHealth
from edge.errors import CameraError, CameraStalled, RecordingCorrupt
from edge.frame import Frame
from edge.sealed import file_sha256

__all__ = ["RecordingSource"]

_VERIFIED = "verified"
_SLICE_MS = 200
_QUIET_SLICES = 3
"""After librealsense says that the file has ended, so many empty waits make sure that nothing is queued."""
_PLAY_OUT_S = 2.0
_SHORT_FRAMES = 100  # played out within a second, unless the machine does much else
_SHORT_PLAY_OUT_S = 30.0
_PLAY_OUT_SLICE_MS = 20


class RecordingSource(FrameSource):
    """The frames of a `.db3` or `.bag`, in order, none dropped, as fast as they are read.

    `open` reads the whole file once: its frames are counted and its checksums verified, for librealsense
    plays a damaged recording up to the damage and ends as if it were whole. `read` returns None after the
    last frame, and raises `RecordingCorrupt` where librealsense gave fewer, or more, than were counted.
    Part ids are not in a recording.
    """

    def __init__(self, config: RecordingCamera) -> None:
        self._config = config
        self._path = config.path
        self._rs: Any = None
        self._pipeline: Any = None
        self._playback: Any = None
        self._reader: PairReader | None = None
        self._expected = 0
        self._unit_m: float | None = None
        self._last_number = 0
        self._health = SourceHealth(frames=0)

    @property
    def name(self) -> str:
        return str(self._path)

    def open(self) -> None:
        if self._pipeline is not None:
            raise CameraError(f"{self._path}: is open already")
        details = self._verify()
        if details["sha256"] != _VERIFIED:
            probe_recording(self._path)
        self._rs = rs = import_librealsense()
        try:
            self._start(rs)
        except RuntimeError as error:
            self.close()
            raise RecordingCorrupt(
                f"{self._path}: librealsense {rs.__version__} can't play it ({error}); "
                "a recording of a later release needs that release"
            ) from error
        except CameraError as error:
            self.close()
            raise RecordingCorrupt(f"{error}; it is damaged, or was not made for this") from error
        key = rs.camera_info.serial_number
        self._health = SourceHealth(
            frames=0,
            serial=str(self._playback.get_info(key)) if self._playback.supports(key) else None,
            details=details,
        )

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

    def _start(self, rs: Any) -> None:
        streams = rs.config()
        streams.enable_device_from_file(str(self._path), repeat_playback=False)
        pipeline = rs.pipeline()
        # Resolved first: real time has to be off before the first frame is played, or some are dropped.
        profile = streams.resolve(rs.pipeline_wrapper(pipeline))
        self._playback = profile.get_device().as_playback()
        self._playback.set_real_time(False)
        reader = PairReader(rs, profile, self.name)
        pipeline.start(streams)
        self._pipeline, self._reader = pipeline, reader
        self._last_number = 0

    def read(self, timeout_s: float = 5.0) -> Frame | None:
        if self._reader is None:
            raise CameraError(f"{self._path}: is not open")
        pair = self._wait(self._reader, timeout_s)
        delivered = self._health.frames
        if pair is None:
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
        frame = pair.frame(self._reader.intrinsics, delivered, self.name)
        old = self._health
        self._health = SourceHealth(
            frames=delivered + 1,
            serial=old.serial,
            details={**old.details, "of_frames": str(self._expected)},
        )
        return frame

    def _wait(self, reader: PairReader, timeout_s: float) -> Pair | None:
        """The next pair; None at the file's end."""
        deadline_s = time.monotonic() + timeout_s
        quiet = 0
        while time.monotonic() < deadline_s:
            try:
                arrived, frames = self._pipeline.try_wait_for_frames(_SLICE_MS)
                pair = reader.pair(frames) if arrived else None
            except RuntimeError as error:
                raise RecordingCorrupt(f"{self._path}: librealsense gave up ({error})") from error
            if pair is not None:
                return pair
            if arrived:
                quiet = 0
            elif self._playback.current_status() == self._rs.playback_status.stopped:
                quiet += 1
                if quiet >= _QUIET_SLICES or self._health.frames >= self._expected:
                    return None
        raise CameraStalled(f"{self._path}: gave no frame for {timeout_s:g} s; is its disk still there?")

    def health(self) -> SourceHealth:
        return self._health

    def close(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        playback, self._playback = self._playback, None
        self._reader = None
        if pipeline is not None:
            self._play_out(pipeline, playback)
            pipeline.stop()
        del pipeline, playback
        gc.collect()

    def _play_out(self, pipeline: Any, playback: Any) -> None:
        """Let the file come to its end: a short one surely, a long one for a moment at the most.

        librealsense's reading thread and `stop` race for the same callback: about one stop in two hundred
        in the middle of a file ended the process (seen with 2.59, and known upstream). At its end nobody
        reads.
        """
        short = self._expected <= _SHORT_FRAMES
        deadline_s = time.monotonic() + (_SHORT_PLAY_OUT_S if short else _PLAY_OUT_S)
        with suppress(RuntimeError):  # a damaged file can't be played out; it is being closed
            while (
                time.monotonic() < deadline_s
                and playback.current_status() != self._rs.playback_status.stopped
            ):
                pipeline.try_wait_for_frames(_PLAY_OUT_SLICE_MS)
