"""What a choice among configurations came to, as a table or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from train.choosing import Choice

__all__ = ["show_choice"]


def show_choice(choice: Choice, out: Path, *, as_json: bool) -> None:
    """Print the candidates, best first."""
    if as_json:
        rows = {name: {**f.model_dump(), "figure": f.figure} for name, f in choice.figures.items()}
        typer.echo(json.dumps({"best": str(out / choice.best), "figures": rows}))
        return
    table = Table("candidate", "I-AUROC", "AUPRO @ 5 %", "mean")
    for name, figures in choice.figures.items():
        numbers = (figures.i_auroc, figures.aupro_5, figures.figure)
        table.add_row(name, *(f"{number:.3f}" for number in numbers))
    console = Console()
    console.print(table)
    console.print(
        f"on {choice.probe_parts} held-out good parts and copies with simulated defects; best: "
        f"{out / choice.best}",
        highlight=False,
    )
