"""edge-evaluate: the field's figures for a run or a bundle."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError
from rich.console import Console

from edge.bundle import load_bundle
from edge.commands.common import ended_by_errors
from edge.errors import ConfigError
from edge.runtime import runner_for
from edge.scoring import ScoreSpec
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
from train.commands.figures_table import Metrics, figures_tables
from train.commands.option_errors import bad_option
from train.commands.progress import Bars
from train.datasets import open_dataset
from train.evaluation import (
    Evaluation,
    EvaluationOptions,
    Predictor,
    check_folder_for_maps,
    evaluate,
    predictor_of_bundle,
    predictor_of_run,
    save_maps,
)
from train.training import use_cpu_well

__all__ = ["main"]

ScoreKind = Literal["max", "mean", "top_mean"]

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(name="evaluate")
def command(
    *,
    data: Data,
    run: Annotated[Path | None, typer.Option(help="A run of edge-train (torch).")] = None,
    bundle: Annotated[Path | None, typer.Option(help="A bundle of edge-export (ONNX Runtime).")] = None,
    layout: Layout = "captures",
    category: Category = None,
    layout_file: LayoutFile = None,
    light: Light = LIGHT,
    test_lots: TestLots = None,
    depth_range: DepthRange = None,
    depth_scale: DepthScale = 1.0,
    metrics: Annotated[
        Metrics, typer.Option(help="AUPRO exact, by the thresholds of published code, or both.")
    ] = "exact",
    detection_rate: Annotated[
        float, typer.Option(help="Share of defective parts at which rejected good ones are counted.")
    ] = 0.95,
    bootstrap: Annotated[
        int, typer.Option(help="Resamples for 95 % intervals; 0: none, 1000 is usual.", min=0)
    ] = 0,
    score: Annotated[
        ScoreKind | None, typer.Option(help="Judge with this in place of the model's own score.")
    ] = None,
    smoothing_px: Annotated[
        float | None, typer.Option(help="In place of the score's own smoothing.", min=0)
    ] = None,
    top_share: Annotated[
        float | None, typer.Option(help="In place of the score's own share, of top_mean.", max=1)
    ] = None,
    maps: Annotated[
        Path | None, typer.Option("--save-maps", help="Write each map as float32 .npy here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """I-AUROC, P-AUROC, AUPRO on the test split (of captures: on all of them), per type of defect.

    Example: [bold]edge-evaluate --bundle bundles/gland --data captures/gland-test --json[/bold]
    """
    if (run is None) == (bundle is None):
        raise typer.BadParameter("give either --run or --bundle")
    override = _override({"kind": score, "smoothing_px": smoothing_px, "top_share": top_share})
    try:
        options = EvaluationOptions(
            detection_rate=detection_rate, legacy=metrics != "exact", bootstrap=bootstrap
        )
    except ValidationError as error:
        raise bad_option(error) from error
    with ended_by_errors():
        use_cpu_well()
        if maps is not None:
            check_folder_for_maps(maps)
        reading = dataset_options(
            layout_file=layout_file,
            light=light,
            test_lots=test_lots,
            depth_range=depth_range,
            depth_scale=depth_scale,
        )
        samples = open_dataset(data, layout, category, 0.5, reading).test

        def judged(predictor: Predictor) -> Evaluation:
            chosen = options.model_copy(update={"score": _score(predictor.score, override)})
            with Bars().task("test parts", len(samples)) as advance:
                return evaluate(predictor, samples, advance, chosen)

        if run is not None:
            result = judged(predictor_of_run(run))
        elif bundle is not None:
            loaded = load_bundle(bundle)
            with runner_for(loaded) as runner:
                result = judged(predictor_of_bundle(loaded, runner))
        if maps is not None:
            save_maps(maps, result)
    if as_json:
        typer.echo(result.figures.model_dump_json())
    else:
        Console(highlight=False).print(figures_tables(result.figures, metrics))


def _override(values: dict[str, object]) -> dict[str, object]:
    """The options of the score function that were given; raises `typer.BadParameter` for a wrong one."""
    given = {name: value for name, value in values.items() if value is not None}
    if given.get("smoothing_px") == math.inf:
        raise typer.BadParameter("--smoothing-px: inf would leave nothing of the map; give pixels, such as 4")
    try:
        ScoreSpec.model_validate(given)
    except ValidationError as error:
        raise bad_option(error) from error
    return given


def _score(own: ScoreSpec, override: dict[str, object]) -> ScoreSpec | None:
    """The model's score function with what the options change, None where they change nothing."""
    score = ScoreSpec.model_validate({**own.model_dump(), **override})
    if "top_share" in override and score.kind != "top_mean":
        raise ConfigError(
            f"--top-share is that of top_mean, the score here is {score.kind}; give --score top_mean as well"
        )
    return score if override else None


def main() -> None:
    """Entry point of `edge-evaluate`."""
    app()
