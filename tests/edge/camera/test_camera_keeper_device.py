"""The keeper over librealsense's own pipeline: a software D405 that fails, goes, and comes back changed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from edge.camera.config import CareConfig, LiveCamera
from edge.camera.events import CameraEvent
from edge.camera.factory import kept_source_from_config
from edge.camera.keeper import CameraKeeper
from edge.camera.librealsense import import_librealsense
from edge.camera.recorder import read_sidecar
from edge.camera.software_device import SoftwareD405
from edge.config import RigConfig
from edge.errors import (
    CameraAway,
    CameraError,
    CameraOptionRefused,
    CameraStalled,
    CameraUsbSlow,
    DepthUnitWrong,
    FrameError,
)
from edge.frame import Frame, Intrinsics
from edge.testing.faults import Fault, FaultyCamera
from tests.edge.camera.pushed import VIEW, H, PushedCamera, W

QUICK = CareConfig(first_backoff_s=0.01, last_backoff_s=0.02)


class Rig:
    def __init__(self, camera: PushedCamera | None = None, care: CareConfig = QUICK, **options: Any) -> None:
        self.camera = camera or PushedCamera()
        self.faulty = FaultyCamera(self.camera)
        self.events: list[CameraEvent] = []
        # Generous: the machine that tests may be busy, and a frame on its way for seconds.
        options = {"stall_s": 1.0, "max_age_s": 20.0, "max_skew_s": 0.75 / 30, **options}
        self.keeper = CameraKeeper(self.faulty, care, on_event=self.events.append, **options)

    def fresh(self) -> Frame:
        for _ in range(300):
            try:
                frame = self.keeper.read(60.0)
            except CameraAway:
                continue
            assert frame is not None
            if frame.stale is None:
                return frame
        raise AssertionError("no fresh frame came")

    def away(self) -> CameraAway:
        """What it says of a camera that it can't get back."""
        for _ in range(300):
            try:
                self.keeper.read(0.5)
            except CameraAway as error:
                if any(event.kind.value == "attempt_failed" for event in self.events):
                    return error
            except CameraError:
                continue
        raise AssertionError("it is not away")

    @property
    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.events]


def test_frames_come_through_with_what_the_camera_says_of_them() -> None:
    rig = Rig()
    with rig.keeper:
        frames = [rig.fresh() for _ in range(10)]
        health = rig.keeper.health()
    assert [frame.seq for frame in frames] == list(range(10))
    for number, frame in enumerate(frames, start=1):
        assert np.array_equal(frame.rgb, rig.camera.noise(number)[0])
        assert frame.stamp is not None
        assert (frame.stamp.number, frame.stamp.colour_number, frame.stamp.wall_clock) == (
            number,
            number,
            False,
        )
    assert (health.frames, health.gaps, health.metadata) == (10, 0, True)
    assert health.depth_unit_m == 0.0001
    assert health.options["enable_auto_exposure"] == 0
    assert "metadata" not in health.details
    assert not [thread for thread in threading.enumerate() if thread.name == "camera" and thread.is_alive()]


@pytest.mark.parametrize(
    "fault", [Fault.STALLED, Fault.UNPLUGGED, Fault.GARBAGE, Fault.FROZEN, Fault.REPLAYING]
)
def test_each_fault_ends_with_fresh_frames(fault: Fault) -> None:
    rig = Rig(care=QUICK.model_copy(update={"garbage_frames": 3, "frozen_frames": 3}))
    with rig.keeper:
        rig.fresh()
        rig.faulty.break_by(fault)
        mender = threading.Timer(1.5, rig.faulty.mend)
        mender.start()
        while mender.is_alive() or "down" not in rig.kinds:
            try:
                frame = rig.keeper.read(0.2)
                assert frame is None or frame.stale is not None or not mender.is_alive()
            except (CameraStalled, CameraAway, FrameError):
                continue
        rig.fresh()
    assert (rig.kinds[0], rig.kinds[-1]) == ("down", "up")
    care = rig.keeper.health().care
    assert care is not None
    assert care.reopened == 1
    assert care.resets == 0  # a software device has nothing to reset


def test_a_frozen_picture_is_seen_through_the_pipeline() -> None:
    rig = Rig()
    with rig.keeper:
        rig.fresh()
        picture = rig.camera.noise(1)
        rig.camera.push = lambda number, taken_s: rig.camera.device.push(number, *picture, taken_s=taken_s)
        frame = rig.keeper.read(60.0)
        assert frame is not None
        assert frame.stale is not None
        assert "bit for bit" in frame.stale
        rig.camera.push = rig.camera.push_noise
        rig.fresh()


