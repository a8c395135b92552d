"""Simulated defects in real frames: where they are, what they leave alone, and what is chosen by them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edge.camera.sample import Sample
from edge.depth import fit_background_plane, height_over_plane
from edge.errors import ConfigError, DatasetError, TrainingError
from edge.frame import Frame
from edge.framing import FramingConfig
from edge.preprocessing import ForegroundConfig, Preprocessing
from edge.scoring import ScoreSpec
from edge.simulation.defects import DEFECTS
from edge.simulation.rig import RigScene
from tests.small_run import TINY, NoBars
from train.checkpoint import load_log, load_model
from train.config import TrainConfig
from train.datasets import DataSet
from train.early_stopping import EarlyStopping
from train.evaluation import evaluate, predictor_of_model
from train.loop.workers import Workers
from train.probe import ProbeConfig, SpoiledSample, probe_of
from train.probe_judge import figure_of, judged_views
from train.resolving import resolve_plan
from train.spoiling import Spoiled, spoil
from train.training import train_run
from train.views import FeatureCache


@pytest.fixture(scope="module")
def preprocessing(training_data: DataSet) -> Preprocessing:
    return resolve_plan(training_data.train, TINY.preprocessing, NoBars())


@pytest.fixture(scope="module")
def good(training_data: DataSet) -> Sample:
    return training_data.validation[0]


def spoiled(good: Sample, preprocessing: Preprocessing, kind: str, seed: int = 0) -> Spoiled:
    return spoil(good.frame(), preprocessing, kind, np.random.default_rng(seed), severity=2.0)


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defect_changes_its_place_and_little_around_it(
    good: Sample, preprocessing: Preprocessing, kind: str
) -> None:
    before, (after, mask) = good.frame(), astuple(spoiled(good, preprocessing, kind))
    assert mask.dtype == np.bool_
    assert mask.shape == before.depth_m.shape
    assert 8 <= mask.sum() < 0.05 * mask.size
    moved = after.depth_m != before.depth_m
    painted = (after.rgb != before.rgb).any(axis=2)
    assert (moved | painted)[mask].mean() > 0.9
    assert np.array_equal(after.depth_m == 0, before.depth_m == 0), "missing depth stays missing"
    # Beyond the reach of a shadow, every bit is kept.
    rows, columns = np.nonzero(mask)
    far = np.ones_like(mask)
    far[max(0, rows.min() - 20) : rows.max() + 21, max(0, columns.min() - 20) : columns.max() + 21] = False
    assert not (moved | painted)[far].any()


def astuple(found: Spoiled) -> tuple[object, ...]:
    return found.frame, found.mask


@pytest.mark.parametrize("kind", ["dent", "foreign_same"])
def test_what_has_the_parts_colour_has_it(good: Sample, preprocessing: Preprocessing, kind: str) -> None:
    """Light and shade change the colour of a red part, and no channel is cut off: that would tint it."""
    frame = good.frame()
    red = np.clip(frame.rgb.astype(np.float32) * [1.6, 0.8, 0.3], 0, 235).astype(np.uint8)
    frame = replace(frame, rgb=red)
    found = spoil(frame, preprocessing, kind, np.random.default_rng(0), severity=2.0)
    before, after = (f.rgb[found.mask].astype(np.float64) ** 2 for f in (frame, found.frame))  # linear
    ratio = after.mean(axis=0) / before.mean(axis=0)
    assert ratio[1] == pytest.approx(ratio[0], rel=0.15), "blue is dark, and a highlight is white"


@pytest.mark.parametrize(
    ("kind", "low_mm", "high_mm"), [("dent", -9, -1), ("perforation", -9, -1), ("foreign_same", 1, 15)]
)
def test_depth_moves_as_far_as_the_surface(kind: str, low_mm: float, high_mm: float) -> None:
    scene = RigScene("plate", 3, defective_share=0.0, depth_noise=None, colour_noise=None)
    shot = scene.shot(0)
    frame = Frame(
        rgb=shot.rgb, depth_m=shot.depth_m, depth_unit_m=1e-4, intrinsics=scene.intrinsics, captured_ns=0,
        captured_utc=datetime(2026, 1, 1, tzinfo=timezone.utc), seq=0, source="test",
    )  # fmt: skip
    config = Preprocessing(
        framing=FramingConfig(mode="whole"),
        foreground=ForegroundConfig(part_threshold_m=0.002, mask_threshold_m=0.002),
    )
    found = spoil(frame, config, kind, np.random.default_rng(1), severity=1.5)
    plane = fit_background_plane(frame.depth_m, frame.intrinsics)
    before, after = (height_over_plane(f.depth_m, plane, f.intrinsics) for f in (frame, found.frame))
    rise_mm = 1e3 * (after - before)[found.mask & (frame.depth_m > 0)]
    strongest = rise_mm[np.abs(rise_mm).argmax()]
    assert low_mm < strongest < high_mm
    assert np.sign(np.median(rise_mm)) == np.sign(low_mm)
    if kind == "perforation":
        assert np.median(after[found.mask]) == pytest.approx(0, abs=0.4e-3), "one looks through on the tray"


def test_the_probe_is_drawn_from_its_seed(training_data: DataSet, preprocessing: Preprocessing) -> None:
    config = ProbeConfig(parts=2, defects_per_part=2)
    probe, again, other = (
        probe_of(training_data.validation, preprocessing, config, seed) for seed in (1, 1, 2)
    )
    assert [s.defect for s in probe] == [None, None, "dent", "crack", "scratch", "foreign_same"]
    assert len({s.part_id for s in probe}) == 6
    for one, two, three in zip(probe[2:], again[2:], other[2:], strict=True):
        assert np.array_equal(one.frame().rgb, two.frame().rgb)
        assert np.array_equal(one.mask(), two.mask())
        assert not np.array_equal(one.mask(), three.mask())


def test_an_unknown_kind_is_refused(training_data: DataSet, preprocessing: Preprocessing) -> None:
    with pytest.raises(ConfigError, match=r"probe.kinds \['rust'\] are unknown; choose from dent, "):
        probe_of(training_data.validation, preprocessing, ProbeConfig(kinds=("rust",)), 0)


def test_a_part_on_which_no_defect_shows_is_named(good: Sample, preprocessing: Preprocessing) -> None:
    with pytest.raises(TrainingError, match=r"no dent of severity 1e-06 shows on 11 pixels .* raise"):
        spoil(good.frame(), preprocessing, "dent", np.random.default_rng(0), severity=1e-6)
    values = {name: getattr(good, name) for name in Sample.__dataclass_fields__}
    values |= {"defect": "dent"}
    sample = SpoiledSample(**values, preprocessing=preprocessing, severity=1e-6)
    with pytest.raises(DatasetError, match=good.depth_path.name):
        sample.frame()


def test_a_trained_model_tells_the_probes_defects(tiny_run: Path, training_data: DataSet) -> None:
    model, info = load_model(tiny_run)
    config = ProbeConfig(parts=3, defects_per_part=2, kinds=("foreign_other",), severity=2.0)
    probe = probe_of(training_data.validation, info.preprocessing, config, 0)
    result = evaluate(predictor_of_model(model, info.config.score), probe, lambda n: None)
    assert result.defects.count("foreign_other") == 6
    assert result.figures.p_auroc > 0.95


def test_the_figure_is_one_for_maps_of_the_defects_and_low_for_their_opposite(
    training_data: DataSet, preprocessing: Preprocessing
) -> None:
    probe = probe_of(training_data.validation, preprocessing, ProbeConfig(parts=2, severity=2.0), 0)
    views = judged_views(probe, preprocessing, frozenset({"mask"}))
    score = ScoreSpec(smoothing_px=0.0)
    maps = [view.defect.reshape(12, 4, 12, 4).max(axis=(1, 3)).astype(np.float32) for view in views]
    right = figure_of(views, maps, score)
    wrong = figure_of(views, [1 - cells for cells in maps], score)
    assert right > 0.85
    assert wrong < 0.3


class Line(nn.Linear):
    """A network with a number, by which it is judged."""

    def __init__(self) -> None:
        super().__init__(1, 1)


def test_the_best_is_kept_and_patience_ends_the_descent() -> None:
    figures = iter([0.5, 0.7, 0.6, 0.7, 0.9])
    watch = EarlyStopping(10, 2, lambda network: next(figures), Workers())
    network = Line()
    ended = []
    for step in range(1, 51):
        with torch.no_grad():
            network.weight.fill_(step)
        ended.append(watch.after(step, network))
        if ended[-1]:
            break
    assert ended.index(True) == 39, "two judgements after the best one of step 20; an equal one is no better"
    assert watch.figures == [0.5, 0.7, 0.6, 0.7]
    tensors, notes = watch.save()
    other = EarlyStopping(10, 2, lambda network: 0.0, Workers())
    other.restore(tensors, notes)
    other.finish(network)
    assert float(network.weight.detach()) == 20
    assert other.figures == watch.figures


def watched(every_steps: int | None, **rest: object) -> TrainConfig:
    values = TINY.model_dump()
    probe = {"parts": 2, "defects_per_part": 1, "severity": 2.0}
    values["method"]["early_stopping"] = {"every_steps": every_steps, "probe": probe, **rest}
    return TrainConfig.model_validate(values)


def test_a_run_with_early_stopping_keeps_the_best_student(tmp_path: Path, training_data: DataSet) -> None:
    cache = FeatureCache(tmp_path / "cache")
    train_run(
        training_data, watched(4, patience=1), tmp_path / "run", cache=cache, progress=NoBars(), note={}
    )
    curves = load_log(tmp_path / "run").curves
    figures, losses = curves["student on the probe"], curves["student"]
    assert 1 <= len(figures) <= 5
    assert all(0 <= figure <= 1 for figure in figures)
    assert len(losses) == min(20, 4 * len(figures))
    best = int(np.argmax(figures))
    # The same student as of a run that ends at that step.
    values = TINY.model_dump()
    values["method"]["student_optimiser"]["steps"] = 4 * (best + 1)
    train_run(
        training_data,
        TrainConfig.model_validate(values),
        tmp_path / "short",
        cache=cache,
        progress=NoBars(),
        note={},
    )
    model, short = (load_model(tmp_path / name)[0].state_dict() for name in ("run", "short"))
    assert all(torch.equal(model[name], short[name]) for name in short)


def test_replaced_samples_stay_samples(training_data: DataSet, preprocessing: Preprocessing) -> None:
    *_, last = probe_of(training_data.validation, preprocessing, ProbeConfig(parts=1), 0)
    assert isinstance(last, SpoiledSample)
    assert np.array_equal(replace(last, split="test").mask(), last.mask())
