"""edge-benchmark on a tree in each data set's layout, killed, and started again."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from typer.testing import CliRunner

from edge.commands.common import INTERRUPTED
from edge.errors import ConfigError, TrainingError
from tests.browser import needs_chromium, opened
from tests.small_run import TINY
from tests.train.benchmark_runs import Command, Here, kill_group, tiny_yaml
from tests.train.trees import captures_tree, eyecandies_tree, mvtec3d_tree, pdreal_tree
from train.benchmark.bench import Benchmark, Failed
from train.benchmark.job import DataSource, Workshop
from train.benchmark.methods import chosen_methods
from train.benchmark.plan import plan_benchmark
from train.benchmark.pool import Failure
from train.benchmark.store import ResultStore
from train.commands.benchmark import app
from train.datasets import DatasetOptions, Format
from train.evaluation import EvaluationOptions
from train.report.few_parts import load_rows

BANK = "memory-bank-rgb"


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captures_tree(tmp_path_factory.mktemp("trees") / "captures")


def run_here(source: DataSource, out: Path, **changes: Any) -> Benchmark:
    """A benchmark in this process: its tables are written, its failures are told."""
    asked: dict[str, Any] = {
        "categories": None,
        "methods": chosen_methods([BANK], TINY),
        "seeds": [0, 1],
        "parts": [None],
        "evaluation": EvaluationOptions(),
    }
    plan = plan_benchmark(source, **(asked | changes))
    store = ResultStore(out)
    with store.locked():
        benchmark = Benchmark(plan, store, "the <tree>")
        benchmark.run(Here(Workshop(out=out, cache=out / "cache")), lambda outcome: None)
        benchmark.write()
    return benchmark


@pytest.mark.parametrize(
    ("layout", "make", "published"),
    [
        ("mvtec3d", mvtec3d_tree, "published, mean of 10 | 0.777 |"),
        ("eyecandies", eyecandies_tree, "| Mentor3AD [Mentor3AD, about 350 images"),
        ("pdreal", pdreal_tree, "published, mean of 15 | 0.925 |"),
        ("captures", captures_tree, None),
    ],
)
def test_a_tree_in_each_layout_gives_a_table(
    tmp_path: Path, layout: Format, make: Callable[[Path], Path], published: str | None
) -> None:
    tree = make(tmp_path / "tree")
    options = DatasetOptions(
        layout_file=tree / "layout.yaml" if layout == "pdreal" else None,
        test_lots="test*" if layout == "captures" else None,
    )
    benchmark = run_here(DataSource(tree, layout, options), tmp_path / "out")
    assert benchmark.failed == []
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(row["category"], row["seed"]) for row in rows] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    told = (tmp_path / "out" / "table.md").read_text()
    for category in ("a", "b"):
        values = [row["aupro_30"] for row in rows if row["category"] == category]
        line = f"| {category} | {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} |"
        assert line in told.partition("## AUPRO@30")[2]
    per_seed = [np.mean([row["i_auroc"] for row in rows if row["seed"] == seed]) for seed in (0, 1)]
    assert f"| **mean** | {np.mean(per_seed):.3f} ± {np.std(per_seed, ddof=1):.3f} |" in told
    assert (published in told) if published else ("ublished" not in told)
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert [float(row["aupro_30"]) for row in listed] == [row["aupro_30"] for row in rows]
    assert all(row["train_seconds"] > 0 for row in rows)


@pytest.fixture(scope="module")
def benchmark_page(tmp_path_factory: pytest.TempPathFactory, captures: Path) -> Path:
    """Of one category with few and with all parts."""
    out = tmp_path_factory.mktemp("few parts")
    source = DataSource(captures, "captures", DatasetOptions(test_lots="test*"))
    benchmark = run_here(source, out, categories=["b"], seeds=[0], parts=[6, None])
    benchmark.failed.append(Failed(benchmark.plan.jobs[0], Failure("its worker <died>")))
    benchmark.write()
    return out / "benchmark.html"


def test_few_parts_give_the_rows_of_the_curve(benchmark_page: Path) -> None:
    folder = benchmark_page.parent
    rows = load_rows(folder / "results.json")
    assert [(row.method, row.parts) for row in rows] == [(BANK, 6), (BANK, 9)]
    told = (folder / "table.md").read_text()
    assert "## I-AUROC, 6 good parts\n" in told
    assert "## I-AUROC, all 9 good parts\n" in told


@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_shows_the_page_and_asks_nobody(
    benchmark_page: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    with opened(benchmark_page, width=width, scheme=scheme) as shown:
        assert shown.complaints == []
        assert shown.requests == [benchmark_page.as_uri()]
        assert shown.overflow_px() <= 0
        assert shown.page.locator("h1").inner_text() == "the <tree>"
        assert shown.page.locator("svg.drawing").count() == 2
        rows = json.loads((benchmark_page.parent / "results.json").read_text())
        head = shown.page.locator("#means table").first.locator("tbody tr td").first
        assert head.inner_text() == f"{rows[0]['i_auroc']:.3f}"
        assert "its worker <died>" in shown.page.locator("#failed").inner_text()


def test_a_failing_job_is_listed_and_stops_no_other(
    tmp_path: Path,
) -> None:
    tree = captures_tree(tmp_path / "tree")
    # A good part that no look at the first parts of the data set meets.
    victim = sorted((tree / "b" / "train-1" / "good").glob("*.depth.png"))[1]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:100] + bytes(len(whole) - 100))
    source = DataSource(tree, "captures", DatasetOptions(test_lots="test*"))
    out = tmp_path / "out"
    benchmark = run_here(source, out, seeds=[0])
    (failed,) = benchmark.failed
    assert failed.job.category == "b"
    assert victim.name in failed.failure.error
    assert not failed.failure.unexpected
    told = (out / "table.md").read_text()
    assert "1 of 2 jobs are done" in told
    assert "| b | – |" in told
    assert "| **mean** | – |" in told
    victim.write_bytes(whole)
    before = Command(out).results()
    benchmark = run_here(source, out, seeds=[0])
    assert benchmark.failed == []
    assert len(benchmark.results) == 2
    after = Command(out).results()
    assert before.items() < after.items()
    assert [line["job"].partition(" ")[0] for line in Command(out).started()] == ["a", "b", "b"]


def test_killed_half_way_and_started_again_it_repeats_nothing(tmp_path: Path, captures: Path) -> None:
    command = Command(
        tmp_path / "out",
        *("--data", str(captures), "--config", str(tiny_yaml(tmp_path))),
        *("--methods", f"{BANK},ast", "--seeds", "0", "--workers", "2"),
    )
    process = command.start()
    command.wait_for(process, lambda: len(command.results()) >= 1 and len(command.started()) >= 3)
    kill_group(process, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    killed_with, begun = command.results(), Counter(line["key"] for line in command.started())
    assert len(killed_with) < 4
    listed = command.call("--dry-run", "--json")
    states = {job["key"]: job["state"] for job in json.loads(listed.stdout)}
    assert {key for key, state in states.items() if state == "done"} == set(killed_with)

    again = command.call("--json")
    assert again.exit_code == 0, again.stderr
    rows = json.loads(again.stdout)["rows"]
    assert {row["key"] for row in rows} == set(states) == set(command.results())
    assert killed_with.items() <= command.results().items()
    # What was not at its end was begun again, and nothing else.
    expected = begun + Counter(key for key in states if key not in killed_with)
    assert Counter(line["key"] for line in command.started()) == expected
    assert list((command.out / "work").glob("*")) == []

    before = command.results()
    assert command.call().exit_code == 0
    assert command.results() == before
    assert Counter(line["key"] for line in command.started()) == expected


def test_killed_within_a_training_it_goes_on_to_the_figures_of_one_that_was_not(
    tmp_path: Path, captures: Path
) -> None:
    method = TINY.model_dump(mode="json")["method"]
    method["student_optimiser"]["steps"] = 120
    given = (
        *("--data", str(captures), "--config", str(tiny_yaml(tmp_path, method=method))),
        *("--methods", "msd", "--seeds", "0", "--categories", "a"),
    )
    whole, broken = Command(tmp_path / "whole", *given), Command(tmp_path / "broken", *given)
    process = broken.start()
    broken.wait_for(process, lambda: bool(list(broken.out.glob("work/*/run/checkpoint/student.*"))))
    kill_group(process, signal.SIGKILL)
    process.communicate()
    assert broken.results() == {}

    rows = [json.loads(command.call("--json").stdout)["rows"][0] for command in (broken, whole)]
    gone_on, uninterrupted = rows
    assert gone_on.pop("train_seconds") is None
    assert uninterrupted.pop("train_seconds") > 0
    for row in rows:
        row.pop("evaluate_seconds")
    assert gone_on == uninterrupted
    assert list((broken.out / "work").glob("*")) == []
    table = (broken.out / "table.md").read_text()
    assert "| msd | – |" in table.partition("## Cost")[2]


def test_a_worker_that_dies_costs_its_job_alone(tmp_path: Path, captures: Path) -> None:
    command = Command(
        tmp_path / "out",
        *("--data", str(captures), "--config", str(tiny_yaml(tmp_path)), "--methods", BANK, "--seeds", "0"),
    )

    def kill_the_first() -> None:
        while not command.started():
            time.sleep(0.01)
        os.kill(command.started()[0]["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    done = command.call("--json")
    killer.join()
    assert done.exit_code == TrainingError.exit_code
    (failed,) = json.loads(done.stdout)["failed"]
    assert "ended by SIGKILL" in failed["error"]
    assert "1 of 2 jobs failed; the same command tries them again" in done.stderr
    assert set(command.results()) == {command.started()[1]["key"]} != {failed["key"]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_neither_ctrl_c_nor_the_parent_s_death_leaves_a_worker_behind(
    tmp_path: Path, captures: Path, number: signal.Signals
) -> None:
    values = TINY.model_dump(mode="json")["method"]
    values["student_optimiser"]["steps"] = 1_000_000  # hours
    config = tiny_yaml(tmp_path, method=values)
    command = Command(
        tmp_path / "out",
        *("--data", str(captures), "--config", str(config), "--methods", "msd", "--seeds", "0"),
    )
    process = command.start()
    command.wait_for(process, lambda: len(command.started()) == 1)
    if number == signal.SIGINT:
        kill_group(process, number)
    else:
        process.send_signal(number)  # to the parent alone
    # Its end comes when nobody holds its stderr any more, the worker neither.
    said = process.communicate(timeout=120)[1]
    if number == signal.SIGINT:
        assert process.returncode == INTERRUPTED
        assert "0 of 2 jobs are done; the same command goes on" in said
        assert "**Not finished: 0 of 2 jobs are done.**" in (command.out / "table.md").read_text()


def test_a_ray_of_two_workers_gives_the_same_table(tmp_path: Path, captures: Path) -> None:
    asked = (
        *("--data", str(captures), "--config", str(tiny_yaml(tmp_path)), "--methods", BANK),
        *("--seeds", "0", "--json"),
    )
    by_ray = Command(tmp_path / "ray", *asked, "--ray", "local", "--workers", "2")
    done = by_ray.run()
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["failed"] == []
    assert len({line["pid"] for line in by_ray.started()}) == 2
    here = run_here(
        DataSource(captures, "captures", DatasetOptions(test_lots="test*")), tmp_path / "here", seeds=[0]
    )
    figures = ("category", "i_auroc", "aupro_30", "p_auroc", "key")
    rows = [{name: row[name] for name in figures} for row in told["rows"]]
    assert rows == [{name: row.model_dump()[name] for name in figures} for row in here.rows()]


def test_a_missing_cluster_is_said_at_once(tmp_path: Path, captures: Path) -> None:
    command = Command(
        tmp_path / "out",
        *("--data", str(captures), "--config", str(tiny_yaml(tmp_path)), "--methods", BANK),
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = command.run("--ray", f"127.0.0.1:{port}")  # nobody listens there any more
    assert done.returncode == ConfigError.exit_code
    assert f"--ray 127.0.0.1:{port}: no Ray cluster there" in done.stderr
    done = command.run("--ray", "auto")
    assert done.returncode == ConfigError.exit_code
    assert "--ray auto: no Ray cluster there" in done.stderr
    assert command.started() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "zebra"], "'zebra' is no method"),
        (["--seeds", "x"], "--seeds is 'x'"),
        (["--bootstrap", "3"], "--bootstrap: give 0"),
        (["--parts", "400"], "--parts asks for 400"),
        (["--categories", "c"], "has no category c; it has a, b"),
        (["--light", "9"], "light is 9"),
    ],
)
def test_a_wrong_option_is_said_before_anything_is_made(
    tmp_path: Path, captures: Path, arguments: list[str], said: str
) -> None:
    result = CliRunner().invoke(
        app, ["--data", str(captures), "--out", str(tmp_path / "out"), "--methods", BANK, *arguments]
    )
    assert result.exit_code == ConfigError.exit_code
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_help_shows_an_example() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "edge-benchmark --data mvtec3d" in " ".join(result.stdout.split())
