"""Frames of a simulated rig, and parts as the inspector prepares them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from edge.bundle import load_bundle
from edge.camera.config import SimulatedCamera
from edge.camera.simulated import SimulatedSource
from edge.demo.rig import packaged_bundle
from edge.frame import Frame
from edge.inspector import Inspector, PreparedPart
from edge.scene.tray import Tray, learn_tray
from edge.simulation import Appearance, RigScene
from edge.simulation.noise import DepthNoise
from edge.testing import FakeRunner

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
AS_LEARNT = Appearance(lean_deg=(0.5, -0.5))
NOISE = DepthNoise()


def simulated_frames(
    count: int, appearance: Appearance = AS_LEARNT, noise: DepthNoise | None = NOISE, *, empty: bool
) -> Iterator[Frame]:
    """Of a tray, or of good plates on it, through the real librealsense pipeline."""
    scene = RigScene(
        "plate",
        7,
        count,
        defective_share=0.0,
        empty_share=float(empty),
        appearance=appearance,
        depth_noise=noise,
    )
    with SimulatedSource(SimulatedCamera(product="plate", seed=7, parts=count), scene) as source:
        yield from source


def simulated_tray() -> Tray:
    return learn_tray(list(simulated_frames(5, empty=True)), now=NOW)


class Preparing:
    """Prepares frames as a daemon with the demo's bundle does; nothing is run."""

    def __init__(self) -> None:
        bundle = load_bundle(packaged_bundle())
        self._inspector = Inspector(bundle, FakeRunner(bundle))

    def __call__(self, frame: Frame) -> PreparedPart:
        return self._inspector.prepare(frame)
