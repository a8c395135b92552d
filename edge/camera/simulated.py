"""A simulated rig: the shots of a scene, pushed through a software D405 into the live source."""

from __future__ import annotations

import time
from dataclasses import replace

from edge.camera.config import LiveCamera, SimulatedCamera
from edge.camera.depth_integers import z16_from_depth_m
from edge.camera.realsense import RealSenseSource
from edge.camera.software_device import SoftwareD405
from edge.camera.source import FrameSource, SourceHealth
from edge.camera.truth import TruthLog
from edge.errors import CameraError, CameraStalled
from edge.frame import Frame
from edge.simulation.scene import Scene

__all__ = ["SimulatedSource"]


class SimulatedSource(FrameSource):
    """One frame per shot of a scene, none lost and none twice, however slowly it is read.

    Frame number n of the software device is shot n - 1: that is how a frame finds its part again on the
    other side of librealsense. `read` returns None after the scene's last shot. With `interval_s` a part
    comes no sooner than that after the one before.
    """

    def __init__(self, config: SimulatedCamera, scene: Scene) -> None:
        self._config = config
        self._scene = scene
        self._next = 0
        self._part_id = ""
        self._due_s = 0.0
        self._live: RealSenseSource | None = None
        self._camera: SoftwareD405 | None = None
        self._truth: TruthLog | None = None
        self._health = SourceHealth(frames=0)

    @property
    def name(self) -> str:
        return f"simulated-{self._config.product}-{self._config.seed}"

    def open(self) -> None:
        if self._live is not None:
            raise CameraError(f"{self.name}: is open already")
        view = self._scene.intrinsics
        camera = SoftwareD405(view, self._scene.depth_unit_m, serial=self.name)
        live = RealSenseSource(
            LiveCamera(width_px=view.width_px, height_px=view.height_px, record_to=self._config.record_to),
            device=camera.device,
            part_of=self._part_of,
        )
        live.open()
        try:
            truth = TruthLog(self._config.truth_to) if self._config.truth_to else None
        except CameraError:
            live.close()
            raise
        self._camera, self._live, self._truth = camera, live, truth
        self._next = 0
        self._due_s = time.monotonic()

    def read(self, timeout_s: float = 5.0) -> Frame | None:
        if self._live is None or self._camera is None:
            raise CameraError(f"{self.name}: is not open")
        shot = self._scene.shot(self._next)
        if shot is None:
            return None
        wait_s = self._due_s - time.monotonic()
        time.sleep(min(max(wait_s, 0.0), timeout_s))
        if wait_s > timeout_s:
            raise CameraStalled(f"{self.name}: the next part comes in {wait_s - timeout_s:.1f} s")
        self._due_s = max(self._due_s, time.monotonic() - self._config.interval_s) + self._config.interval_s
        z16 = z16_from_depth_m(shot.depth_m, self._scene.depth_unit_m)
        if self._truth is not None:
            self._truth.write(self._next, shot)
        self._part_id = shot.part_id
        self._camera.push(self._next + 1, shot.rgb, z16)
        self._next += 1
        frame = self._live.read(timeout_s)
        self._health = self._live.health()
        return None if frame is None else _on_time(frame)

    def _part_of(self, number: int) -> str:
        if number != self._next:
            raise CameraError(
                f"{self.name}: shot {self._next - 1} was pushed and shot {number - 1} came back; "
                "librealsense lost a frame, its part can't be named"
            )
        return self._part_id

    def health(self) -> SourceHealth:
        return self._health

    def close(self) -> None:
        live, self._live, self._camera = self._live, None, None
        truth, self._truth = self._truth, None
        if truth is not None:
            truth.close()
        if live is not None:
            live.close()


def _on_time(frame: Frame) -> Frame:
    """The software device's clock counts frames; who judges ages by it must find that of the machine."""
    if frame.stamp is None:
        return frame
    now_s = frame.captured_ns / 1e9
    return replace(frame, stamp=replace(frame.stamp, time_s=now_s, colour_time_s=now_s))
