"""edge-evaluate: the field's figures for a run or a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from edge.bundle import load_bundle
from edge.commands.common import ended_by_errors
from edge.runtime import runner_for
from train.checkpoint import load_model
from train.commands.progress import Bars
from train.datasets import Format, open_dataset
from train.evaluation import (
    Evaluation,
    Figures,
    Predictor,
    evaluate,
    predictor_of_bundle,
    predictor_of_model,
    save_maps,
)
from train.training import use_cpu_well

__all__ = ["main"]

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(name="evaluate")
def command(
    *,
    data: Annotated[Path, typer.Option(help="Folder of the data set.", show_default=False)],
    run: Annotated[Path | None, typer.Option(help="A run of edge-train (torch).")] = None,
    bundle: Annotated[Path | None, typer.Option(help="A bundle of edge-export (ONNX Runtime).")] = None,
    layout: Annotated[Format, typer.Option("--format", help="How the data set is laid out.")] = "captures",
    category: Annotated[
        str | None, typer.Option(help="Category (MVTec 3D-AD) or product (captures).")
    ] = None,
    maps: Annotated[
        Path | None, typer.Option("--save-maps", help="Write each map as float32 .npy here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """I-AUROC, P-AUROC and exact AUPRO on the test split (of captures: on all of them).

    Example: [bold]edge-evaluate --bundle bundles/gland --data captures/gland-test --json[/bold]
    """
    if (run is None) == (bundle is None):
        raise typer.BadParameter("give either --run or --bundle")
    with ended_by_errors():
        use_cpu_well()
        samples = open_dataset(data, layout, category, held_out_share=0.5).test

        def judged(predictor: Predictor) -> Evaluation:
            with Bars().task("test parts", len(samples)) as advance:
                return evaluate(predictor, samples, advance)

        if run is not None:
            model, info = load_model(run)
            result = judged(predictor_of_model(model, info.config.score))
        elif bundle is not None:
            loaded = load_bundle(bundle)
            with runner_for(loaded, "onnx") as runner:
                result = judged(predictor_of_bundle(loaded, runner))
        if maps is not None:
            save_maps(maps, result)
    if as_json:
        typer.echo(result.figures.model_dump_json())
    else:
        Console().print(_table(result.figures))


def _table(figures: Figures) -> Table:
    table = Table(title=f"{figures.good} good and {figures.defective} defective parts")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in (
        ("I-AUROC", figures.i_auroc),
        ("P-AUROC", figures.p_auroc),
        ("AUPRO @ 30 %", figures.aupro_30),
        ("AUPRO @ 5 %", figures.aupro_5),
        ("AUPRO @ 1 %", figures.aupro_1),
        ("ground truth outside the mask", figures.ground_truth_outside_mask),
        *((f"I-AUROC {kind}", value) for kind, value in figures.i_auroc_by_defect.items()),
    ):
        table.add_row(name, f"{value:.4f}")
    return table


def main() -> None:
    """Entry point of `edge-evaluate`."""
    app()
