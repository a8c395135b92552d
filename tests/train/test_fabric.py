"""Two processes on this CPU (gloo) train one model: the same weights, one writer, the configured batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from edge.errors import ConfigError, TrainingError
from tests.small_run import TINY, NoBars
from train.checkpoint import load_log
from train.config import TrainConfig
from train.datasets import DataSet
from train.loop.checkpoints import Checkpoints
from train.loop.descent import Loop, descend
from train.loop.workers import Hardware, Workers
from train.optimiser import OptimiserConfig
from train.training import train_run
from train.views import FeatureCache

BIN = Path(sys.executable).parent
WORKER = Path(__file__).with_name("fabric_worker.py")


def started(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        env={**environment, "PYTHONPATH": root},
        timeout=300,
    )


def torchrun(processes: int, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return started(BIN / "torchrun", "--standalone", "--nproc-per-node", str(processes), *command)


def written(config: TrainConfig, folder: Path) -> Path:
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def without_norms(batch: int) -> TrainConfig:
    """A student without batch norms, whose statistics each CPU process would take of its own share."""
    values = TINY.model_dump()
    values["method"]["student"] = {"hidden": 16, "blocks": 0}
    values["method"]["teacher_optimiser"]["batch"] = batch
    values["method"]["student_optimiser"]["batch"] = batch
    return TrainConfig.model_validate(values)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [4, 3])
def test_two_processes_train_what_one_does(tmp_path: Path, simulated: Path, batch: int) -> None:
    config = written(without_norms(batch), tmp_path)
    options = [
        "--data",
        str(simulated / "train"),
        "--config",
        str(config),
        "--cache",
        str(tmp_path / "cache"),
    ]
    alone = started(BIN / "edge-train", *options, "--out", tmp_path / "one", "--json")
    assert alone.returncode == 0, alone.stderr
    both = torchrun(2, "--no-python", BIN / "edge-train", *options, "--out", tmp_path / "two", "--json")
    assert both.returncode == 0, both.stderr
    (line,) = both.stdout.splitlines()  # of the first alone
    assert json.loads(line)["provenance"]["workers"] == 2
    assert {path.name for path in (tmp_path / "two").iterdir()} == {
        "model.safetensors",
        "golden.npz",
        "training.json",
    }
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        # The batch and its weighing are the same; sums are taken in another order.
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}")
    curves, again = (load_log(tmp_path / name).curves for name in ("one", "two"))
    for phase, curve in curves.items():
        assert again[phase] == pytest.approx(curve, rel=1e-3)


@pytest.mark.slow
def test_both_processes_end_with_the_same_weights_and_one_writes(tmp_path: Path, simulated: Path) -> None:
    done = torchrun(2, WORKER, "train", simulated / "train", tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (load_file(tmp_path / f"weights-{rank}.safetensors") for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first), "batch statistics, too"
    said = [json.loads((tmp_path / f"said-{rank}.json").read_text()) for rank in (0, 1)]
    assert [s["rank"] for s in said] == [0, 1]
    assert [s["writes"] for s in said] == [True, False], "files that the worker opened to write"


@pytest.mark.slow
def test_a_broken_image_stops_all_workers_with_its_name(tmp_path: Path, simulated: Path) -> None:
    done = torchrun(2, WORKER, "broken", simulated / "train", tmp_path)
    assert done.returncode == 0, done.stderr
    said = [json.loads((tmp_path / f"said-{rank}.json").read_text()) for rank in (0, 1)]
    assert all(s["broken"] in s["error"] for s in said)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_fabric_starts_the_processes_itself(tmp_path: Path, simulated: Path) -> None:
    config = written(without_norms(4), tmp_path)
    done = started(
        BIN / "edge-train", "--data", simulated / "train", "--config", config, "--no-cache",
        "--out", tmp_path / "run", "--devices", "2", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["provenance"]["workers"] == 2


@pytest.mark.parametrize(
    ("hardware", "word"),
    [
        ({"accelerator": "cuda"}, "--accelerator cuda with 1 devices: torch sees 0 here"),
        ({"precision": "16-mixed"}, "16-mixed needs a GPU"),
    ],
)
def test_what_the_machine_has_not_is_refused(hardware: dict[str, Any], word: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match=word):
        Workers(Hardware.model_validate(hardware))


def test_other_devices_than_torchrun_started_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun started 2 processes"):
        Workers(Hardware(devices=3))


def test_a_batch_smaller_than_the_workers_is_refused() -> None:
    class ManyWorkers(Workers):
        @property
        def count(self) -> int:
            return 3

    loop = Loop(ManyWorkers(), Checkpoints(None))
    with pytest.raises(TrainingError, match="a batch of 2 can't be shared by 3 workers; lower --devices"):
        descend(
            "teacher",
            nn.Linear(1, 1),
            lambda network: network,
            lambda objective, mine, batch: objective(torch.ones(1, 1)).sum(),
            optimiser=OptimiserConfig(steps=1, batch=2),
            views=10,
            seed=0,
            loop=loop,
            step_done=lambda steps: None,
        )


def test_mixed_precision_trains_to_nearly_the_same(
    tmp_path: Path, training_data: DataSet, tiny_config: TrainConfig, tiny_run: Path
) -> None:
    info = train_run(
        training_data,
        tiny_config,
        tmp_path / "run",
        cache=FeatureCache(None),
        progress=NoBars(),
        note={},
        workers=Workers(Hardware(precision="bf16-mixed")),
    )
    assert info.provenance["precision"] == "bf16-mixed"
    mixed, full = load_log(tmp_path / "run"), load_log(tiny_run)
    assert mixed.curves["student"] != full.curves["student"]
    for phase, curve in full.curves.items():
        assert mixed.curves[phase][-1] == pytest.approx(curve[-1], rel=0.05)
    state = load_file(tmp_path / "run" / "model.safetensors")
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
