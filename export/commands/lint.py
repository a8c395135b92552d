"""edge-export lint: whether TensorRT would build a graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.bundle import load_bundle
from edge.commands.common import ended_by_errors
from export.lint import lint_bundle, lint_file, refuse_errors

__all__ = ["lint"]


def lint(
    path: Annotated[Path, typer.Argument(help="A bundle's folder, or an .onnx file.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Look for what TensorRT would not build, or would compute otherwise; an error ends with 10.

    Example: [bold]edge-export lint bundles/gland[/bold]
    """
    with ended_by_errors():
        findings = lint_bundle(load_bundle(path)) if path.is_dir() else lint_file(path)
        if as_json:
            listed = [finding.model_dump(mode="json") for finding in findings]
            typer.echo(json.dumps({"path": str(path), "findings": listed}))
        else:
            console = Console(highlight=False, soft_wrap=True)
            for finding in findings:
                if finding.severity == "warning":
                    console.print("warning:", style="yellow", end=" ")
                    console.print(str(finding), markup=False)
            if not findings:
                console.print(f"{path}: nothing found", markup=False)
        refuse_errors(findings)
