"""edge-export: from a run to a bundle that the device runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.commands.common import ended_by_errors
from export.bundle import export_bundle

__all__ = ["main"]

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def export(
    run: Annotated[Path, typer.Option(help="A run of edge-train.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the bundle; must not exist yet.", show_default=False)],
    tolerance: Annotated[
        float, typer.Option(help="Largest difference to torch allowed, relative to a tensor's spread.")
    ] = 1e-3,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was proven as JSON.")] = False,
) -> None:
    """Export a run to ONNX stages, prove each against torch, and write the bundle.

    Example: [bold]edge-export --run runs/gland --out bundles/gland[/bold]
    """
    console = Console(stderr=True)
    with ended_by_errors(), console.status("export") as status:
        parity = export_bundle(run, out, tolerance, lambda step: status.update(f"export: {step}"))
    if as_json:
        typer.echo(
            json.dumps({"bundle": str(out), "golden_samples": parity.samples, "worst": dict(parity.worst)})
        )
        return
    size_mb = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    Console().print(
        f"{out}: {size_mb:.1f} MB; ONNX Runtime against torch on {parity.samples} golden samples,"
    )
    for name, value in parity.worst.items():
        Console().print(f"  {name:<20} differs by at most {value:.1e} of its spread")


def main() -> None:
    """Entry point of `edge-export`."""
    app()
