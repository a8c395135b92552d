"""edge-benchmark: a data set's categories × seeds × methods × numbers of good parts, as a table."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from edge.commands.common import ended_by_errors
from edge.errors import TrainingError
from edge.strict_yaml import load_strict_yaml
from train.benchmark.bench import Benchmark
from train.benchmark.job import DataSource, Job, Workshop
from train.benchmark.methods import DEFAULT_METHODS, chosen_methods
from train.benchmark.plan import parse_numbers, parse_parts, plan_benchmark
from train.benchmark.pool import Failure, LocalPool, Outcome, Pool
from train.benchmark.published import published_for
from train.benchmark.store import ResultStore
from train.benchmark.table import tables
from train.commands.train import default_cache
from train.config import TrainConfig
from train.datasets import DatasetOptions, Format
from train.evaluation import EvaluationOptions

__all__ = ["main"]

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(name="benchmark")
def command(
    *,
    data: Annotated[Path, typer.Option(help="Folder in which the categories lie.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="Folder for results and tables; goes on where it was.", show_default=False)
    ],
    layout: Annotated[Format, typer.Option("--format", help="How the data set is laid out.")] = "captures",
    categories: Annotated[str | None, typer.Option(help="Which, comma-separated; by default all.")] = None,
    methods: Annotated[
        str, typer.Option(help="Presets, and YAML files of methods, comma-separated.")
    ] = ",".join(DEFAULT_METHODS),
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0,1,2",
    parts: Annotated[str, typer.Option(help="Numbers of good parts, comma-separated.")] = "all",
    config: Annotated[Path | None, typer.Option(help="YAML that the presets change.")] = None,
    test_lots: Annotated[str, typer.Option(help="Of captures: which lots are tested on.")] = "test*",
    light: Annotated[int, typer.Option(help="Of eyecandies: image_0 to image_5.")] = DatasetOptions().light,
    layout_file: Annotated[
        Path | None, typer.Option(help="Of globs and pdreal: YAML that describes the folders.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples for each result's intervals.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each with a share of the cores.")] = 1,
    cache: Annotated[Path | None, typer.Option(help="Folder of the feature cache, shared.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no features.")] = False,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Keep each checkpoint.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the jobs, and which are done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Train and evaluate each method on each category with each seed; kill it, start it again, it goes on.

    Example: [bold]edge-benchmark --data mvtec3d --format mvtec3d --out benchmark --workers 4[/bold]
    """
    with ended_by_errors():
        base = TrainConfig() if config is None else load_strict_yaml(config, TrainConfig)
        options = DatasetOptions(
            light=light, layout_file=layout_file, test_lots=test_lots if layout == "captures" else None
        )
        plan = plan_benchmark(
            DataSource(data.absolute(), layout, options),
            categories=None if categories is None else [word.strip() for word in categories.split(",")],
            methods=chosen_methods([word.strip() for word in methods.split(",")], base),
            seeds=parse_numbers(seeds, "--seeds"),
            parts=parse_parts(parts),
            evaluation=EvaluationOptions(bootstrap=bootstrap),
        )
        store = ResultStore(out)
        if dry_run:
            _list(Benchmark(plan, store, str(data)), as_json)
            return
        workshop = Workshop(
            out=out.absolute(),
            cache=None if no_cache else (cache or default_cache()).absolute(),
            threads=max(1, len(os.sched_getaffinity(0)) // workers),
            keep_runs=keep_runs,
        )
        with store.locked():
            benchmark = Benchmark(plan, store, f"{data.name}: {len(plan.categories)} categories")
            _run(benchmark, LocalPool(workers, workshop))
            _tell(benchmark, as_json)


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
    seconds = result.train_seconds + result.evaluate_seconds
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
                table.add_row(name.replace("*", ""), *texts)
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
