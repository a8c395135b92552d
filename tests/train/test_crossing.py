"""Good parts that serve twice: no score comes of a model that has seen its part, and all parts train."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.bundle import load_bundle
from edge.camera.sample import Sample
from edge.errors import DatasetError, TrainingError
from export.bundle import export_bundle
from export.verification import Tolerances
from export.verify import verify_bundle
from tests.line.commands import refused, run
from tests.small_run import TINY, NoBars
from train.checkpoint import load_log, load_model
from train.config import TrainConfig
from train.crossing import config_of_fold, folds_of, of_all_parts
from train.datasets import DataSet, name_of
from train.good_parts import Task
from train.methods.memory_bank import Bank, MemoryBankConfig
from train.training import train_run
from train.views import FeatureCache

BANK = TrainConfig.model_validate(
    {
        **TINY.model_dump(),
        "cross_folds": 3,
        "method": {"name": "memory-bank", "backbone": {"blocks": [3]}, "rotations": 1, "coreset_share": 0.5},
    }
)


def named(one: Sample, count: int) -> tuple[Sample, ...]:
    return tuple(replace(one, part_id=f"{number:03}") for number in range(count))


@given(st.integers(2, 40), st.integers(0, 40), st.integers(2, 12))
def test_each_part_is_held_out_once_and_never_trained_on_then(
    training_data: DataSet, train: int, held: int, folds: int
) -> None:
    parts = named(training_data.train[0], train + held)
    data = DataSet("plate", parts[:train], parts[train:], ())
    if train + held < folds:
        with pytest.raises(DatasetError, match="lower cross_folds"):
            folds_of(data, folds)
        return
    found = folds_of(data, folds)
    assert len(found) == folds
    assert sorted(name_of(part) for fold in found for part in fold.validation) == sorted(map(name_of, parts))
    for fold in found:
        train_names, held_names = set(map(name_of, fold.train)), set(map(name_of, fold.validation))
        assert held_names
        assert not train_names & held_names
        assert train_names | held_names == set(map(name_of, parts))


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory, training_data: DataSet) -> Path:
    out = tmp_path_factory.mktemp("crossed") / "run"
    train_run(training_data, BANK, out, cache=FeatureCache(None), progress=NoBars(), note={})
    return out


def test_every_score_is_that_of_a_model_which_was_trained_without_the_part(
    crossed: Path, training_data: DataSet, tmp_path: Path
) -> None:
    scores = load_log(crossed).validation_scores
    assert scores.keys() == {name_of(part) for part in (*training_data.train, *training_data.validation)}
    fold = folds_of(training_data, 3)[1]
    alone = config_of_fold(BANK)
    train_run(fold, alone, tmp_path / "one", cache=FeatureCache(None), progress=NoBars(), note={})
    theirs = load_log(tmp_path / "one").validation_scores
    assert {name: scores[name] for name in theirs} == theirs
    # And the model itself has seen all of them: it is the one that all parts give.
    whole = of_all_parts(training_data)
    train_run(whole, alone, tmp_path / "all", cache=FeatureCache(None), progress=NoBars(), note={})
    one, other = load_model(crossed)[0].state_dict(), load_model(tmp_path / "all")[0].state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert {path.name for path in crossed.iterdir()} == {"model.safetensors", "golden.npz", "training.json"}


def test_a_bundle_takes_its_threshold_of_the_folds_and_says_so(crossed: Path, tmp_path: Path) -> None:
    bundle = export_bundle(crossed, tmp_path / "bundle", progress=NoBars()).bundle
    calibration, scores = bundle.calibration, load_log(crossed).validation_scores
    assert calibration is not None
    assert (calibration.method, calibration.good_parts, calibration.provisional) == (
        "cross_conformal",
        9,
        True,
    )
    assert calibration.threshold == pytest.approx(max(scores.values()), rel=1e-4)
    assert calibration.threshold >= max(scores.values()), "raised by the drift, never lowered"
    again = verify_bundle(
        crossed, load_bundle(tmp_path / "bundle"), tolerances=Tolerances(), progress=NoBars()
    )
    assert not again.problems()


class _Ended(Exception):
    """Stands for whatever ends a process."""


class _EndsInFold(NoBars):
    """Ends the process that trains when so many models' features were begun."""

    def __init__(self, after: int) -> None:
        self.after = after

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        if name == "features":
            self.after -= 1
            if self.after < 0:
                raise _Ended
        yield lambda steps: None


