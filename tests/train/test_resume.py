"""A run that is interrupted, however hard, and gone on with, has the weights of one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from edge.errors import TrainingError
from tests.small_run import TINY, NoBars
from train.checkpoint import load_log
from train.config import TrainConfig
from train.datasets import DataSet, open_dataset
from train.good_parts import Task
from train.loop.checkpoints import Checkpoints
from train.training import train_run
from train.views import FeatureCache

LEFT_BEHIND = ("unfinished.json", "checkpoint", ".scratch", ".lock")
OF_A_RUN = {"model.safetensors", "golden.npz", "training.json"}


class Interrupted(Exception):
    """Stands for whatever ends a process at a step."""


class Bars:
    """Ends the run at a step of a task."""

    def __init__(self, task: str, step: int) -> None:
        self._task, self._step = task, step

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        done = 0

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            if name == self._task and done == self._step:
                raise Interrupted

        yield advance


def same_weights(one: Path, other: Path) -> bool:
    first, second = (load_file(run / "model.safetensors") for run in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def run(data: DataSet, config: TrainConfig, out: Path, **rest: Any) -> None:
    rest = {"progress": NoBars(), "checkpoint_steps": 5, **rest}
    train_run(data, config, out, cache=FeatureCache(None), note={}, **rest)


def fusion() -> TrainConfig:
    values = TINY.model_dump()
    msd = values["method"]
    other = {**msd, "inputs": ("normals",), "student": {"hidden": 8, "blocks": 1}}
    values["method"] = {"name": "fusion", "members": [msd, other]}
    return TrainConfig.model_validate(values)


@pytest.mark.slow
def test_a_killed_process_is_gone_on_with_to_the_same_weights(tmp_path: Path, simulated: Path) -> None:
    values = TINY.model_dump(mode="json")
    values["method"]["teacher_optimiser"] |= {"steps": 150}
    values["method"]["student_optimiser"] |= {"steps": 150}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(values))

    def command(out: Path, *more: str) -> list[str]:
        options = ["--data", str(simulated / "train"), "--config", str(tmp_path / "train.yaml")]
        options += ["--out", str(out), "--cache", str(tmp_path / "cache"), "--checkpoint-steps", "5", *more]
        return [str(Path(sys.executable).parent / "edge-train"), *options]

    def finish(out: Path, *more: str) -> None:
        done = subprocess.run(command(out, *more), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def kill_once_there_is(checkpoint: Path, out: Path, *more: str) -> None:
        with subprocess.Popen(command(out, *more), stderr=subprocess.DEVNULL) as process:
            while not checkpoint.exists():
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.001)
            os.kill(process.pid, signal.SIGKILL)
        state = Checkpoints(checkpoint.parent).load(checkpoint.stem)
        assert state is not None
        assert not state.finished
        assert 0 < len(state.curve) < 150

    finish(tmp_path / "whole")
    out = tmp_path / "killed"
    kill_once_there_is(out / "checkpoint" / "teacher.safetensors", out)
    kill_once_there_is(out / "checkpoint" / "student.safetensors", out, "--resume")
    refused = subprocess.run(command(out), capture_output=True, text=True, check=False)
    assert refused.returncode == TrainingError.exit_code
    assert "--resume" in refused.stderr
    finish(out, "--resume")
    assert same_weights(tmp_path / "whole", out)
    assert {path.name for path in out.iterdir()} == OF_A_RUN
    whole, resumed = (load_log(tmp_path / name) for name in ("whole", "killed"))
    assert resumed.curves == whole.curves
    assert resumed.validation_scores == whole.validation_scores


@pytest.mark.parametrize("where", [("teacher", 7), ("student", 12), ("scores of good parts", 2)])
def test_an_interrupted_run_goes_on(
    tmp_path: Path, training_data: DataSet, tiny_config: TrainConfig, tiny_run: Path, where: tuple[str, int]
) -> None:
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        run(training_data, tiny_config, out, progress=Bars(*where))
    assert (out / "unfinished.json").exists()
    with pytest.raises(TrainingError, match="unfinished run; go on with --resume"):
        run(training_data, tiny_config, out)
    run(training_data, tiny_config, out, resume=True)
    assert same_weights(tiny_run, out)
    assert load_log(out) == load_log(tiny_run)
    assert not any((out / name).exists() for name in LEFT_BEHIND)
    with pytest.raises(TrainingError, match="holds a run already"):
        run(training_data, tiny_config, out, resume=True)


def test_members_of_a_fusion_go_on_each_from_its_own_checkpoint(
    tmp_path: Path, training_data: DataSet
) -> None:
    run(training_data, fusion(), tmp_path / "whole")
    out = tmp_path / "cut"

    class SecondStudent(Bars):
        seen = 0

        @contextmanager
        def task(self, name: str, total: int) -> Iterator[Task]:
            self.seen += name == "student"
            with super().task(name if self.seen == 2 else "", total) as advance:
                yield advance

    with pytest.raises(Interrupted):
        run(training_data, fusion(), out, progress=SecondStudent("student", 13))
    assert {path.name for path in (out / "checkpoint").iterdir()} == {
        "msd_0-teacher.safetensors",
        "msd_0-student.safetensors",
        "msd_1-teacher.safetensors",
        "msd_1-student.safetensors",
    }
    run(training_data, fusion(), out, resume=True)
    assert same_weights(tmp_path / "whole", out)


def test_early_stopping_goes_on_with_what_it_knew(tmp_path: Path, training_data: DataSet) -> None:
    values = TINY.model_dump()
    probe = {"parts": 2, "defects_per_part": 1, "severity": 2.0}
    values["method"]["early_stopping"] = {"every_steps": 3, "patience": 3, "probe": probe}
    config = TrainConfig.model_validate(values)
    run(training_data, config, tmp_path / "whole")
    log = load_log(tmp_path / "whole")
    for task, step in (("student", 8), ("scores of good parts", 1)):
        out = tmp_path / task
        with pytest.raises(Interrupted):
            run(training_data, config, out, progress=Bars(task, step))
        run(training_data, config, out, resume=True)
        assert same_weights(tmp_path / "whole", out)
        assert load_log(out) == log


def test_what_was_interrupted_before_its_first_checkpoint_leaves_nothing(
    tmp_path: Path, training_data: DataSet, tiny_config: TrainConfig
) -> None:
    with pytest.raises(Interrupted):
        run(training_data, tiny_config, tmp_path / "run", progress=Bars("teacher", 3))
    assert not (tmp_path / "run").exists()


def test_resume_where_there_is_nothing_begins(
    tmp_path: Path, training_data: DataSet, tiny_config: TrainConfig, tiny_run: Path
) -> None:
    run(training_data, tiny_config, tmp_path / "run", resume=True)
    assert same_weights(tiny_run, tmp_path / "run")


def test_another_configuration_can_not_go_on(
    tmp_path: Path, training_data: DataSet, tiny_config: TrainConfig
) -> None:
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        run(training_data, tiny_config, out, progress=Bars("teacher", 7))
    values = tiny_config.model_dump()
    values["method"]["student"]["hidden"] = 24
    values["seed"] = 5
    with pytest.raises(
        TrainingError, match=r"method.student.hidden was 16, is 24; seed was 0, is 5"
    ) as caught:
        run(training_data, TrainConfig.model_validate(values), out, resume=True)
    assert "another folder" in str(caught.value)
    assert (out / "checkpoint" / "teacher.safetensors").exists(), "what was there is kept"


def test_other_data_can_not_go_on(tmp_path: Path, simulated: Path, tiny_config: TrainConfig) -> None:
    lot = tmp_path / "lot"
    shutil.copytree(simulated / "train", lot)
    out = tmp_path / "run"
    data = open_dataset(lot, "captures", None, 0.34)
    with pytest.raises(Interrupted):
        run(data, tiny_config, out, progress=Bars("teacher", 7))
    changed, other = data.train[1], data.train[2]
    shutil.copyfile(other.rgb_path, changed.rgb_path)
    with pytest.raises(TrainingError, match=f"{changed.part_id}: its files changed"):
        run(data, tiny_config, out, resume=True)
    for path in (data.train[0].rgb_path, data.train[0].depth_path):
        path.unlink()
    fewer = open_dataset(lot, "captures", None, 0.34)
    with pytest.raises(TrainingError, match=r"is gone|is new"):
        run(fewer, tiny_config, out, resume=True)


def test_another_machine_can_not_go_on(
    tmp_path: Path, training_data: DataSet, tiny_config: TrainConfig
) -> None:
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        run(training_data, tiny_config, out, progress=Bars("teacher", 7))
    claim = json.loads((out / "unfinished.json").read_text())
    claim["machine"] |= {"threads": 96}
    (out / "unfinished.json").write_text(json.dumps(claim))
    with pytest.raises(TrainingError, match="threads was 96, is "):
        run(training_data, tiny_config, out, resume=True)


@pytest.mark.parametrize("size", [0, 7, 3000])
def test_a_damaged_checkpoint_is_named_and_can_be_deleted(
    tmp_path: Path, training_data: DataSet, tiny_config: TrainConfig, tiny_run: Path, size: int
) -> None:
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        run(training_data, tiny_config, out, progress=Bars("student", 7))
    path = out / "checkpoint" / "teacher.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(TrainingError, match=r"teacher.safetensors: is damaged .* delete it"):
        run(training_data, tiny_config, out, resume=True)
    path.unlink()
    run(training_data, tiny_config, out, resume=True)
    assert same_weights(tiny_run, out)


def test_two_processes_do_not_train_into_one_folder(
    tmp_path: Path, training_data: DataSet, tiny_config: TrainConfig
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    script = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", f"{script}; sys.stdin.read()", str(out / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(TrainingError, match="another process is training into it"):
            run(training_data, tiny_config, out)
        assert other.stdin is not None
        other.stdin.close()
