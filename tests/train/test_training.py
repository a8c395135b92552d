from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from edge.errors import DatasetError, TrainingError
from tests.small_run import NoBars
from train.checkpoint import load_log, load_model
from train.config import TrainConfig
from train.datasets import DataSet, open_dataset
from train.evaluation import evaluate, predictor_of_model, predictor_of_run, save_maps
from train.golden import load_golden
from train.methods import MsdConfig
from train.training import train_run
from train.views import FeatureCache


def weights(run: Path) -> dict[str, torch.Tensor]:
    with safe_open(run / "model.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_the_map_of_a_run_lies_on_a_large_defect(tiny_run: Path, simulated: Path) -> None:
    model, info = load_model(tiny_run)
    samples = open_dataset(simulated / "test", "captures", None, 0.5).test
    result = evaluate(predictor_of_model(model, info.config.score), samples, lambda n: None)
    assert info.product == "train"
    assert result.figures.images == 8
    # 32 steps on 6 parts: enough to say where, not yet whether.
    assert result.figures.aupro_30 > 0.9
    assert result.figures.p_auroc > 0.95


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    tmp_path: Path, training_data: DataSet, tiny_config: TrainConfig, tiny_run: Path
) -> None:
    torch.manual_seed(999)
    np.random.seed(999)
    train_run(
        training_data,
        tiny_config,
        tmp_path / "a",
        cache=FeatureCache(tmp_path / "c"),
        progress=NoBars(),
        note={},
    )
    other = tiny_config.model_copy(update={"seed": 1})
    train_run(
        training_data, other, tmp_path / "b", cache=FeatureCache(tmp_path / "c"), progress=NoBars(), note={}
    )
    first, again, different = weights(tiny_run), weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["student.last.weight"], different["student.last.weight"])


def test_a_run_keeps_what_export_needs(tiny_run: Path, training_data: DataSet) -> None:
    log = load_log(tiny_run)
    assert len(log.curves["teacher"]) == 12
    assert len(log.curves["student"]) == 20
    assert log.curves["student"][-1] < log.curves["student"][0]
    assert len(log.validation_scores) == len(training_data.validation) == 3
    assert {sample.name for sample in load_golden(tiny_run) if not sample.defective} == set(
        log.validation_scores
    )


def test_maps_are_saved_at_the_original_resolution(tmp_path: Path, tiny_run: Path, simulated: Path) -> None:
    samples = open_dataset(simulated / "test", "captures", None, 0.5).test
    result = evaluate(predictor_of_run(tiny_run), samples, lambda n: None)
    save_maps(tmp_path / "maps", result)
    listed = json.loads((tmp_path / "maps" / "scores.json").read_text())
    assert len(listed["images"]) == 8
    for row, sample in zip(listed["images"], samples, strict=True):
        stored = np.load(tmp_path / "maps" / row["map"], allow_pickle=False)
        assert stored.dtype == np.float32
        assert stored.shape == (240, 320)
        assert row["label"] == int(sample.defect is not None)
    assert listed["figures"]["aupro_30"] == result.figures.aupro_30


def test_a_run_is_never_written_over(
    tiny_run: Path, training_data: DataSet, tiny_config: TrainConfig
) -> None:
    before = weights(tiny_run)
    with pytest.raises(TrainingError, match="holds a run already"):
        train_run(training_data, tiny_config, tiny_run, cache=FeatureCache(None), progress=NoBars(), note={})
    assert all(torch.equal(before[name], value) for name, value in weights(tiny_run).items())


@pytest.mark.parametrize(
    ("size", "word"), [(0, "not a checkpoint"), (3000, "not a checkpoint"), (None, "no such checkpoint")]
)
def test_a_damaged_checkpoint_is_named(tmp_path: Path, tiny_run: Path, size: int | None, word: str) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    path = tmp_path / "run" / "model.safetensors"
    if size is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(TrainingError, match=word):
        load_model(tmp_path / "run")


def test_a_learning_rate_that_diverges_stops_with_its_name(
    tmp_path: Path, training_data: DataSet, tiny_config: TrainConfig
) -> None:
    values = tiny_config.model_dump()
    values["method"]["teacher_optimiser"] |= {"learning_rate": 1e12, "clip_norm": None}
    with pytest.raises(TrainingError, match=r"teacher: the loss of step \d+ is (nan|inf)"):
        train_run(
            training_data,
            TrainConfig.model_validate(values),
            tmp_path / "run",
            cache=FeatureCache(None),
            progress=NoBars(),
            note={},
        )
    assert not (tmp_path / "run").exists()


def test_an_empty_tray_among_the_good_parts_is_named(
    tmp_path: Path, simulated: Path, tiny_config: TrainConfig
) -> None:
    folder = tmp_path / "lot"
    shutil.copytree(simulated / "train", folder)
    data = open_dataset(folder, "captures", None, 0.34)
    victim = data.train[2]
    values = tiny_config.model_dump()
    values["preprocessing"]["foreground"]["part_threshold_m"] = 0.5
    with pytest.raises(DatasetError, match="nothing stands more than 500 mm"):
        train_run(
            data,
            TrainConfig.model_validate(values),
            tmp_path / "run",
            cache=FeatureCache(None),
            progress=NoBars(),
            note={},
        )
    victim.depth_path.write_bytes(b"not a png")
    with pytest.raises(DatasetError, match=victim.depth_path.name):
        train_run(data, tiny_config, tmp_path / "run", cache=FeatureCache(None), progress=NoBars(), note={})


def test_held_out_parts_are_spread_over_the_day(simulated: Path) -> None:
    data = open_dataset(simulated, "captures", "train", 0.34)
    names = [int(sample.part_id.split("/")[1]) for sample in data.validation]
    assert names == [2, 5, 8]
    assert not {s.part_id for s in data.train} & {s.part_id for s in data.validation}


@pytest.mark.parametrize(
    ("layout", "category", "word"),
    [
        ("captures", "nothing", "no such folder"),
        ("mvtec3d", None, "MVTec"),
        ("captures", None, "capture.yaml"),
    ],
)
def test_a_folder_that_is_no_data_set_is_named(
    tmp_path: Path, layout: str, category: str | None, word: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=word):
        open_dataset(tmp_path, layout, category, 0.2)  # type: ignore[arg-type]


def test_epochs_count_the_views() -> None:
    config = TrainConfig.model_validate({"method": {"name": "msd", "teacher_optimiser": {"epochs": 72}}})
    assert isinstance(config.method, MsdConfig)
    assert config.method.teacher_optimiser.total_steps(72) == 72 * 9
    with pytest.raises(ValueError, match="either steps or epochs"):
        TrainConfig.model_validate(
            {"method": {"name": "msd", "teacher_optimiser": {"epochs": 72, "steps": 3}}}
        )


def test_scales_must_divide_the_map() -> None:
    with pytest.raises(ValueError, match="don't divide"):
        TrainConfig.model_validate({"method": {"name": "msd", "distillation": {"scales": [1, 5]}}})
