"""A D405 made of software: librealsense takes it for a camera, so the live source's own code runs over it."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge.camera.depth_integers import Z16Image
from edge.camera.librealsense import import_librealsense
from edge.errors import FrameError
from edge.frame import Intrinsics, RgbImage

__all__ = ["SoftwareD405"]


class SoftwareD405:
    """One "Stereo Module" with a depth and a colour stream, and the options that a rig locks.

    `device` is what `RealSenseSource` opens; after that, each `push` makes one frameset. Both streams see
    through `intrinsics`; `colour_intrinsics` and `baseline_m` (colour lies that far to the right) give
    colour a view of its own, as on the real camera. What it can't be: USB, its loss, and a hardware reset.
    """

    def __init__(
        self,
        intrinsics: Intrinsics,
        depth_unit_m: float = 0.0001,
        *,
        fps: int = 30,
        serial: str = "simulated",
        colour_intrinsics: Intrinsics | None = None,
        baseline_m: float = 0.0,
    ) -> None:
        self._rs = rs = import_librealsense()
        self._depth_view = intrinsics
        self._colour_view = colour_intrinsics or intrinsics
        self._unit_m = depth_unit_m
        self._fps = fps
        self.device: Any = rs.software_device()
        for key, value in (
            (rs.camera_info.name, "Simulated D405"),
            (rs.camera_info.serial_number, serial),
            (rs.camera_info.firmware_version, "simulated"),
            (rs.camera_info.product_line, "D400"),
        ):
            self.device.register_info(key, value)
        self._sensor: Any = self.device.add_sensor("Stereo Module")
        self._depth: Any = self._sensor.add_video_stream(
            self._stream(rs.stream.depth, 0, rs.format.z16, 2, self._depth_view), True
        )
        self._colour: Any = self._sensor.add_video_stream(
            self._stream(rs.stream.color, 1, rs.format.rgb8, 3, self._colour_view), True
        )
        to_colour = rs.extrinsics()
        to_colour.rotation = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        to_colour.translation = [-baseline_m, 0.0, 0.0]
        self._depth.register_extrinsics_to(self._colour, to_colour)
        # Ranges and defaults as a D405 reports them: (smallest, largest, default, step).
        for option, smallest, largest, default, step in (
            (rs.option.enable_auto_exposure, 0, 1, 1, 1),
            (rs.option.exposure, 1, 165_000, 33_000, 1),
            (rs.option.gain, 16, 248, 16, 1),
            (rs.option.enable_auto_white_balance, 0, 1, 1, 1),
            (rs.option.white_balance, 2800, 6500, 4600, 10),
            (rs.option.power_line_frequency, 0, 3, 3, 1),
            # From the unit itself on: librealsense tests steps in float32, which 0.001 - 0.000001 fails.
            (rs.option.depth_units, depth_unit_m, 1e-2, depth_unit_m, 1e-6),
        ):
            self._sensor.add_option(option, rs.option_range(smallest, largest, default, step), True)

    def push(
        self,
        number: int,
        rgb: RgbImage,
        z16: Z16Image,
        *,
        counter: int | None = None,
        taken_s: float | None = None,
    ) -> None:
        """Send one pair as frame `number` (from 1), taken at `taken_s` on the camera's clock.

        `taken_s` None puts it where the frame rate does: librealsense's syncer, in a recording above all,
        tears pairs apart whose times do not follow the frame rate. `counter` None sends the number as the
        camera's own frame counter, too. Raises `FrameError` where an array has another shape or dtype than
        the stream.
        """
        rs = self._rs
        depth, colour = self._depth_view, self._colour_view
        if z16.dtype != np.uint16 or z16.shape != (depth.height_px, depth.width_px):
            raise FrameError(
                f"z16 is {z16.dtype}{z16.shape}, must be uint16{(depth.height_px, depth.width_px)}"
            )
        if rgb.dtype != np.uint8 or rgb.shape != (colour.height_px, colour.width_px, 3):
            raise FrameError(
                f"rgb is {rgb.dtype}{rgb.shape}, must be uint8{(colour.height_px, colour.width_px, 3)}"
            )
        # Without `actual_fps` (in thousandths) the syncer never pairs frames that carry metadata.
        self._sensor.set_metadata(rs.frame_metadata_value.actual_fps, self._fps * 1000)
        self._sensor.set_metadata(
            rs.frame_metadata_value.frame_counter, number if counter is None else counter
        )
        taken_ms = number * 1000.0 / self._fps if taken_s is None else taken_s * 1e3
        for profile, pixels, bytes_per_pixel in ((self._depth, z16, 2), (self._colour, rgb, 3)):
            # A new frame object each time: a reused one is freed twice.
            frame = rs.software_video_frame()
            frame.pixels = np.ascontiguousarray(pixels)  # copied; a strided array would come out scrambled
            frame.bpp = bytes_per_pixel
            frame.stride = pixels.shape[1] * bytes_per_pixel
            frame.timestamp = taken_ms
            frame.domain = rs.timestamp_domain.hardware_clock
            frame.frame_number = number
            frame.profile = profile.as_video_stream_profile()
            if profile is self._depth:
                frame.depth_units = self._unit_m
            self._sensor.on_video_frame(frame)

    def _stream(self, kind: Any, uid: int, pixels: Any, bytes_per_pixel: int, view: Intrinsics) -> Any:
        rs = self._rs
        intrinsics = rs.intrinsics()
        intrinsics.width, intrinsics.height = view.width_px, view.height_px
        intrinsics.fx, intrinsics.fy = view.fx_px, view.fy_px
        intrinsics.ppx, intrinsics.ppy = view.cx_px, view.cy_px
        intrinsics.model, intrinsics.coeffs = rs.distortion.brown_conrady, [0.0] * 5
        stream = rs.video_stream()
        stream.type, stream.index, stream.uid = kind, 0, uid
        stream.width, stream.height, stream.fps = view.width_px, view.height_px, self._fps
        stream.bpp, stream.fmt, stream.intrinsics = bytes_per_pixel, pixels, intrinsics
        return stream
