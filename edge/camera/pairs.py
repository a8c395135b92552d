"""From a frameset of librealsense to colour and depth that lie on each other, out of the driver's memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from edge.camera.depth_integers import Z16Image, depth_m_from_z16, exact_unit
from edge.errors import CameraError, FrameError
from edge.frame import CameraStamp, Frame, Intrinsics, RgbImage

__all__ = ["Pair", "PairReader"]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Colour (H, W, 3) uint8 and depth (H, W) uint16 of one frameset, depth aligned to colour.

    `number` is the depth frame's number; `counter` the camera's own count where it sends one, else None.
    """

    rgb: RgbImage
    z16: Z16Image
    depth_unit_m: float
    number: int
    counter: int | None
    arrived_ns: int
    arrived_utc: datetime
    stamp: CameraStamp

    def frame(self, intrinsics: Intrinsics, seq: int, source: str, part_id: str | None = None) -> Frame:
        return Frame(
            rgb=self.rgb,
            depth_m=depth_m_from_z16(self.z16, self.depth_unit_m),
            depth_unit_m=self.depth_unit_m,
            intrinsics=intrinsics,
            captured_ns=self.arrived_ns,
            captured_utc=self.arrived_utc,
            seq=seq,
            source=source,
            part_id=part_id,
            stamp=self.stamp,
        )


class PairReader:
    """Reads pairs from the framesets of one running pipeline profile.

    Depth is aligned to colour only where the two see through different optics: `rs.align` of a stream onto
    its own view point is not the identity (measured with 2.59: it rounds pixel coordinates down, which
    moves 8 % of the pixels by one, and leaves rows empty).
    `intrinsics` are colour's. Raises `CameraError` where a stream is missing or in another format.
    """

    def __init__(self, rs: Any, profile: Any, source: str) -> None:
        self._rs = rs
        depth = _stream(rs, profile, rs.stream.depth, (rs.format.z16,), source)
        colour = _stream(rs, profile, rs.stream.color, (rs.format.rgb8, rs.format.bgr8), source)
        self._blue_first = colour.format() == rs.format.bgr8
        self._align = None if _one_view(depth, colour) else rs.align(rs.stream.color)
        intrinsics = colour.get_intrinsics()
        self.distortion: tuple[float, ...] = tuple(intrinsics.coeffs)
        try:
            self.intrinsics = Intrinsics(
                width_px=intrinsics.width,
                height_px=intrinsics.height,
                fx_px=intrinsics.fx,
                fy_px=intrinsics.fy,
                cx_px=intrinsics.ppx,
                cy_px=intrinsics.ppy,
            )
        except FrameError as error:
            raise CameraError(f"{source}: {error}") from error
        self.incomplete = 0
        self.without_unit = 0

    @property
    def aligned_by(self) -> str:
        return "one view point, nothing to align" if self._align is None else "rs.align to colour"

    def pair(self, frames: Any) -> Pair | None:
        """The pair, copied; None where the frameset lacks an image or a depth unit (a torn one: skip it)."""
        arrived_ns, arrived_utc = time.monotonic_ns(), datetime.now(timezone.utc)
        depth, colour = frames.get_depth_frame(), frames.get_color_frame()
        if not depth or not colour:
            self.incomplete += 1
            return None
        unit_m = exact_unit(depth.get_units())
        if unit_m == 0:
            self.without_unit += 1
            return None
        number = depth.get_frame_number()
        counter_key = self._rs.frame_metadata_value.frame_counter
        counter = (
            depth.get_frame_metadata(counter_key) if depth.supports_frame_metadata(counter_key) else None
        )
        stamp = self._stamp(depth, colour)
        if self._align is not None:
            frames = self._align.process(frames)
            depth, colour = frames.get_depth_frame(), frames.get_color_frame()
        # Copies: an array that looks into a librealsense frame pins it, and the driver has few of them.
        rgb = np.array(colour.get_data(), dtype=np.uint8)  # (H, W, 3)
        return Pair(
            rgb=np.ascontiguousarray(rgb[..., ::-1]) if self._blue_first else rgb,
            z16=np.array(depth.get_data(), dtype=np.uint16),  # (H, W)
            depth_unit_m=unit_m,
            number=number,
            counter=counter,
            arrived_ns=arrived_ns,
            arrived_utc=arrived_utc,
            stamp=stamp,
        )

    def _stamp(self, depth: Any, colour: Any) -> CameraStamp:
        """Of both images: where one is late, librealsense repeats the last one beside the new other one."""
        return CameraStamp(
            number=depth.get_frame_number(),
            colour_number=colour.get_frame_number(),
            time_s=depth.get_timestamp() / 1e3,
            colour_time_s=colour.get_timestamp() / 1e3,
            wall_clock=depth.get_frame_timestamp_domain() != self._rs.timestamp_domain.hardware_clock,
        )


def _stream(rs: Any, profile: Any, stream: Any, formats: tuple[Any, ...], source: str) -> Any:
    for found in profile.get_streams():
        if found.stream_type() == stream:
            if found.format() in formats:
                return found.as_video_stream_profile()
            raise CameraError(
                f"{source}: the {stream.name} stream comes as {found.format().name}; "
                f"only {' or '.join(f.name for f in formats)} is understood"
            )
    raise CameraError(f"{source}: has no {stream.name} stream; colour and depth are both needed")


def _one_view(depth: Any, colour: Any) -> bool:
    """Whether depth and colour share one pinhole: equal intrinsics, no rotation, no translation."""
    a, b = depth.get_intrinsics(), colour.get_intrinsics()
    to_colour = depth.get_extrinsics_to(colour)
    return (
        (a.width, a.height, a.fx, a.fy, a.ppx, a.ppy) == (b.width, b.height, b.fx, b.fy, b.ppx, b.ppy)
        and a.model == b.model
        and list(a.coeffs) == list(b.coeffs)
        and list(to_colour.rotation) == [1, 0, 0, 0, 1, 0, 0, 0, 1]
        and list(to_colour.translation) == [0, 0, 0]
    )
