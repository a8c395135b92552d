"""edge-report: a run or a bundle as one HTML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from edge.bundle import load_bundle
from edge.commands.common import ended_by_errors
from edge.runtime import runner_for
from train.checkpoint import load_log, load_model
from train.commands.data_options import (
    LIGHT,
    Category,
    Data,
    DepthRange,
    DepthScale,
    Layout,
    LayoutFile,
    Light,
    TestLots,
    dataset_options,
)
from train.commands.option_errors import bad_option
from train.commands.progress import Bars
from train.datasets import open_dataset
from train.evaluation import EvaluationOptions, Predictor, predictor_of_bundle, predictor_of_model
from train.report.few_parts import load_rows
from train.report.page import check_page, write_page
from train.report.report import report_html
from train.report.results import JudgedParts, judge_parts
from train.report.story import story_of_bundle, story_of_run
from train.training import use_cpu_well

__all__ = ["main"]

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(name="report")
def command(
    *,
    data: Data,
    out: Annotated[Path, typer.Option(help="The HTML file; an older one is replaced.", show_default=False)],
    run: Annotated[Path | None, typer.Option(help="A run of edge-train (torch).")] = None,
    bundle: Annotated[Path | None, typer.Option(help="A bundle of edge-export (ONNX Runtime).")] = None,
    layout: Layout = "captures",
    category: Category = None,
    curve: Annotated[
        Path | None, typer.Option(help="JSON rows of a benchmark: accuracy over the number of good parts.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples for 95 % intervals; 0: none.", min=0)] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
    layout_file: LayoutFile = None,
    light: Light = LIGHT,
    test_lots: TestLots = None,
    depth_range: DepthRange = None,
    depth_scale: DepthScale = 1.0,
) -> None:
    """One HTML file that shows how often a model is right on the test split, and where it is wrong.

    Example: [bold]edge-report --run runs/gland --data captures/gland-test --out gland.html[/bold]
    """
    if (run is None) == (bundle is None):
        raise typer.BadParameter("give either --run or --bundle")
    try:
        asked = EvaluationOptions(bootstrap=bootstrap)
    except ValidationError as error:
        raise bad_option(error) from error
    with ended_by_errors():
        use_cpu_well()
        rows = () if curve is None else load_rows(curve)
        check_page(out)
        options = dataset_options(
            layout_file=layout_file,
            light=light,
            test_lots=test_lots,
            depth_range=depth_range,
            depth_scale=depth_scale,
        )
        samples = open_dataset(data, layout, category, held_out_share=0.5, options=options).test

        def judged_by(predictor: Predictor) -> JudgedParts:
            with Bars().task("test parts", len(samples)) as advance:
                return judge_parts(predictor, samples, advance, asked)

        if run is not None:
            model, info = load_model(run)
            story = story_of_run(run, model.label, info, load_log(run))
            preprocessing = model.preprocessing
            judged = judged_by(predictor_of_model(model, info.config.score))
        elif bundle is not None:
            loaded = load_bundle(bundle)
            story, preprocessing = story_of_bundle(loaded), loaded.manifest.preprocessing
            with runner_for(loaded) as runner:
                judged = judged_by(predictor_of_bundle(loaded, runner))
        write_page(out, report_html(story, judged, preprocessing, rows))
    if as_json:
        figures = None if judged.figures is None else judged.figures.model_dump(mode="json")
        typer.echo(json.dumps({"report": str(out), "parts": len(samples), "figures": figures}))
    else:
        Console(highlight=False).print(f"{out}: {len(samples)} test parts; open it in a browser")


def main() -> None:
    """Entry point of `edge-report`."""
    app()
