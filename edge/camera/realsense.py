"""The live camera: a RealSense D405, or a software device that stands in for one."""

from __future__ import annotations

import contextlib
import gc
import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.camera.config import LiveCamera
from edge.camera.depth_integers import exact_unit
from edge.camera.librealsense import import_librealsense
from edge.camera.options import check_options, depth_sensor, lock_options
from edge.camera.pairs import Pair, PairReader
from edge.camera.recorder import UNFINISHED, Recorder
from edge.camera.source import FrameSource, SourceHealth
from edge.errors import CameraError, CameraLost, CameraNotFound, CameraStalled, DepthUnitWrong
from edge.frame import Frame

__all__ = ["RealSenseSource"]

_ENOUGH_VALID = 0.01
"""The share of valid pixels from which a median depth says something about the depth unit."""


class RealSenseSource(FrameSource):
    """Aligned colour and depth of one frameset, with the options locked and the depth unit read.

    `device` runs the same code over another librealsense device (`SoftwareD405.device`); None asks USB.
    `part_of` names the part of a frame number, for a device that knows. Lens distortion of the colour
    stream is not removed; `health` shows its coefficients. `read` gives the newest frame: one that a slow
    reader did not fetch in time counts as a gap. Opened again, it holds its options where they were, and
    records into `<name>-2.db3` and so on.
    """

    def __init__(
        self,
        config: LiveCamera,
        *,
        device: Any = None,
        part_of: Callable[[int], str | None] | None = None,
    ) -> None:
        self._config = config
        self._given = device
        self._part_of = part_of
        self._name = config.serial or "RealSense"
        self._rs: Any = None
        self._context: Any = None
        self._device: Any = None
        self._pipeline: Any = None
        self._queue: Any = None
        self._reader: PairReader | None = None
        self._recorder: Recorder | None = None
        self._held: dict[Any, float] = {}
        self._unit_m = 0.0
        self._unit_is_plausible = False
        self._last_counter: int | None = None
        self._recorded = False
        self._health = SourceHealth(frames=0)

    @property
    def name(self) -> str:
        return self._name

    def open(self) -> None:
        if self._pipeline is not None:
            raise CameraError(f"{self._name}: is open already")
        self._rs = rs = import_librealsense()
        try:
            # `pipeline.start()` would wait 15 s for a camera to be plugged in; asking takes 0.1 s.
            self._device = self._given if self._given is not None else self._find()
            self._name = self._info(rs.camera_info.serial_number) or self._name
            self._recorder = self._new_recorder()
            self._start()
        except RuntimeError as error:
            self._give_up()
            raise CameraError(
                f"{self._name}: can't stream depth and colour at {self._config.width_px}×"
                f"{self._config.height_px}, {self._config.fps} fps ({error}); a D405 offers 1280×720 at "
                "5, 15, 30 and 848×480, 640×480, 640×360, 480×270, 424×240 at 5 to 90: is it on USB 3, and "
                "does no other program hold it?"
            ) from error
        except CameraError:
            self._give_up()
            raise

    def _give_up(self) -> None:
        recorder = self._recorder
        self._release()
        if recorder is not None:
            recorder.discard()

    def _start(self) -> None:
        rs, config = self._rs, self._config
        self._held = lock_options(rs, self._device, config.options, self._name, self._held)
        sensor = depth_sensor(rs, self._device, self._name)
        self._unit_m = exact_unit(sensor.get_option(rs.option.depth_units))
        if not self._unit_m > 0:
            raise CameraError(f"{self._name}: its depth unit reads {self._unit_m} m; reset the camera")
        streams = rs.config()
        for stream, pixels in ((rs.stream.depth, rs.format.z16), (rs.stream.color, rs.format.rgb8)):
            streams.enable_stream(stream, config.width_px, config.height_px, pixels, config.fps)
        if self._recorder is not None:
            self._recorder.check_librealsense(self._version())
            self._recorder.check_unit(self._unit_m)
            streams.enable_record_to_file(str(self._recorder.partial))
        pipeline = rs.pipeline()
        pipeline.set_device(self._device)
        # A queue of our own, of one: `wait_for_frames` would reopen a camera that was unplugged and came
        # back, with its options at their defaults, without saying so.
        self._queue = rs.frame_queue(1)
        profile = pipeline.start(streams, self._queue)
        self._pipeline = pipeline
        self._reader = PairReader(rs, profile, self._name)
        check_options(sensor, self._held, self._name)  # streaming must not have reset them
        self._unit_is_plausible = False
        self._last_counter = None
        self._health = SourceHealth(
            frames=0,
            serial=self._info(rs.camera_info.serial_number),
            firmware=self._info(rs.camera_info.firmware_version),
            usb=self._info(rs.camera_info.usb_type_descriptor),
            details=self._details(),
            depth_unit_m=self._unit_m,
            options={option.name: value for option, value in self._held.items()},
        )

    def read(self, timeout_s: float = 5.0) -> Frame | None:
        if self._reader is None:
            raise CameraError(f"{self._name}: is not open")
        pair = self._wait(self._reader, timeout_s)
        if pair.depth_unit_m != self._unit_m:
            raise DepthUnitWrong(
                f"{self._name}: frame {pair.number} counts depth in {pair.depth_unit_m} m, the camera said "
                f"{self._unit_m} m at the start; another program changes its options: stop it, and reopen"
            )
        part_id = self._part_of(pair.number) if self._part_of else None
        frame = pair.frame(self._reader.intrinsics, self._health.frames, self._name, part_id)
        if not self._unit_is_plausible:
            self._unit_is_plausible = self._check_unit(frame)
        self._count(pair)
        return frame

    def _wait(self, reader: PairReader, timeout_s: float) -> Pair:
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            try:
                arrived, frame = self._queue.try_wait_for_frame(max(1, int(left_s * 1000)))
                if arrived and frame.is_frameset() and (pair := reader.pair(frame.as_frameset())) is not None:
                    return pair
            except RuntimeError as error:
                raise CameraLost(f"{self._name}: {error}; check the cable, and reopen") from error
        if not self._is_plugged_in():
            raise CameraLost(f"{self._name}: is no longer on the USB bus; check cable and power, and reopen")
        raise CameraStalled(
            f"{self._name}: sent no whole frame for {timeout_s:g} s "
            f"({reader.incomplete} without depth or colour, {reader.without_unit} without a depth unit since "
            "it was opened); reopen it, and where that does not help reset it"
        )

    def _check_unit(self, frame: Frame) -> bool:
        """Whether the depth looks like a D405's; False where there is too little of it to tell."""
        valid = frame.depth_m[frame.depth_m > 0]
        if valid.size < _ENOUGH_VALID * frame.depth_m.size:
            return False
        median_m = float(np.median(valid))
        low_m, high_m = self._config.min_plausible_depth_m, self._config.max_plausible_depth_m
        if low_m <= median_m <= high_m:
            return True
        guesses = [
            f"{self._unit_m * factor:g}"
            for factor in (0.001, 0.01, 0.1, 10, 100, 1000)
            if low_m <= median_m * factor <= high_m
        ]
        hint = f" (a unit of {' or '.join(guesses)} m would fit)" if guesses else ""
        raise DepthUnitWrong(
            f"{self._name}: the median depth is {median_m:.4g} m with a depth unit of {self._unit_m:g} m, "
            f"outside {low_m:g} to {high_m:g} m{hint}; a D405 counts in 0.0001 m: reset its depth unit, or "
            "move min_plausible_depth_m and max_plausible_depth_m if the camera does hang there"
        )

    def _count(self, pair: Pair) -> None:
        old = self._health
        gaps = old.gaps
        if pair.counter is not None:
            gaps = gaps or 0
            if self._last_counter is not None and pair.counter > self._last_counter:
                gaps += pair.counter - self._last_counter - 1
            self._last_counter = pair.counter
        # One new object, one assignment: another thread may be looking at health.
        self._health = replace(
            old,
            frames=old.frames + 1,
            gaps=gaps,
            temperature_c=self._temperature_c() if old.frames % 30 == 0 else old.temperature_c,
            metadata=pair.counter is not None,
        )

    def health(self) -> SourceHealth:
        return self._health

    def reset(self) -> bool:
        """Reset the camera as if it were plugged out and in; it is away for some seconds then.

        False for a device that was given. Raises `CameraNotFound` or `CameraLost`.
        """
        if self._given is not None:
            return False
        if self._pipeline is not None:
            raise CameraError(f"{self._name}: is open; close it before it is reset")
        self._rs = import_librealsense()
        try:
            self._find().hardware_reset()
        except RuntimeError as error:
            raise CameraLost(
                f"{self._name}: can't be reset ({error}); take it off its USB port and plug it in again"
            ) from error
        finally:
            self._release()
        return True

    def close(self) -> None:
        recorder, reader = self._recorder, self._reader
        self._release()
        if recorder is not None and reader is not None:
            recorder.finish(self._unit_m, self._health.frames, self._version())

    def _release(self) -> None:
        """librealsense commits a recording when the last handle on pipeline, profile and device is gone."""
        pipeline, self._pipeline = self._pipeline, None
        self._reader = self._queue = self._device = self._context = self._recorder = None
        if pipeline is not None:
            with contextlib.suppress(RuntimeError):  # it has stopped by itself when its camera is gone
                pipeline.stop()
        del pipeline
        gc.collect()

    def _new_recorder(self) -> Recorder | None:
        path = self._config.record_to
        if path is None:
            return None
        if self._recorded:  # the first part lies there; a camera that comes back must not fail over it
            path = _free_name(path)
        recorder = Recorder(path)
        self._recorded = True
        return recorder

    def _find(self) -> Any:
        self._context = self._rs.context()
        found = {
            device.get_info(self._rs.camera_info.serial_number): device
            for device in self._context.query_devices()
            if device.supports(self._rs.camera_info.serial_number)
        }
        wanted = self._config.serial
        if not found:
            raise CameraNotFound(
                "no RealSense found; plug it into a USB 3 port and check the udev rule, or set "
                "`camera.source: simulated`"
            )
        if wanted is None and len(found) > 1:
            raise CameraNotFound(
                f"{len(found)} RealSense cameras; set camera.serial to one of {', '.join(sorted(found))}"
            )
        if wanted is not None and wanted not in found:
            raise CameraNotFound(f"no RealSense with serial {wanted}; plugged in: {', '.join(sorted(found))}")
        return found[wanted] if wanted is not None else next(iter(found.values()))

    def _is_plugged_in(self) -> bool:
        if self._given is not None:
            return True
        key = self._rs.camera_info.serial_number
        try:
            return any(
                device.supports(key) and device.get_info(key) == self._name
                for device in self._context.query_devices()
            )
        except RuntimeError:  # it went away while it was asked
            return False

    def _version(self) -> str:
        return str(getattr(self._rs, "__version__", ""))  # 2.57 does not say

    def _info(self, key: Any) -> str | None:
        return str(self._device.get_info(key)) if self._device.supports(key) else None

    def _temperature_c(self) -> float | None:
        sensor = depth_sensor(self._rs, self._device, self._name)
        option = self._rs.option.asic_temperature
        try:
            return float(sensor.get_option(option)) if sensor.supports(option) else None
        except RuntimeError:  # a camera may be too busy to say; health does without
            return None

    def _details(self) -> dict[str, str]:
        rs, reader = self._rs, self._reader
        details = {option.name: f"{value:g}" for option, value in self._held.items()}
        details["camera"] = self._info(rs.camera_info.name) or "unknown"
        details["depth_unit_m"] = f"{self._unit_m:g}"
        if reader is not None:
            details["alignment"] = reader.aligned_by
            if any(reader.distortion):
                details["distortion_not_removed"] = " ".join(f"{c:.5g}" for c in reader.distortion)
        return details


def _free_name(path: Path) -> Path:
    """`monday-2.db3` beside `monday.db3`, or the first number of which there is nothing, whole or torn."""
    names = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(
        name for name in names if not name.exists() and not name.with_name(name.stem + UNFINISHED).exists()
    )
