"""`edge-calibrate`: a threshold from good parts, with a promise about the good parts of tomorrow."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from edge.calibrating.fitting import Asked, Lots, fit
from edge.calibrating.need import ALPHAS, DELTAS, needs
from edge.calibrating.result import FitReport, print_fit
from edge.calibrating.scores import once_per_part, read_scores
from edge.calibrating.tradeoff import Costs
from edge.commands.common import ended_by_errors
from edge.errors import CalibrationError

__all__ = ["app", "main"]

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", no_args_is_help=True)


class NeedRow(BaseModel):
    """One line of `edge-calibrate need --json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float
    delta: float
    parts: int
    parts_for_half: int
    parts_on_average: int


@app.callback()
def calibrate() -> None:
    """Find a threshold from good parts, with a promise about the good parts of tomorrow.

    **Example:** `edge-calibrate fit --bundle bundles/gland --captures captures/gland/lot7 --out calibration`
    """


@app.command("fit")
def fit_command(
    *,
    scores: Annotated[
        Path | None, typer.Option(help="A CSV with the columns score and perhaps label, lot, part.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="The share of good parts that may be rejected.")] = 0.01,
    delta: Annotated[
        float, typer.Option(help="The chance that the promise does not hold; 0.05 is 95 % confidence.")
    ] = 0.05,
    marginal: Annotated[
        bool, typer.Option("--marginal", help="Promise on average only, without a confidence: fewer parts.")
    ] = False,
    best_effort: Annotated[
        bool, typer.Option("--best-effort", help="With too few parts, promise what they can promise.")
    ] = False,
    lots: Annotated[
        Lots,
        typer.Option(help="pooled: parts as these; worst: of each lot seen; new: of a lot not seen."),
    ] = Lots.POOLED,
    review_alpha: Annotated[
        float | None, typer.Option(help="Also find where a person should look: this share of good parts.")
    ] = None,
    costs: Annotated[
        str | None,
        typer.Option(help="What a rejected good part and a passed bad one cost, such as 1:50."),
    ] = None,
    prevalence: Annotated[float, typer.Option(help="With --costs: the share of parts that is bad.")] = 0.01,
    weaken: Annotated[
        bool, typer.Option("--weaken", help="With --costs: take a cheaper threshold that promises less.")
    ] = False,
    dedupe: Annotated[
        bool, typer.Option("--dedupe", help="Count each part once, by its first capture.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object on stdout.")] = False,
) -> None:
    """Find the threshold that good parts allow, and say what it promises.

    **Example:** `edge-calibrate fit --scores scores.csv --alpha 0.01 --delta 0.05 --json`

    **Exit codes:** 0 the promise is as asked for, or --best-effort took less; 2 wrong command line, 11 it
    can't be promised, or the scores can't be read.
    """
    with ended_by_errors():
        if scores is None:
            raise typer.BadParameter("say what to calibrate on: --scores FILE")
        asked = Asked(
            alpha=alpha,
            delta=None if marginal else delta,
            best_effort=best_effort,
            lots=lots,
            review_alpha=review_alpha,
            costs=_costs(costs, prevalence),
            weaken=weaken,
        )
        found = fit(once_per_part(read_scores(scores), dedupe=dedupe), asked)
    if as_json:
        sys.stdout.write(FitReport.of(found).model_dump_json() + "\n")
        return
    print_fit(found, Console(highlight=False))


@app.command()
def need(
    *,
    alpha: Annotated[
        list[float] | None, typer.Option(help="The share of good parts that may be rejected; repeatable.")
    ] = None,
    delta: Annotated[
        list[float] | None, typer.Option(help="The chance that the promise does not hold; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per row and line.")] = False,
) -> None:
    """Say how many good parts a promise takes.

    **Example:** `edge-calibrate need --alpha 0.01 --delta 0.05`
    """
    with ended_by_errors():
        rows = needs(alpha or ALPHAS, delta or DELTAS)
    if as_json:
        for row in rows:
            line = NeedRow(
                alpha=row.alpha,
                delta=row.delta,
                parts=row.parts,
                parts_for_half=row.parts_for_half,
                parts_on_average=row.parts_on_average,
            )
            sys.stdout.write(line.model_dump_json() + "\n")
        return
    table = Table(caption="Good parts that the model was not trained on.", caption_justify="left")
    for name in ("at most rejected", "confidence", "good parts", "until it rejects half of it", "on average"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            f"{100 * row.alpha:g} %",
            f"{100 * (1 - row.delta):g} %",
            str(row.parts),
            str(row.parts_for_half),
            str(row.parts_on_average),
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "With `good parts` the threshold is the largest score, which rejects a third of what is allowed on "
        "average: it passes more defects than it need. With `until it rejects half of it` that is half.",
        soft_wrap=True,
        markup=False,
    )


def _costs(text: str | None, prevalence: float) -> Costs | None:
    if text is None:
        return None
    good, colon, bad = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return Costs(float(good), float(bad), prevalence)
    except ValueError as error:
        raise CalibrationError(f"--costs {text!r}: must be two numbers, such as 1:50") from error


def main() -> None:
    """The console entry."""
    app()


if __name__ == "__main__":
    main()
