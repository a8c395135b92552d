"""By which small angles parts are turned in training: measured, and only where they differ."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import TrainingError
from edge.framing import View, box_of
from edge.preprocessing import Preprocessing
from edge.simulation.dataset import write_lot
from edge.simulation.rig import RigScene
from tests.small_run import TINY, NoBars
from train.checkpoint import RunInfo, load_model
from train.config import TrainConfig
from train.datasets import DataSet, open_dataset
from train.directions import LARGEST_DEG, jitter_of, spread_deg, spread_of
from train.methods import FusionConfig, MemoryBankConfig, MemoryBankModel, MsdConfig
from train.resolving import measure_jitter
from train.training import train_run
from train.uprightness import look_of, seen_part
from train.views import FeatureCache

TURNS = range(-LARGEST_DEG, LARGEST_DEG + 1)


@pytest.fixture(scope="module")
def plates(tiny_run: Path) -> Preprocessing:
    """What the device is given for the simulated plate, which is turned upright by its axis."""
    preprocessing = load_model(tiny_run)[1].preprocessing
    assert preprocessing.framing.mode == "part"
    return preprocessing


@pytest.fixture(scope="module")
def looks(training_data: DataSet, plates: Preprocessing) -> npt.NDArray[np.float64]:
    """One plate at every whole degree between −30 and 30 from upright, (61, d)."""
    sample = training_data.train[0]
    grey, part, reach_px = seen_part(sample, plates)
    box = box_of(part, upright="axis")
    return np.array(
        [
            look_of(grey, part, View(box.centre_px, box.size_px, box.angle_deg + turn), reach_px)
            for turn in range(-30, 31)
        ]
    )


def turned(looks: npt.NDArray[np.float64], offsets_deg: list[int]) -> npt.NDArray[np.float64]:
    """The looks of parts whose directions are off by so much, at every turn."""
    return np.array([[looks[30 + offset + turn] for turn in TURNS] for offset in offsets_deg])


@settings(max_examples=40)
@given(offsets=st.lists(st.integers(-6, 6), min_size=3, max_size=24))
def test_what_parts_are_off_by_is_found(looks: npt.NDArray[np.float64], offsets: list[int]) -> None:
    low, high = np.percentile(offsets, [16, 84])
    assert spread_of(turned(looks, offsets)) == pytest.approx((high - low) / 2, abs=1.01)


@pytest.mark.parametrize("offsets", [[0] * 18 + [12, -12], [0, 0, 0, 0, 0, 12, 15, 0]])
def test_a_few_parts_that_lie_anyhow_make_no_spread(
    looks: npt.NDArray[np.float64], offsets: list[int]
) -> None:
    assert spread_of(turned(looks, offsets)) == 0


def test_parts_that_all_lie_anyhow_differ_by_as_much_as_is_looked_at() -> None:
    # Their common look is seen at the outermost turn, and half of it at the middle one.
    common, *own = np.eye(2 * LARGEST_DEG + 5)[:4]
    looks = np.zeros((3, 2 * LARGEST_DEG + 1, 2 * LARGEST_DEG + 5))
    looks[:, 0] = common
    looks[:, LARGEST_DEG] = (common + np.array(own)) / math.sqrt(2)
    assert spread_of(looks) == LARGEST_DEG


@given(st.floats(0, 90))
def test_small_angles_stand_for_two_deviations(deviation_deg: float) -> None:
    angles = jitter_of(deviation_deg)
    assert angles[0] == 0
    if deviation_deg < 1:
        assert angles == (0.0,)
    else:
        assert angles == (0.0, max(angles), -max(angles))
        assert max(angles) == pytest.approx(min(LARGEST_DEG, 2 * deviation_deg), abs=0.5)


@pytest.mark.parametrize(("product", "way"), [("plate", "axis"), ("lattice", "square")])
def test_parts_that_are_found_upright_differ_by_nothing(product: str, way: str, tmp_path: Path) -> None:
    write_lot(RigScene(product, 5, defective_share=0.0), tmp_path / "lot", 8)
    samples = open_dataset(tmp_path / "lot", "captures", None, 0.2).train
    framed = {"mode": "part", "window_px": 320}
    foreground = {"part_threshold_m": 0.004, "mask_threshold_m": 0.0035, "closing_px": 9, "opening_px": 7}
    seen: list[int] = []
    upright, anyhow = (
        Preprocessing.model_validate({"framing": {**framed, "upright": by}, "foreground": foreground})
        for by in (way, "off")
    )
    assert spread_deg(samples, upright, seen.append) < 1
    assert sum(seen) == len(samples)
    assert spread_deg(samples, anyhow, seen.append) > 2


def test_nothing_is_measured_where_it_says_nothing(training_data: DataSet, plates: Preprocessing) -> None:
    seen: list[int] = []
    assert spread_deg(training_data.train[:2], plates, seen.append) == 0
    whole = plates.model_copy(update={"framing": plates.framing.model_copy(update={"mode": "whole"})})
    assert spread_deg(training_data.train, whole, seen.append) == 0
    fixed = FusionConfig(members=(MsdConfig(), MemoryBankConfig(jitter_deg=(0.0,))))
    assert measure_jitter(training_data.train, fixed, plates, NoBars()) is None
    assert not seen


def test_open_angles_are_filled_in_and_given_ones_kept() -> None:
    open_bank, given_bank = MemoryBankConfig(), MemoryBankConfig(jitter_deg=(0.0, 3.0))
    assert open_bank.resolved((0.0, 5.0, -5.0)).angles_deg == (
        *(0.0, 5.0, -5.0, 90.0, 95.0, 85.0),
        *(180.0, 185.0, 175.0, 270.0, 275.0, 265.0),
    )
    assert given_bank.resolved((0.0, 5.0)) is given_bank
    members = FusionConfig(members=(MsdConfig(), open_bank, given_bank)).resolved((0.0, 5.0)).members
    assert [member.jitter_deg for member in members] == [(0.0,), (0.0, 5.0), (0.0, 3.0)]
    with pytest.raises(TrainingError, match="jitter_deg is 'auto'"):
        _ = open_bank.angles_deg


def test_a_run_says_by_which_angles_its_parts_were_turned(
    tmp_path: Path, training_data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = {"name": "memory-bank", "backbone": {"blocks": [3]}, "rotations": 1, "coreset_share": 1.0}
    config = TrainConfig.model_validate({**TINY.model_dump(), "method": method})

    def trained(name: str, deviation_deg: float) -> tuple[RunInfo, int]:
        # These plates differ by nothing; what parts that do would give is put in.
        monkeypatch.setattr("train.resolving.spread_deg", lambda *anything: deviation_deg)
        cache = FeatureCache(None)
        train_run(training_data, config, tmp_path / name, cache=cache, progress=NoBars(), note={})
        model, info = load_model(tmp_path / name)
        assert isinstance(model, MemoryBankModel)
        return info, len(model.bank.rows)

    alike, rows_alike = trained("alike", 0.3)
    loose, rows_loose = trained("loose", 2.4)
    assert (alike.provenance["jitter_deg"], loose.provenance["jitter_deg"]) == ("0", "0, 5, -5")
    assert alike.config == loose.config == config
    assert rows_loose == pytest.approx(3 * rows_alike, rel=0.05)
