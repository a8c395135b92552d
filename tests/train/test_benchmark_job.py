"""What one job of a benchmark makes of what a killed worker left in its folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edge.errors import DatasetError, TrainingError
from tests.small_run import TINY
from tests.train.trees import captures_tree
from train.benchmark.job import DataSource, Job, JobResult, Workshop, run_job
from train.benchmark.methods import chosen_methods
from train.benchmark.plan import plan_benchmark
from train.checkpoint import load_model
from train.datasets import DatasetOptions
from train.evaluation import EvaluationOptions
from train.loop.claim import Claim, claimed

LEFT = ("unfinished.json", ".lock")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    tree = captures_tree(tmp_path_factory.mktemp("trees") / "captures")
    plan = plan_benchmark(
        DataSource(tree, "captures", DatasetOptions(test_lots="test*")),
        categories=["a"],
        methods=chosen_methods(["memory-bank-rgb"], TINY),
        seeds=[0],
        parts=[None],
        evaluation=EvaluationOptions(),
    )
    return plan.jobs[0]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, job: Job) -> tuple[Path, JobResult]:
    """The run of the job, and its result."""
    shop = Workshop(out=tmp_path_factory.mktemp("done"), cache=None, keep_runs=True)
    return shop.out / "runs" / job.key, run_job(job, shop)


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(out=tmp_path, cache=None, keep_runs=True)


def test_a_run_that_was_only_to_be_evaluated_is_not_trained_again(
    job: Job, done: tuple[Path, JobResult], shop: Workshop
) -> None:
    folder, result = done
    run = shop.out / "work" / job.key / "run"
    shutil.copytree(folder, run)
    for name in (".scratch", "checkpoint"):
        (run / name).mkdir()
    for name in LEFT:
        (run / name).write_text("{}")
    again = run_job(job, shop)
    assert again.figures == result.figures
    assert again.provenance == result.provenance  # its time, too
    assert (again.train_seconds, result.train_seconds is None) == (None, False)
    kept = shop.out / "runs" / job.key
    assert sorted(path.name for path in kept.iterdir()) == sorted(path.name for path in folder.iterdir())
    assert list((shop.out / "work").iterdir()) == []


@pytest.mark.parametrize("claim", ["damaged", "of another machine", "gone"])
def test_what_can_not_be_gone_on_with_is_begun_anew(
    claim: str, job: Job, done: tuple[Path, JobResult], shop: Workshop
) -> None:
    run = shop.out / "work" / job.key / "run"
    (run / "checkpoint").mkdir(parents=True)
    (run / "checkpoint" / "teacher.safetensors").write_bytes(b"")
    if claim != "gone":
        told = {"config": {}, "train": {}, "held_out": {}, "machine": {"threads": 99}}
        (run / "unfinished.json").write_text("{" if claim == "damaged" else json.dumps(told))
    again = run_job(job, shop)
    assert again.figures == done[1].figures
    assert load_model(shop.out / "runs" / job.key)[1].config == job.config
    assert list((shop.out / "work").iterdir()) == []


def test_a_run_that_another_process_is_training_is_left_to_it(job: Job, shop: Workshop) -> None:
    run = shop.out / "work" / job.key / "run"
    claim = Claim(config={}, train={}, held_out={}, machine={})
    with claimed(run, claim, resume=False, finished=run / "model.safetensors"):
        with pytest.raises(TrainingError, match="another process is training into it"):
            run_job(job, shop)
        assert (run / "unfinished.json").exists()


def test_a_job_that_fails_before_its_training_leaves_nothing(job: Job, shop: Workshop) -> None:
    with pytest.raises(DatasetError, match="has changed since the benchmark was started"):
        run_job(replace(job, listing="0" * 64), shop)
    assert list((shop.out / "work").iterdir()) == []
