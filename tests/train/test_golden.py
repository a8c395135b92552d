"""What a run keeps to verify its bundle with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import TrainingError
from edge.quantile import quantile_rank
from edge.scoring import image_score, smooth_map
from edge.simulation.defects import DEFECTS
from train.checkpoint import load_log, load_model
from train.golden import (
    GOLDEN_FILE,
    MOST_NEAR_PARTS,
    NEAR_PARTS,
    NEAR_SPREADS,
    SEVERITIES,
    SPREAD_PARTS,
    about_the_threshold,
    load_golden,
    packed_golden,
    score_spread,
)
from train.predictor import cells_by_torch


def test_each_sample_is_whole(tiny_run: Path) -> None:
    for sample in load_golden(tiny_run):
        assert {name: (a.dtype.name, a.shape) for name, a in sample.tensors.items()} == {
            "image": ("uint8", (1, 96, 96, 3)),
            "normals": ("uint8", (1, 96, 96, 3)),
            "z": ("float32", (1, 16, 12, 12)),
            "mask": ("float32", (1, 1, 12, 12)),
        }
        assert sample.foreground.shape == (48, 48)
        assert sample.foreground.any()


def test_each_kind_of_defect_is_there_faint_and_plain(tiny_run: Path) -> None:
    kinds = [sample.name.rpartition("/")[2] for sample in load_golden(tiny_run) if sample.defective]
    assert set(kinds) <= {f"{kind}-{severity:g}" for kind in DEFECTS for severity in SEVERITIES}
    assert len(kinds) == len(set(kinds)) >= len(DEFECTS)  # one that does not show is left out


def test_a_sample_has_the_score_that_its_part_had(tiny_run: Path) -> None:
    model, info = load_model(tiny_run)
    scores = load_log(tiny_run).validation_scores
    good = [sample for sample in load_golden(tiny_run) if not sample.defective]
    assert len(good) == len(scores) == 3
    for sample in good:
        smooth = smooth_map(cells_by_torch(model, sample.tensors), sample.foreground, info.config.score)
        assert image_score(smooth, sample.foreground, info.config.score) == pytest.approx(scores[sample.name])


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 500))
def test_good_parts_about_the_threshold_are_kept(count: int, per_mille: int) -> None:
    scores = {f"part-{rank}": float(rank) for rank in range(1, count + 1)}
    at = quantile_rank(count, per_mille / 1000)
    kept = [round(scores[name]) for name in about_the_threshold(scores, per_mille / 1000)]
    assert kept[0] == at
    assert len(kept) == len(set(kept)) <= MOST_NEAR_PARTS + SPREAD_PARTS
    assert {1, count} <= set(kept)  # the lowest and the highest
    near = sorted(range(1, count + 1), key=lambda rank: (abs(rank - at), rank))[:NEAR_PARTS]
    assert set(near) <= set(kept)
    reach = NEAR_SPREADS * score_spread(scores)
    within = [rank for rank in range(1, count + 1) if abs(rank - at) <= reach]
    assert len(within) > MOST_NEAR_PARTS or set(within) <= set(kept)


def test_the_same_samples_are_the_same_bytes(tiny_run: Path) -> None:
    assert packed_golden(load_golden(tiny_run)) == (tiny_run / GOLDEN_FILE).read_bytes()


def test_samples_that_are_gone_or_damaged_are_named(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    whole = (run / GOLDEN_FILE).read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:5000] + bytes(64) + whole[5064:]):
        (run / GOLDEN_FILE).write_bytes(damaged)
        with pytest.raises(TrainingError, match=GOLDEN_FILE):
            load_golden(run)
    (run / GOLDEN_FILE).unlink()
    with pytest.raises(TrainingError, match="is missing"):
        load_golden(run)


def test_samples_without_their_foreground_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    with np.load(tiny_run / GOLDEN_FILE) as arrays:
        rest = {key: arrays[key] for key in arrays.files if not key.endswith("/foreground")}
    np.savez(tmp_path / GOLDEN_FILE, **rest)
    with pytest.raises(TrainingError, match="foreground"):
        load_golden(tmp_path)
