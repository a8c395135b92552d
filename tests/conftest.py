"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

import edge  # noqa: F401  # before a test loads onnxruntime, which looks once for what it may send

if TYPE_CHECKING:
    from train.config import TrainConfig
    from train.datasets import DataSet

SAMPLE_VARIABLE = "EDGE_INSPECT_SAMPLE"


# A machine that is busy with something else is slow, and that is no fault of what is tested.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


def pytest_configure() -> None:
    """Let children hear of Ctrl-C: a shell that started the tests in its background has it ignored, and so
    would they.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _arithmetic_as_it_was() -> Iterator[None]:
    """A command run in this process leaves subnormal numbers flushed, and may leave torch other threads.

    The next test must not see that: with another number of threads sums have other last bits.
    """
    before = sys.modules.get("torch")
    threads = None if before is None else before.get_num_threads()
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_flush_denormal(False)
        if threads is not None:
            torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def sample_category() -> Path:
    """A category of MVTec 3D-AD (its licence forbids to ship it): cable_gland, or a part of it."""
    named = os.environ.get(SAMPLE_VARIABLE)
    here = Path(__file__).resolve().parents[2] / "shared" / "data" / "mvtec3d_sample" / "cable_gland"
    category = Path(named) if named else here
    if not (category / "calibration").is_dir():
        pytest.skip(f"no sample of MVTec 3D-AD; set {SAMPLE_VARIABLE} to a category's folder")
    return category


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captures of the simulated plate: `train` (9 good parts) and `test` (8, good and bad, easy to see)."""
    from edge.simulation.dataset import write_lot
    from edge.simulation.rig import RigScene

    folder = tmp_path_factory.mktemp("captures") / "plate"
    good = RigScene("plate", 11, defective_share=0.0, width_px=320, height_px=240)
    mixed = RigScene(
        "plate", 12, defective_share=0.5, defects=["foreign_other"], severity=2.0, width_px=320, height_px=240
    )
    write_lot(good, folder / "train", 9)
    write_lot(mixed, folder / "test", 8)
    return folder


@pytest.fixture(scope="session")
def tiny_config() -> TrainConfig:
    """See `tests.small_run`."""
    from tests.small_run import TINY

    return TINY


@pytest.fixture(scope="session")
def training_data(simulated: Path) -> DataSet:
    """Six good parts to train on, three held out."""
    from train.datasets import open_dataset

    return open_dataset(simulated / "train", "captures", None, 0.34)


@pytest.fixture(scope="session")
def tiny_run(
    tmp_path_factory: pytest.TempPathFactory, training_data: DataSet, tiny_config: TrainConfig
) -> Path:
    """A finished run of the tiny configuration."""
    from tests.small_run import NoBars
    from train.training import train_run
    from train.views import FeatureCache

    out = tmp_path_factory.mktemp("runs") / "plate"
    cache = FeatureCache(None)
    train_run(training_data, tiny_config, out, cache=cache, progress=NoBars(), note={"train_seed": 11})
    return out


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> Path:
    """A bundle of the tiny run."""
    from export.bundle import export_bundle
    from tests.small_run import NoBars

    out = tmp_path_factory.mktemp("bundles") / "plate"
    export_bundle(tiny_run, out, progress=NoBars())
    return out
