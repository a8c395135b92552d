"""`make bench`, `python -m tests.benchmarks`: how fast this computer inspects, and what the runner costs.

Ratios are what to compare between machines and versions: each compares works that took turns in one run. The
keys of the JSON stand in docs/performance.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.demo.rig import packaged_bundle
from tests.bench.measure import measure
from tests.bench.result import tables


def main(  # noqa: PLR0917  # typer calls it
    bundle: Annotated[Path | None, typer.Argument(help="a bundle; without it the demo's")] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="turns of each work; of those in ratios thrice as many")
    ] = 20,
    burst: Annotated[int, typer.Option(min=1, help="calls per turn, of which the fastest counts")] = 2,
    inspections: Annotated[int, typer.Option(min=1, help="how many the memory is watched over")] = 1000,
    triggers: Annotated[int, typer.Option(min=1, help="how many are timed on their way")] = 300,
    bank: Annotated[bool, typer.Option(help="measure a memory bank of random rows, too")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else")] = False,
) -> None:
    """Measure one inspection: its model, its steps, the daemon around it, its memory."""
    notes = Console(stderr=True)
    result = measure(
        "demo" if bundle is None else bundle.name,
        bundle or packaged_bundle(),
        rounds=rounds,
        burst=burst,
        inspections=inspections,
        triggers=triggers,
        bank=bank,
        progress=notes.log,
    )
    if as_json:
        typer.echo(result.model_dump_json(indent=2))
        return
    for table in tables(result):
        Console().print(table)


if __name__ == "__main__":
    typer.run(main)
