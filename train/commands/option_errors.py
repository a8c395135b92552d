"""What pydantic says of a wrong option, as a command line says it."""

from __future__ import annotations

import typer
from pydantic import ValidationError

__all__ = ["bad_option", "said"]


def said(error: ValidationError) -> str:
    """What is wrong, each mistake once, without the keys."""
    return "; ".join(_message(mistake["msg"]) for mistake in error.errors())


def bad_option(error: ValidationError) -> typer.BadParameter:
    """The first mistake, under the name that its key has as an option."""
    first = error.errors()[0]
    option = str(first["loc"][0]).replace("_", "-")
    return typer.BadParameter(f"--{option}: {_message(first['msg'])}")


def _message(text: str) -> str:
    return text.removeprefix("Value error, ")
