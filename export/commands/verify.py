"""edge-export verify: a bundle that exists, held against the run that it was exported from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edge.bundle import load_bundle
from edge.commands.common import ended_by_errors
from export.commands.options import Tolerance, tolerances_of
from export.commands.verification_table import show_verification
from export.verify import refuse_problems, verify_bundle
from train.commands.progress import Bars

__all__ = ["verify"]


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.", show_default=False)],
    run: Annotated[Path, typer.Option(help="The run that it was exported from.", show_default=False)],
    tolerance: Tolerance = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was found as JSON, also where it fails.")
    ] = False,
) -> None:
    """Verify a bundle again: a copy, on another machine, under another ONNX Runtime.

    Each stage and the chain of them must give what torch gives, and no golden sample may get another
    verdict at the bundle's threshold; else it ends with 10.

    Example: [bold]edge-export verify bundles/gland --run runs/gland[/bold]
    """
    with ended_by_errors():
        verification = verify_bundle(run, load_bundle(bundle), tolerances_of(tolerance), Bars())
        if as_json:
            told = {
                "bundle": str(bundle),
                "problems": list(verification.problems()),
                "verification": verification.model_dump(mode="json"),
            }
            typer.echo(json.dumps(told))
        else:
            show_verification(verification, str(bundle))
        refuse_problems(verification)
