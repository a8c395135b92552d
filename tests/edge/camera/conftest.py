"""What the camera tests share: a scene of noise, a recording of it, a folder of captures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.camera.config import SimulatedCamera
from edge.camera.depth_integers import depth_m_from_z16
from edge.camera.simulated import SimulatedSource
from edge.frame import Frame, Intrinsics
from edge.simulation.scene import Shot


class NoiseScene:
    """Every pixel drawn at random, so that no two frames, rows or channels can be mistaken for each other."""

    depth_unit_m = 0.0001

    def __init__(self, parts: int, width_px: int = 64, height_px: int = 48) -> None:
        self.parts = parts
        self.intrinsics = Intrinsics(width_px, height_px, 61.25, 60.5, 32.75, 23.5)

    def shot(self, index: int) -> Shot | None:
        if index >= self.parts:
            return None
        rng = np.random.default_rng(index)
        shape = (self.intrinsics.height_px, self.intrinsics.width_px)
        z16 = rng.integers(1000, 5000, shape).astype(np.uint16)
        z16[rng.random(shape) < 0.1] = 0
        return Shot(
            rgb=rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
            depth_m=depth_m_from_z16(z16, self.depth_unit_m),
            truth_mask=rng.random(shape) < 0.2,
            part_id=f"part-{index:03d}",
            defect="dent" if index % 2 else None,
        )


def record(path: Path, parts: int) -> list[Frame]:
    """Record a scene of noise to `path`; the frames as they were delivered live."""
    config = SimulatedCamera(product="noise", record_to=path)
    with SimulatedSource(config, NoiseScene(parts)) as source:
        return list(source)


@pytest.fixture
def noise_scene() -> type[NoiseScene]:
    return NoiseScene


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Frame]]:
    """A `.db3` of six frames with its sidecar, and the live frames; copy it before changing it."""
    path = tmp_path_factory.mktemp("recording") / "noise.db3"
    return path, record(path, 6)
