"""Parts under a simulated camera, each frame with noise of its own, and a source that records them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from edge.camera.config import SimulatedCamera
from edge.camera.simulated import SimulatedSource
from edge.captures import CaptureInfo, IntrinsicsInfo
from edge.capturing.measuring import Measured, foreground_for, measure
from edge.frame import Frame
from edge.simulation.dataset import frame_from_shot
from edge.simulation.noise import DepthNoise, quantise_depth
from edge.simulation.rig import RigScene
from edge.simulation.scene import Shot
from edge.simulation.view import Pose

__all__ = ["FOREGROUND", "Bench", "Film", "info_of_frame", "record"]

FOREGROUND = foreground_for(0.004)
_GREY_SIGMA = 1.5


class Bench(RigScene):
    """A rig on which all parts can be laid into the same place, as a fixture would."""

    fixture: Pose | None = None

    def __init__(self, product: str = "plate", *, width_px: int = 640, height_px: int = 480) -> None:
        super().__init__(
            product,
            3,
            defective_share=0.0,
            depth_noise=None,
            colour_noise=None,
            width_px=width_px,
            height_px=height_px,
        )
        self._frames = 0

    def _pose(self, index: int) -> Pose:
        return self.fixture or super()._pose(index)

    def part(self, index: int, *, blur_px: float = 0.0, gain: float = 1.0) -> Shot:
        """Part `index` without noise, out of focus and in other light if wanted."""
        shot = self.shot(index)
        assert shot is not None
        return self._changed(shot, blur_px, gain)

    def empty(self) -> Shot:
        return self.tray(0)

    @staticmethod
    def _changed(shot: Shot, blur_px: float, gain: float) -> Shot:
        rgb = shot.rgb.astype(np.float32) * gain
        if blur_px:
            rgb = cv2.GaussianBlur(rgb, (0, 0), blur_px)
        return replace(shot, rgb=np.clip(np.rint(rgb), 0, 255).astype(np.uint8))

    def noisy(self, shot: Shot) -> Shot:
        """As a camera sees it, once more."""
        self._frames += 1
        rng = np.random.default_rng(self._frames)
        depth_m = DepthNoise().apply(shot.depth_m, shot.rgb, rng)
        rgb = shot.rgb.astype(np.float32) + rng.normal(0, _GREY_SIGMA, shot.rgb.shape)
        return replace(
            shot,
            rgb=np.clip(np.rint(rgb), 0, 255).astype(np.uint8),
            depth_m=quantise_depth(depth_m, self.depth_unit_m),
        )

    def frame(self, shot: Shot) -> Frame:
        return frame_from_shot(self, self._frames, self.noisy(shot))

    def measured(self, shot: Shot) -> Measured:
        return measure(self.frame(shot), FOREGROUND)


class Film:
    """A scene of given shots, one after the other."""

    def __init__(self, bench: Bench, shots: list[Shot]) -> None:
        self.intrinsics, self.depth_unit_m = bench.intrinsics, bench.depth_unit_m
        self._shots = shots

    def shot(self, index: int) -> Shot | None:
        return self._shots[index] if index < len(self._shots) else None


def record(path: Path, bench: Bench, shots: list[Shot]) -> None:
    """The shots, each seen with noise of its own, as a recording of librealsense."""
    config = SimulatedCamera(product="film", record_to=path)
    with SimulatedSource(config, Film(bench, [bench.noisy(shot) for shot in shots])) as source:
        assert len(list(source)) == len(shots)


def info_of_frame(frame: Frame, **more: object) -> CaptureInfo:
    return CaptureInfo(
        depth_unit_m=frame.depth_unit_m, intrinsics=IntrinsicsInfo.of(frame.intrinsics), **more
    )
