"""edge-benchmark: a data set's categories × seeds × methods × numbers of good parts, as a table."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from edge.commands.common import ended_by_errors
from edge.errors import ConfigError, TrainingError
from edge.strict_yaml import load_strict_yaml
from train.benchmark.bench import Benchmark
from train.benchmark.job import DataSource, Job, Workshop
from train.benchmark.methods import DEFAULT_METHODS, chosen_methods
from train.benchmark.plan import parse_numbers, parse_parts, plan_benchmark
from train.benchmark.pool import Failure, LocalPool, Outcome, Pool
from train.benchmark.published import published_for
from train.benchmark.ray_pool import LOCAL, RayPool
from train.benchmark.store import ResultStore
from train.benchmark.table import tables
from train.commands.data_options import (
    LIGHT,
    DepthRange,
    DepthScale,
    Layout,
    LayoutFile,
    Light,
    TestLots,
    dataset_options,
)
from train.commands.loop_options import (
    Accelerator,
    Cache,
    CacheGb,
    NoCache,
    Precision,
    default_cache,
)
from train.commands.option_errors import said
from train.config import TrainConfig
from train.evaluation import EvaluationOptions

__all__ = ["main"]

TEST_LOTS = "test*"
"""Of captures: a benchmark needs parts that nothing was trained on."""

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(name="benchmark")
def command(
    *,
    data: Annotated[Path, typer.Option(help="Folder in which the categories lie.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="Folder for results and tables; goes on where it was.", show_default=False)
    ],
    layout: Layout = "captures",
    categories: Annotated[str | None, typer.Option(help="Comma-separated; all by default.")] = None,
    methods: Annotated[
        str, typer.Option(help="Presets, and YAML files of methods; comma-separated.")
    ] = ",".join(DEFAULT_METHODS),
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0,1,2",
    parts: Annotated[str, typer.Option(help="Numbers of good parts, such as 10,20,50,all.")] = "all",
    config: Annotated[
        Path | None, typer.Option(help="YAML of the configuration that presets change.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples for each result's intervals; 0: none.")] = 0,
    legacy: Annotated[
        bool, typer.Option("--legacy", help="AUPRO by published code's thresholds, too.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Of each job; by default the cores over the workers, 1 on a cluster."),
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster (auto, host:port), or local.")
    ] = None,
    accelerator: Accelerator = "cpu",
    precision: Precision = "32-true",
    cache: Cache = None,
    cache_gb: CacheGb = 50.0,
    no_cache: NoCache = False,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Keep each job's checkpoint.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the jobs, and which are done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows and failures as JSON.")] = False,
    layout_file: LayoutFile = None,
    light: Light = LIGHT,
    test_lots: TestLots = None,
    depth_range: DepthRange = None,
    depth_scale: DepthScale = 1.0,
) -> None:
    """Train and evaluate each method on each category with each seed; kill it, start it again, it goes on.

    Example: [bold]edge-benchmark --data mvtec3d --format mvtec3d --out benchmark --workers 4[/bold]
    """
    with ended_by_errors():
        base = TrainConfig() if config is None else load_strict_yaml(config, TrainConfig)
        lots = test_lots if test_lots is not None or layout != "captures" else TEST_LOTS
        options = dataset_options(
            layout_file=None if layout_file is None else layout_file.absolute(),
            light=light,
            test_lots=lots,
            depth_range=depth_range,
            depth_scale=depth_scale,
        )
        plan = plan_benchmark(
            DataSource(data.absolute(), layout, options),
            categories=None if categories is None else [word.strip() for word in categories.split(",")],
            methods=chosen_methods([word.strip() for word in methods.split(",")], base),
            seeds=parse_numbers(seeds, "--seeds"),
            parts=parse_parts(parts),
            evaluation=_evaluation(bootstrap, legacy),
            precision=precision,
        )
        store = ResultStore(out)
        if dry_run:
            _list(Benchmark(plan, store, data.name), as_json)
            return
        on_cluster = ray is not None and ray != LOCAL
        cores = len(os.sched_getaffinity(0))
        workshop = Workshop(
            out=out.absolute(),
            cache=None if no_cache else (cache or default_cache()).absolute(),
            cache_bytes=round(cache_gb * 1e9),
            accelerator=accelerator,
            threads=threads or (1 if on_cluster else max(1, cores // workers)),
            keep_runs=keep_runs,
        )
        pool = LocalPool(workers, workshop) if ray is None else RayPool(ray, workers, workshop)
        with store.locked():
            benchmark = Benchmark(plan, store, data.name)
            _run(benchmark, pool)
            _tell(benchmark, as_json)


def _evaluation(bootstrap: int, legacy: bool) -> EvaluationOptions:
    try:
        return EvaluationOptions(bootstrap=bootstrap, legacy=legacy)
    except ValidationError as error:
        raise ConfigError(f"--bootstrap: {said(error)}") from error


def _run(benchmark: Benchmark, pool: Pool) -> None:
    """Run under a bar; what is there is written at the end, however it comes."""
    console = Console(stderr=True, highlight=False)
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    try:
        with bars:
            total, done = len(benchmark.plan.jobs), len(benchmark.results)
            task = bars.add_task("jobs", total=total, completed=done)

            def seen(outcome: Outcome) -> None:
                console.print(_said(outcome), markup=False, soft_wrap=True)
                bars.update(task, advance=0 if isinstance(outcome.result, Failure) else 1)

            benchmark.run(pool, seen)
    except KeyboardInterrupt:
        console.print(
            f"{len(benchmark.results)} of {len(benchmark.plan.jobs)} jobs are done; the same command goes on"
        )
        raise
    finally:
        benchmark.write()


def _said(outcome: Outcome) -> str:
    result = outcome.result
    if isinstance(result, Failure):
        return f"failed: {outcome.job.label}"
    aupro = "–" if result.figures.aupro_30 is None else f"{result.figures.aupro_30:.3f}"
    seconds = (result.train_seconds or 0.0) + result.evaluate_seconds
    return f"{outcome.job.label}: I-AUROC {result.figures.i_auroc:.3f}, AUPRO@30 {aupro}, {seconds:.0f} s"


def _tell(benchmark: Benchmark, as_json: bool) -> None:
    if as_json:
        rows = [row.model_dump(mode="json") for row in benchmark.rows()]
        lost = [{"job": f.job.label, "key": f.job.key, "error": f.failure.error} for f in benchmark.failed]
        typer.echo(json.dumps({"rows": rows, "failed": lost}))
    else:
        layout = benchmark.plan.jobs[0].source.layout
        for found in tables(benchmark.plan, benchmark.rows(), published_for(layout)):
            table = RichTable(title=found.title, title_justify="left", title_style="bold")
            table.add_column("")
            for column in found.columns:
                table.add_column(column, justify="right")
            for name, texts in found.lines:
                table.add_row(name, *texts, style="bold" if name in found.strong else None)
            Console().print(table)
    if benchmark.failed:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        for failed in benchmark.failed:
            console.print(f"{failed.job.label}: {failed.failure.error}", style="red", markup=False)
        raise TrainingError(
            f"{len(benchmark.failed)} of {len(benchmark.plan.jobs)} jobs failed; the same command tries them "
            "again"
        )


def _list(benchmark: Benchmark, as_json: bool) -> None:
    def state(job: Job) -> str:
        return "done" if job.key in benchmark.results else "waiting"

    jobs = benchmark.plan.jobs
    if as_json:
        typer.echo(json.dumps([{"job": job.label, "key": job.key, "state": state(job)} for job in jobs]))
        return
    console = Console(highlight=False, soft_wrap=True)
    for job in jobs:
        console.print(f"{state(job):<8} {job.label}", markup=False)
    console.print(f"{len(benchmark.results)} of {len(jobs)} jobs are done")


def main() -> None:
    """Entry point of `edge-benchmark`."""
    app()
