"""What the tests of the whole line share: parts on disk, a bundle that judges them, a broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.broker import LocalBroker
from edge.simulation.dataset import write_lot
from edge.simulation.rig import RigScene
from tests.line.category import write_category
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose model was not learned; its threshold parts the simulated plates."""
    return make_tiny_bundle(tmp_path_factory.mktemp("line-bundle"), threshold=1.45)


@pytest.fixture(scope="session")
def category(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small category in the layout of MVTec 3D-AD; copy it before changing it."""
    return write_category(tmp_path_factory.mktemp("line-mvtec3d") / "plate")


@pytest.fixture(scope="session")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captures of the simulated plate: `train` (9 good parts), `test` (8, half of them bad)."""
    folder = tmp_path_factory.mktemp("line-captures") / "plate"
    small = {"width_px": 320, "height_px": 240}
    write_lot(RigScene("plate", 31, defective_share=0.0, **small), folder / "train", 9)
    mixed = RigScene("plate", 32, defective_share=0.5, defects=["foreign_other"], severity=2.0, **small)
    write_lot(mixed, folder / "test", 8)
    return folder


@pytest.fixture
def broker() -> Iterator[LocalBroker]:
    with LocalBroker("mosquitto") as running:
        yield running
