"""The live source over a software device: the real pipeline, the real syncer, the real alignment."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.camera.config import LiveCamera, LockedOptions
from edge.camera.librealsense import import_librealsense
from edge.camera.realsense import RealSenseSource
from edge.camera.software_device import SoftwareD405
from edge.errors import CameraError, CameraNotFound, CameraOptionRefused, CameraStalled, FrameError
from edge.frame import Frame, Intrinsics

W, H = 64, 48
VIEW = Intrinsics(W, H, 61.25, 60.5, 32.75, 23.5)


def _images(seed: int, low: int = 1000, high: int = 5000) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (H, W, 3), dtype=np.uint8), rng.integers(low, high, (H, W)).astype(np.uint16)


def _live(**changes: Any) -> LiveCamera:
    return LiveCamera(width_px=W, height_px=H, **changes)


def _read(source: RealSenseSource) -> Frame:
    frame = source.read(5.0)
    assert frame is not None
    return frame


def test_no_camera_is_an_error_before_the_pipeline_could_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    rs = import_librealsense()
    if len(rs.context().query_devices()) > 0:
        pytest.skip("a RealSense is plugged in")

    def wait_15_s(*_: Any) -> None:
        raise AssertionError("the pipeline was started; it waits 15 s for a camera")

    monkeypatch.setattr(rs.pipeline, "start", wait_15_s)
    with pytest.raises(CameraNotFound, match="simulated"):
        RealSenseSource(LiveCamera()).open()
    with pytest.raises(CameraNotFound):
        RealSenseSource(LiveCamera(serial="123")).open()


def test_frames_come_back_bit_for_bit() -> None:
    camera = SoftwareD405(VIEW, serial="42")
    with RealSenseSource(_live(), device=camera.device) as source:
        for number in (1, 2, 3):
            rgb, z16 = _images(number)
            camera.push(number, rgb, z16)
            frame = _read(source)
            assert np.array_equal(frame.rgb, rgb)
            assert np.array_equal(frame.depth_m, z16.astype(np.float32) * np.float32(1e-4))
            assert frame.depth_unit_m == 0.0001
            assert frame.intrinsics == VIEW
            assert (frame.seq, frame.source) == (number - 1, "42")
        assert source.health().frames == 3
        assert source.health().serial == "42"


def test_frames_outlive_the_camera() -> None:
    camera = SoftwareD405(VIEW)
    frames, sent = [], []
    with RealSenseSource(_live(), device=camera.device) as source:
        for number in range(1, 60):  # more than librealsense has buffers for
            sent.append(_images(number))
            camera.push(number, *sent[-1])
            frames.append(_read(source))
    for frame, (rgb, _) in zip(frames, sent, strict=True):
        assert np.array_equal(frame.rgb, rgb)


def test_depth_unit_is_read_from_the_device() -> None:
    camera = SoftwareD405(VIEW, depth_unit_m=0.00005)
    with RealSenseSource(_live(), device=camera.device) as source:
        camera.push(1, *_images(1))
        frame = _read(source)
    assert frame.depth_unit_m == 0.00005
    assert frame.depth_m.max() < 0.25


def test_wrong_depth_unit_is_named() -> None:
    camera = SoftwareD405(VIEW, depth_unit_m=0.001)  # a D435's
    with RealSenseSource(_live(), device=camera.device) as source:
        camera.push(1, *_images(1))
        with pytest.raises(CameraError, match=r"median depth is 2\.\d+ m .*a unit of 0\.0001 m would fit"):
            source.read(5.0)


def test_depth_unit_that_changes_is_an_error() -> None:
    camera = SoftwareD405(VIEW)
    with RealSenseSource(_live(), device=camera.device) as source:
        camera.push(1, *_images(1))
        _read(source)
        camera._unit_m = 0.0002
        camera.push(2, *_images(2))
        with pytest.raises(CameraError, match="another program"):
            source.read(5.0)


def test_no_depth_at_all_is_no_wrong_unit() -> None:
    camera = SoftwareD405(VIEW)
    with RealSenseSource(_live(), device=camera.device) as source:
        rgb, _ = _images(1)
        camera.push(1, rgb, np.zeros((H, W), np.uint16))
        assert not _read(source).depth_m.any()


def test_silence_is_a_stall() -> None:
    camera = SoftwareD405(VIEW)
    with RealSenseSource(_live(), device=camera.device) as source:
        with pytest.raises(CameraStalled, match=r"0\.2 s"):
            source.read(0.2)
        camera.push(1, *_images(1))
        assert _read(source).seq == 0  # it may come back by itself


def test_a_slow_reader_gets_the_newest_frame_and_the_gap() -> None:
    camera = SoftwareD405(VIEW)
    with RealSenseSource(_live(), device=camera.device) as source:
        camera.push(1, *_images(1))
        _read(source)
        for number in range(2, 7):
            camera.push(number, *_images(number))
        time.sleep(0.5)  # on its way through the syncer's own thread
        frame = _read(source)
        assert np.array_equal(frame.rgb, _images(6)[0])
        assert source.health().gaps == 4


def test_gaps_are_counted_by_the_cameras_own_counter() -> None:
    camera = SoftwareD405(VIEW)
    with RealSenseSource(_live(), device=camera.device) as source:
        assert source.health().gaps is None
        for number, counter in ((1, 10), (2, 11), (3, 15), (4, 16), (5, 2), (6, 3)):
            camera.push(number, *_images(number), counter=counter)
            _read(source)
        assert source.health().gaps == 3  # 12, 13, 14; falling back to 2 is a reset, no gap


def test_automatics_are_off_and_options_set_before_the_first_frame() -> None:
    rs = import_librealsense()
    camera = SoftwareD405(VIEW)
    sensor = camera.device.query_sensors()[0]
    assert sensor.get_option(rs.option.enable_auto_exposure) == 1
    options = LockedOptions(exposure_us=8000, gain=32, white_balance_k=5000, power_line_hz=50)
    with RealSenseSource(_live(options=options), device=camera.device) as source:
        assert sensor.get_option(rs.option.enable_auto_exposure) == 0
        assert sensor.get_option(rs.option.enable_auto_white_balance) == 0
        assert sensor.get_option(rs.option.exposure) == 8000
        assert sensor.get_option(rs.option.gain) == 32
        assert sensor.get_option(rs.option.white_balance) == 5000
        assert sensor.get_option(rs.option.power_line_frequency) == 1
        assert source.health().details["exposure"] == "8000"


def test_options_left_out_are_kept_and_held() -> None:
    camera = SoftwareD405(VIEW)
    with RealSenseSource(_live(), device=camera.device) as source:
        details = source.health().details
    assert (details["enable_auto_exposure"], details["exposure"]) == ("0", "33000")


def test_option_out_of_range_is_refused_with_the_range() -> None:
    camera = SoftwareD405(VIEW)
    source = RealSenseSource(_live(options=LockedOptions(gain=300)), device=camera.device)
    with pytest.raises(CameraOptionRefused, match=r"gain.* 300 .*16 to 248"):
        source.open()


class _Stubborn:
    """A sensor that rounds its exposure, as cameras do: read back, it is not what was set."""

    def __init__(self, sensor: Any) -> None:
        self._sensor = sensor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sensor, name)

    def set_option(self, option: Any, value: float) -> None:
        self._sensor.set_option(option, value - value % 100)


class _StubbornDevice:
    def __init__(self, device: Any) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def query_sensors(self) -> list[_Stubborn]:
        return [_Stubborn(sensor) for sensor in self._device.query_sensors()]


def test_option_that_reads_back_differently_is_refused() -> None:
    device = _StubbornDevice(SoftwareD405(VIEW).device)
    source = RealSenseSource(_live(options=LockedOptions(exposure_us=8050)), device=device)
    with pytest.raises(CameraOptionRefused, match="exposure was set to 8050 and reads 8000"):
        source.open()


def test_option_that_the_camera_lacks_is_refused() -> None:
    rs = import_librealsense()
    device = rs.software_device()
    sensor = device.add_sensor("Stereo Module")
    sensor.add_option(rs.option.depth_units, rs.option_range(1e-6, 1e-2, 1e-4, 1e-6), True)
    source = RealSenseSource(_live(options=LockedOptions(gain=20)), device=device)
    with pytest.raises(CameraOptionRefused, match="no option gain"):
        source.open()


def test_resolution_that_the_camera_lacks_is_refused_and_can_be_mended() -> None:
    camera = SoftwareD405(VIEW)
    with pytest.raises(CameraError, match="640×480"):
        RealSenseSource(LiveCamera(width_px=640, height_px=480), device=camera.device).open()
    with RealSenseSource(_live(), device=camera.device) as source:
        camera.push(1, *_images(1))
        _read(source)


def test_depth_is_aligned_where_colour_sees_from_elsewhere() -> None:
    """A plane at z, colour 5 mm to the right: depth moves left by f·b/z pixels, as the pinhole says."""
    baseline_m, z_m = 0.005, 0.1
    camera = SoftwareD405(VIEW, baseline_m=baseline_m)
    shift_px = round(VIEW.fx_px * baseline_m / z_m)
    z16 = np.full((H, W), round(z_m / 1e-4), np.uint16)
    z16[:, 40:50] = 0  # a column without depth shows where things went
    with RealSenseSource(_live(), device=camera.device) as source:
        rgb, _ = _images(1)
        camera.push(1, rgb, z16)
        frame = _read(source)
        assert source.health().details["alignment"] == "rs.align to colour"
    assert shift_px == 3
    assert np.array_equal(frame.rgb, rgb)  # colour stays, depth moves
    holes = np.flatnonzero((frame.depth_m == 0).all(axis=0))
    inner = holes[holes < W - shift_px - 1]
    assert abs(inner.mean() - (44.5 - shift_px)) <= 1.0  # librealsense rounds down: up to one pixel
    assert frame.depth_unit_m == 0.0001


def test_one_view_point_is_not_aligned_again() -> None:
    camera = SoftwareD405(VIEW)
    with RealSenseSource(_live(), device=camera.device) as source:
        assert source.health().details["alignment"].startswith("one view point")


def test_software_device_refuses_arrays_of_another_shape() -> None:
    camera = SoftwareD405(VIEW)
    rgb, z16 = _images(1)
    with pytest.raises(FrameError, match="z16"):
        camera.push(1, rgb, z16[:-1])
    with pytest.raises(FrameError, match="rgb"):
        camera.push(1, rgb[:, :-1], z16)


def test_strided_arrays_arrive_unscrambled() -> None:
    camera = SoftwareD405(VIEW)
    rgb, z16 = _images(1)
    with RealSenseSource(_live(), device=camera.device) as source:
        camera.push(1, rgb[::-1, :, ::-1], z16[:, ::-1])
        frame = _read(source)
    assert np.array_equal(frame.rgb, rgb[::-1, :, ::-1])
    assert np.array_equal(frame.depth_m, (z16[:, ::-1]).astype(np.float32) * np.float32(1e-4))


def test_open_close_read_in_any_order(tmp_path: Path) -> None:
    camera = SoftwareD405(VIEW)
    source = RealSenseSource(_live(), device=camera.device)
    with pytest.raises(CameraError, match="not open"):
        source.read(0.1)
    source.close()
    for number in (1, 2):  # a camera can be reopened
        source.open()
        with pytest.raises(CameraError, match="open already"):
            source.open()
        camera.push(number, *_images(number))
        assert _read(source).seq == 0
        source.close()
        source.close()