def test_what_was_interrupted_goes_on_with_the_folds_that_there_are(
    crossed: Path, training_data: DataSet, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    cache = FeatureCache(None)
    with pytest.raises(_Ended):
        train_run(training_data, BANK, out, cache=cache, progress=_EndsInFold(2), note={})
    first = out / "folds" / "0" / "model.safetensors"
    before = first.stat().st_mtime_ns
    with pytest.raises(TrainingError, match="--resume"):
        train_run(training_data, BANK, out, cache=cache, progress=NoBars(), note={})
    other = BANK.model_copy(update={"seed": 5})
    with pytest.raises(TrainingError, match="another configuration"):
        train_run(training_data, other, out, cache=cache, progress=NoBars(), note={}, resume=True)
    with pytest.raises(_Ended):  # in the last model: no fold was begun again
        train_run(training_data, BANK, out, cache=cache, progress=_EndsInFold(1), note={}, resume=True)
    assert first.stat().st_mtime_ns == before
    train_run(training_data, BANK, out, cache=cache, progress=NoBars(), note={}, resume=True)
    assert load_log(out) == load_log(crossed)


@pytest.mark.parametrize(
    ("method", "word"),
    [
        ({"name": "fusion"}, "a fusion"),
        ({"name": "memory-bank", "normalise_cells": True}, "normalise_cells"),
        ({"name": "msd", "early_stopping": {"every_steps": 10}}, "early_stopping"),
    ],
)
def test_what_needs_parts_held_out_is_refused(method: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=f"{word} needs some that were held out"):
        TrainConfig.model_validate({"cross_folds": 5, "method": method})


def test_a_choice_can_not_be_made_without_parts_held_out(tmp_path: Path, simulated: Path) -> None:
    (tmp_path / "candidates.yaml").write_text("as-it-is: {}\n")
    done = run(
        "edge-train", "--data", simulated / "train", "--out", tmp_path / "out", "--cross-folds", "3",
        "--choose", tmp_path / "candidates.yaml",
    )  # fmt: skip
    refused(done, 3, "--choose ranks on good parts held out")


def test_the_command_trains_by_folds(tmp_path: Path, simulated: Path) -> None:
    (tmp_path / "train.yaml").write_text(json.dumps({**BANK.model_dump(mode="json"), "cross_folds": None}))
    done = run(
        "edge-train", "--data", simulated / "train", "--config", tmp_path / "train.yaml", "--no-cache",
        "--out", tmp_path / "run", "--cross-folds", "2", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["provenance"]["train_parts"] == 9
    assert len(load_log(tmp_path / "run").validation_scores) == 9
    shutil.rmtree(tmp_path / "run")


@given(st.integers(2, 40), st.data())
def test_a_bank_of_more_rows_finds_nothing_stranger(rows: int, data: st.DataObject) -> None:
    """What a promise for the model of all parts rests on (docs/training.md)."""
    seed = data.draw(st.integers(0, 2**31))
    torch.manual_seed(seed)
    bank = Bank(MemoryBankConfig(), 3, 4).eval()
    everything, features, mask = torch.randn(rows, 3), torch.randn(1, 3, 4, 4), torch.ones(1, 1, 4, 4)
    bank.set_rows(everything)
    of_all = bank(features, mask)
    bank.set_rows(everything[: data.draw(st.integers(1, rows))])
    # Squared, where float32 is exact enough: √ of a difference near 0 is not.
    assert bool((of_all.square() <= bank(features, mask).square() + 1e-4).all())
