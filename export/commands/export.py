"""edge-export: from a run to a bundle that the device runs, and all that is done with bundles afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edge.commands.common import ended_by_errors
from edge.signing import read_private_key
from export.bundle import export_bundle
from export.commands.hand_over import keygen, pack, sign, unpack
from export.commands.lint import lint
from export.commands.options import Tolerance, passphrase, precisions_from, tolerances_of
from export.commands.verification_table import show_verification
from export.commands.verify import verify
from train.commands.default_command import DefaultCommandGroup
from train.commands.progress import Bars

__all__ = ["main"]


class _ExportUnlessNamed(DefaultCommandGroup):
    default = "export"


app = typer.Typer(
    cls=_ExportUnlessNamed,
    help="Export a run as a bundle, verify, lint, sign or pack one; export need not be named.\n\n"
    "Example: [bold]edge-export --run runs/gland --out bundles/gland[/bold]",
    add_completion=False,
    rich_markup_mode="rich",
)


@app.command(name="export")
def export(
    *,
    run: Annotated[Path, typer.Option(help="A run of edge-train.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the bundle; must not exist yet.", show_default=False)],
    precision: Annotated[
        str, typer.Option(help="fp32, fp16 or int8 for all stages, or by stage: teacher=fp16,student=int8.")
    ] = "fp32",
    key: Annotated[
        Path | None, typer.Option("--sign", help="Private key to sign the bundle with (edge-export keygen).")
    ] = None,
    tolerance: Tolerance = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was proven as JSON.")] = False,
) -> None:
    """Export a run to ONNX stages, verify each against torch, and write the bundle: whole or not at all.

    Example: [bold]edge-export --run runs/gland --out bundles/gland --precision fp16[/bold]
    """
    request, tolerances = precisions_from(precision), tolerances_of(tolerance)
    with ended_by_errors():
        signing_key = None if key is None else read_private_key(key, passphrase)
        exported = export_bundle(
            run,
            out,
            precision=request,
            tolerances=tolerances,
            signing_key=signing_key,
            progress=Bars(),
        )
    bundle, verification = exported.bundle, exported.verification
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "bundle": str(out),
                    "model_sha256": bundle.model_sha256,
                    "signed_by": None if bundle.signed_by is None else bundle.signed_by.fingerprint,
                    "verification": verification.model_dump(mode="json"),
                }
            )
        )
        return
    size_mb = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    show_verification(verification, f"{out}: {size_mb:.1f} MB")


app.command(name="verify")(verify)
app.command(name="lint")(lint)
app.command(name="keygen")(keygen)
app.command(name="sign")(sign)
app.command(name="pack")(pack)
app.command(name="unpack")(unpack)


def main() -> None:
    """Entry point of `edge-export`."""
    app()
