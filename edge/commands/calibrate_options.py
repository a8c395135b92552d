"""The options that every way to a calibration takes."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Alpha", "BestEffort", "By", "Delta"]

Alpha = Annotated[float, typer.Option(help="The share of good parts that may be rejected.")]
Delta = Annotated[
    float, typer.Option(help="The chance that the promise does not hold; 0.05 is 95 % confidence.")
]
BestEffort = Annotated[
    bool, typer.Option("--best-effort", help="With too few parts, promise what they can promise.")
]
By = Annotated[str | None, typer.Option(help="Who calibrates; else the user and the computer.")]
