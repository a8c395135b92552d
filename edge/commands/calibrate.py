"""`edge-calibrate`: a threshold from good parts, with a promise about the good parts of tomorrow."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edge.calibrating.checking import check_promise
from edge.calibrating.need import ALPHAS, DELTAS, needs
from edge.calibrating.output import write_page
from edge.calibrating.page import need_page
from edge.calibrating.result import print_calibration
from edge.calibration import Calibration
from edge.calibration_file import CALIBRATION_FILE
from edge.commands.calibrate_fit import fit_command
from edge.commands.calibrate_live import live
from edge.commands.calibrate_rig import apply, rollback
from edge.commands.common import ended_by_errors
from edge.conformal import check_rate
from edge.errors import CalibrationError
from edge.outbox_ledger import Ledger
from edge.sealed import plain_data, read_sealed

__all__ = ["app", "main"]

PROMISE_BROKEN = 24

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


app.command("fit")(fit_command)


@app.command()
def show(
    path: Annotated[
        Path, typer.Argument(help="A calibration.yaml, or the folder (a bundle, --out) that holds one.")
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="The calibration as one JSON object.")] = False,
) -> None:
    """Show a calibration: its threshold, and what it promises.

    **Example:** `edge-calibrate show bundles/gland`

    **Exit codes:** 0, 2 wrong command line, 5 it was changed or is missing, 11 it can't be read.
    """
    with ended_by_errors():
        found = _calibration_at(path)
    if as_json:
        sys.stdout.write(found.model_dump_json() + "\n")
        return
    print_calibration(found, Console(highlight=False))


def _calibration_at(path: Path) -> Calibration:
    """A calibration by its file or the folder that holds one; raises `BundleError`, `CalibrationError`."""
    file = path / CALIBRATION_FILE if path.is_dir() else path
    try:
        return Calibration.model_validate(plain_data(read_sealed(file)[0]))
    except ValueError as error:  # pydantic's ValidationError is one
        raise CalibrationError(
            f"{file}: is not a calibration that this version can read: {error}; calibrate again"
        ) from error


@app.command()
def check(
    path: Annotated[
        Path, typer.Argument(help="The calibration.yaml, or the folder (a bundle, --out) that holds it.")
    ],
    *,
    outbox: Annotated[Path, typer.Option(help="The rig's outbox folder: its verdicts, and their labels.")],
    level: Annotated[
        float, typer.Option(help="The chance that a promise that is kept is ever called broken.")
    ] = 0.01,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object.")] = False,
) -> None:
    """Hold the promise of a calibration against what people said of the parts that it judged.

    It may be run as often as one likes. Label every rejected part (`cmd/label`): passed parts count as good
    unless a label says otherwise, rejected ones without a label count for nothing.

    **Example:** `edge-calibrate check bundles/gland --outbox /var/lib/edge-inspect/line-3/outbox`

    **Exit codes:** 0 nothing speaks against the promise, 24 it is broken, 2 wrong command line, 5 or 11 the
    calibration, 12 the outbox.
    """
    with ended_by_errors():
        check_rate(level, "level")
        calibration = _calibration_at(path)
        with Ledger(outbox) as ledger:
            found = check_promise(ledger, calibration, level)
    if as_json:
        sys.stdout.write(found.model_dump_json() + "\n")
    else:
        console = Console(highlight=False)
        said = f"{found.sentence[0].upper()}{found.sentence[1:]}."
        console.print(Text(said, "bold red" if found.broken else "green"), soft_wrap=True)
        console.print(
            f"evidence against it: {found.e_value:.3g}, of {found.e_value_limit:g} that would prove it "
            f"(at level {found.level:g}); {found.bad} bad parts are labelled",
            soft_wrap=True,
        )
    if found.broken:
        raise typer.Exit(PROMISE_BROKEN)


@app.command()
def need(
    *,
    alpha: Annotated[
        list[float] | None, typer.Option(help="The share of good parts that may be rejected; repeatable.")
    ] = None,
    delta: Annotated[
        list[float] | None, typer.Option(help="The chance that the promise does not hold; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A page (.html) with the table and a drawing.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per row and line.")] = False,
) -> None:
    """Say how many good parts a promise takes.

    **Example:** `edge-calibrate need --alpha 0.01 --delta 0.05`
    """
    with ended_by_errors():
        rows = needs(alpha or ALPHAS, delta or DELTAS)
        if out is not None:
            write_page(out, need_page(alpha or ALPHAS, delta or DELTAS))
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


app.command()(live)
app.command()(apply)
app.command()(rollback)


def main() -> None:
    """The console entry."""
    app()


if __name__ == "__main__":
    main()
