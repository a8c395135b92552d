"""A verification for a person at a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from export.verification import TensorError, Verification

__all__ = ["show_verification"]


def show_verification(verification: Verification, title: str) -> None:
    """Print what was proven: a line per stage, one for the chain, and the scores."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(title, markup=False)
    table = Table("stage", "precision", "tensor", "error", "allowed", title_justify="left")
    for stage in verification.stages:
        for tensor, error in stage.outputs.items():
            table.add_row(stage.name, stage.precision, tensor, _number(error), f"{stage.tolerance:g}")
    tensor, error = list(verification.chain.items())[-1]
    allowed = f"{verification.chain_tolerance:g}"
    table.add_row("all in a chain", verification.precision, tensor, _number(error), allowed)
    console.print(table)
    scores = verification.scores
    console.print(
        f"errors: the largest on {verification.good_samples} good and {verification.defective_samples} "
        "defective golden samples, in standard deviations of what torch gives"
    )
    console.print(
        f"scores drift by at most {scores.drift:.2g}, {scores.drift_of_margin:.2g} of their margin ("
        f"allowed {scores.tolerance:g}); at the threshold {scores.threshold:.6g} "
        f"{len(verification.flipped)} verdicts flip"
    )
    if not verification.defective_samples:
        console.print(
            "[yellow]no golden sample is defective[/yellow]: no simulated defect shows on these parts, so "
            "nothing above the threshold was checked"
        )
    for warning in verification.warnings:
        console.print("warning:", style="yellow", end=" ")
        console.print(warning, markup=False)


def _number(error: TensorError) -> str:
    return f"{error.not_finite} not finite" if error.not_finite else f"{error.of_spread:.1e}"