class TestOptions:
    def test_a_camera_that_comes_back_with_other_options_gets_its_own_again(self) -> None:
        rs = import_librealsense()
        rig = Rig(PushedCamera(options={"gain": 32}))
        sensor = rig.camera.device.device.query_sensors()[0]
        sensor.set_option(rs.option.exposure, 7000)  # left out of the configuration: held as it is found
        with rig.keeper:
            rig.fresh()
            before = rig.keeper.health().options
            rig.faulty.break_by(Fault.UNPLUGGED)
            rig.away()
            for option, value in (
                (rs.option.enable_auto_exposure, 1),
                (rs.option.exposure, 33_000),
                (rs.option.gain, 16),
                (rs.option.white_balance, 3000),
            ):
                sensor.set_option(option, value)
            rig.faulty.mend()
            rig.fresh()
            assert rig.keeper.health().options == before
        assert before["exposure"] == 7000
        assert sensor.get_option(rs.option.enable_auto_exposure) == 0
        assert sensor.get_option(rs.option.exposure) == 7000
        assert sensor.get_option(rs.option.gain) == 32

    def test_one_that_will_not_take_them_is_not_read_until_it_does(self) -> None:
        rig = Rig(PushedCamera(options={"exposure_us": 8050}))
        with rig.keeper:
            rig.fresh()
            rig.faulty.break_by(Fault.UNPLUGGED)
            rig.away()
            real = rig.camera.live._given
            rig.camera.live._given = _RoundingDevice(real)
            rig.events.clear()
            rig.faulty.mend()
            error = rig.away()
            assert isinstance(error.__cause__, CameraOptionRefused)
            assert "exposure was set to 8050 and reads 8000" in str(error)
            rig.camera.live._given = real
            rig.fresh()


class _Rounding:
    def __init__(self, sensor: Any) -> None:
        self._sensor = sensor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sensor, name)

    def set_option(self, option: Any, value: float) -> None:
        self._sensor.set_option(option, value - value % 100 if value > 8000 else value)


class _RoundingDevice:
    def __init__(self, device: Any) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def query_sensors(self) -> list[_Rounding]:
        return [_Rounding(sensor) for sensor in self._device.query_sensors()]


class TestIdentity:
    def test_another_depth_unit_is_an_error_until_the_old_one_is_back(self) -> None:
        rig = Rig()
        with rig.keeper:
            rig.fresh()
            rig.faulty.break_by(Fault.UNPLUGGED)
            rig.away()
            rig.camera.plug_in(SoftwareD405(VIEW, depth_unit_m=0.001, serial="42"))
            rig.events.clear()
            rig.faulty.mend()
            error = rig.away()
            assert isinstance(error.__cause__, DepthUnitWrong)
            rig.camera.plug_in(SoftwareD405(VIEW, serial="42"))
            assert rig.fresh().depth_unit_m == 0.0001

    @pytest.mark.parametrize(
        ("device", "reason"),
        [
            (lambda: SoftwareD405(VIEW, serial="43"), "camera_replaced"),
            (
                lambda: SoftwareD405(Intrinsics(W, H, 62.0, 60.5, 32.75, 23.5), serial="42"),
                "camera_view_changed",
            ),
        ],
    )
    def test_another_camera_or_view_is_an_error(
        self, device: Callable[[], SoftwareD405], reason: str
    ) -> None:
        rig = Rig()
        with rig.keeper:
            rig.fresh()
            rig.faulty.break_by(Fault.UNPLUGGED)
            rig.away()
            rig.camera.plug_in(device())
            rig.events.clear()
            rig.faulty.mend()
            rig.away()
            care = rig.keeper.health().care
        assert care is not None
        assert care.down_reason == reason

    def test_usb_2_is_an_error_of_open(self) -> None:
        rs = import_librealsense()
        device = SoftwareD405(VIEW)
        device.device.register_info(rs.camera_info.usb_type_descriptor, "2.1")
        with pytest.raises(CameraUsbSlow, match=r"USB 2\.1"):
            Rig(PushedCamera(device)).keeper.open()
        with Rig(PushedCamera(device), QUICK.model_copy(update={"allow_usb2": True})).keeper as keeper:
            assert keeper.health().usb == "2.1"


def _push_one(
    camera: PushedCamera, number: int, taken_s: float, *, depth: bool, counted: bool = True
) -> None:
    """One image alone, as where the other one was lost on its way."""
    rs, device = import_librealsense(), camera.device
    if counted:
        device._sensor.set_metadata(rs.frame_metadata_value.actual_fps, 30_000)
        device._sensor.set_metadata(rs.frame_metadata_value.frame_counter, number)
    rgb, z16 = camera.noise(number)
    frame = rs.software_video_frame()
    frame.pixels = z16 if depth else rgb
    frame.bpp = 2 if depth else 3
    frame.stride = W * frame.bpp
    frame.timestamp = taken_s * 1e3
    frame.domain = rs.timestamp_domain.hardware_clock if counted else rs.timestamp_domain.system_time
    frame.frame_number = number
    frame.profile = (device._depth if depth else device._colour).as_video_stream_profile()
    if depth:
        frame.depth_units = 0.0001
    device._sensor.on_video_frame(frame)


