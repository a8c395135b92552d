"""What several commands of edge-export ask for."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from pydantic import ValidationError

from edge.errors import ExportError, KeyUnusable
from edge.signing import PASSPHRASE_VARIABLE
from export.plan import PrecisionRequest, parse_precisions
from export.verification import Tolerances

__all__ = ["Tolerance", "new_passphrase", "passphrase", "precisions_from", "tolerances_of"]

Tolerance = Annotated[
    str | None,
    typer.Option(
        help="Other bounds on a tensor's error, in its standard deviations: 0.002 (fp32), fp16=0.1,int8=2."
    ),
]


def precisions_from(text: str) -> PrecisionRequest:
    """What `--precision` asks for; raises `typer.BadParameter` where it can't be read."""
    try:
        return parse_precisions(text)
    except ExportError as error:
        raise typer.BadParameter(str(error)) from error


def tolerances_of(text: str | None) -> Tolerances:
    """The bounds that `--tolerance` asks for, the others as they ship; raises `typer.BadParameter`."""
    usual = Tolerances().model_dump()
    for part in () if text is None else text.split(","):
        precision, _, bound = part.rpartition("=")
        try:
            usual[precision.strip() or "fp32"]["tensor"] = float(bound)
        except (KeyError, ValueError) as error:
            raise typer.BadParameter(
                f"--tolerance {text!r}: {part.strip()!r} is neither a number nor precision=number "
                f"with one of {', '.join(usual)}"
            ) from error
    try:
        return Tolerances.model_validate(usual)
    except ValidationError as error:
        raise typer.BadParameter(f"--tolerance {text!r}: a bound must be above 0 and finite") from error


def passphrase() -> str:
    """Ask the person at the terminal; raises `KeyUnusable` where there is none."""
    return _asked(confirmed=False)


def new_passphrase() -> str:
    """The passphrase for a new key: the environment's, or what a person types twice."""
    return os.environ.get(PASSPHRASE_VARIABLE) or _asked(confirmed=True)


def _asked(*, confirmed: bool) -> str:
    if not sys.stdin.isatty():
        raise KeyUnusable(f"nobody is there to ask for the passphrase; set {PASSPHRASE_VARIABLE} to it")
    return str(typer.prompt("Passphrase", hide_input=True, err=True, confirmation_prompt=confirmed))
