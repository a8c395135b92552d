"""Dividing the map by how far good parts stray at each cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from edge.bundle import load_bundle
from edge.errors import TrainingError
from edge.runtime import runner_for
from export.bundle import export_bundle
from tests.small_run import TINY, NoBars
from train.cell_scale import CellScale, OnCells, scale_of
from train.checkpoint import load_log, load_model
from train.config import TrainConfig
from train.datasets import DataSet, open_dataset
from train.distillation import Distance
from train.evaluation import evaluate, predictor_of_bundle, predictor_of_run
from train.training import train_run
from train.views import FeatureCache, prepare

assert isinstance(TINY.method, BaseModel)
MSD = {**TINY.method.model_dump(), "normalise_cells": True}
BANK = {"name": "memory-bank", "backbone": {"blocks": [3]}, "normalise_cells": True}
METHODS = {"msd": MSD, "memory-bank": BANK, "fusion": {"name": "fusion", "members": [MSD, BANK]}}


def by_hand(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The formula, cell by cell: maps, masks (P, m, m)."""
    cells = maps.shape[1]
    mean = np.zeros((cells, cells))
    covered = (masks > 0).any(axis=0)
    for row, column in np.argwhere(covered):
        total = weight = 0.0
        for r in range(max(0, row - 4), min(cells, row + 5)):
            for c in range(max(0, column - 4), min(cells, column + 5)):
                near = np.exp(-0.5 * ((r - row) ** 2 + (c - column) ** 2))
                total += near * maps[:, r, c].sum()
                weight += near * masks[:, r, c].sum()
        mean[row, column] = total / weight
    overall = mean[covered].mean()
    return np.where(covered, np.maximum(mean, 0.5 * overall) / overall, 1.0)


@pytest.mark.parametrize("seed", range(4))
def test_the_scale_is_the_formula_s(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = (rng.random((5, 12, 12)) > 0.6).astype(np.float64)
    masks[:, :, :3] = 0  # no part ever was there
    maps = masks * rng.gamma(0.3, 2.0, (5, 12, 12))
    scale = scale_of(maps.sum(axis=0), masks.sum(axis=0))
    assert np.allclose(scale, by_hand(maps, masks), rtol=1e-9)
    assert (scale[:, :3] == 1).all()
    assert scale.min() == pytest.approx(0.5)


def test_good_parts_alike_everywhere_leave_the_map_as_it_is() -> None:
    masks = np.zeros((8, 8))
    masks[2:6, 1:7] = 3.0
    assert np.allclose(scale_of(0.7 * masks, masks), 1.0)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_maps_that_say_nothing_are_refused(value: float) -> None:
    with pytest.raises(TrainingError, match=r"normalise_cells to false"):
        scale_of(np.full((4, 4), value), np.ones((4, 4)))
    with pytest.raises(TrainingError, match=r"are 0 on average"):
        scale_of(np.zeros((4, 4)), np.zeros((4, 4)))


def test_each_cell_is_divided_by_its_own() -> None:
    scale = CellScale(2)
    teacher, student, mask = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2), torch.ones(3, 1, 2, 2)
    plain = Distance()(teacher, student, mask)
    module = OnCells(Distance(), scale)
    assert torch.equal(module(teacher, student, mask), plain)
    scale.values.copy_(torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]]))
    assert torch.equal(module(teacher, student, mask) * scale.values, plain)


def test_a_run_without_it_has_none(tiny_run: Path) -> None:
    model, _ = load_model(tiny_run)
    assert [name for name in model.state_dict() if "cell_scale" in name] == []


@pytest.mark.parametrize("name", list(METHODS))
def test_a_bundle_divides_as_its_run_does(
    name: str, tmp_path: Path, training_data: DataSet, simulated: Path
) -> None:
    config = TrainConfig.model_validate({**TINY.model_dump(), "method": METHODS[name]})
    run = tmp_path / "run"
    train_run(training_data, config, run, cache=FeatureCache(None), progress=NoBars(), note={})
    model, info = load_model(run)
    scales = {key: value for key, value in model.state_dict().items() if key.endswith("cell_scale.values")}
    assert len(scales) == (2 if name == "fusion" else 1)
    assert all(float(value.std()) > 0 and float(value.min()) >= 0.5 for value in scales.values())
    assert len(load_log(run).validation_scores) == 3

    if name != "fusion":  # whose map is no longer an error
        held_out = [
            prepare(sample, info.preprocessing, model.wanted).tensors for sample in training_data.validation
        ]
        with torch.no_grad():
            maps = [
                model({key: torch.from_numpy(np.array(a)) for key, a in tensors.items()})[0, 0]
                .double()
                .numpy()
                for tensors in held_out
            ]
        masks = np.stack([tensors["mask"][0, 0] for tensors in held_out]).astype(np.float64)
        (scale,) = (value[0, 0].double().numpy() for value in scales.values())
        assert np.allclose(scale, by_hand(np.stack(maps) * scale, masks), rtol=1e-4)

    export_bundle(run, tmp_path / "bundle", progress=NoBars())
    samples = open_dataset(simulated / "test", "captures", None, 0.5).test
    bundle = load_bundle(tmp_path / "bundle")
    with runner_for(bundle) as runner:
        by_onnx = evaluate(predictor_of_bundle(bundle, runner), samples, lambda n: None)
    by_torch = evaluate(predictor_of_run(run), samples, lambda n: None)
    assert np.allclose(by_onnx.scores, by_torch.scores, rtol=1e-3, atol=1e-3)