@pytest.mark.parametrize("lost", ["depth", "colour"])
@pytest.mark.parametrize("read_before", [True, False])
def test_an_old_image_that_librealsense_puts_beside_a_new_one_is_stale(lost: str, read_before: bool) -> None:
    """Its aggregator fills a frameset up with the last image of a stream that is late.

    Seen of 3 and 4: where the depth of 3 is lost, depth 2 comes beside colour 3. Depth 2 may have been read
    already, or else the two are a frame's time apart.
    """
    rig = Rig()
    other = "colour" if lost == "depth" else "depth"
    steps = [
        *[[("depth", number), ("colour", number)] for number in ((1, 2) if read_before else (1,))],
        [*([] if read_before else [("depth", 2), ("colour", 2)]), (other, 3), (lost, 4)],
        [(other, 4)],
        [("depth", 5), ("colour", 5)],
    ]

    def push(_number: int, _taken_s: float) -> None:
        for stream, number in steps.pop(0):
            _push_one(rig.camera, number, number / 30, depth=stream == "depth")
            time.sleep(0.05)  # its way through the threads of the syncer: two in one go would be told apart

    rig.camera.push = push
    seen = []
    with rig.keeper:
        while steps:
            frame = rig.keeper.read(60.0)
            assert frame is not None
            assert frame.stamp is not None
            seen.append((frame.stamp.number, frame.stamp.colour_number, frame.stale is None))
    torn = [pair for pair in seen if pair[0] != pair[1]]
    assert torn == [(2, 3, False) if lost == "depth" else (3, 2, False)]
    assert seen[0] == (1, 1, True)
    assert seen[-1][2]


def test_without_kernel_metadata_lost_frames_can_not_be_seen_and_that_is_said() -> None:
    rig = Rig()

    def push_bare(number: int, _taken_s: float) -> None:
        for depth in (True, False):
            _push_one(rig.camera, number, time.time(), depth=depth, counted=False)

    rig.camera.push = push_bare
    with rig.keeper:
        frame = rig.fresh()
        rig.fresh()
        health = rig.keeper.health()
    assert frame.stamp is not None
    assert frame.stamp.wall_clock
    assert (health.metadata, health.gaps) == (False, None)
    assert "lost ones can't be seen" in health.details["metadata"]


def test_a_recording_goes_on_in_a_second_file(tmp_path: Path) -> None:
    rig = Rig(PushedCamera(record_to=tmp_path / "monday.db3"), close_timeout_s=60.0)
    with rig.keeper:
        for _ in range(5):
            rig.fresh()
        rig.faulty.break_by(Fault.UNPLUGGED)
        rig.away()
        rig.faulty.mend()
        rig.fresh()
    assert sorted(path.name for path in tmp_path.glob("*.db3")) == ["monday-2.db3", "monday.db3"]
    for path in tmp_path.glob("*.db3"):
        sidecar = read_sidecar(path)
        assert sidecar is not None
        assert sidecar.frames >= 1


def test_a_signal_ends_a_read_that_waits_for_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(stall_s=3600.0)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        rig.keeper.stop()

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        with rig.keeper:
            rig.fresh()
            rig.faulty.break_by(Fault.STALLED)
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
            while rig.keeper.read(3600.0) is not None:  # one frame may have been on its way
                pass
    finally:
        signal.signal(signal.SIGTERM, before)


class TestFactory:
    def test_a_live_camera_is_kept(self) -> None:
        assert isinstance(kept_source_from_config(LiveCamera()), CameraKeeper)

    def test_others_are_left_to_themselves(self, tmp_path: Path) -> None:
        config = RigConfig.model_validate(
            {
                "rig": {"enterprise": "a", "site": "b", "area": "c", "line": "d", "cell": "e"},
                "camera": {"source": "folder", "path": str(tmp_path)},
                "bundle": "bundle",
            }
        )
        assert not isinstance(kept_source_from_config(config.camera), CameraKeeper)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"first_backoff_s": 40.0}, "must not exceed"),
        ({"reset_after": 0}, "greater than or equal to 1"),
        ({"depth_unit_m": 1.0}, "less than or equal to 0.01"),
    ],
)
def test_care_that_can_not_be_meant_is_refused(changes: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LiveCamera.model_validate({"care": changes})
