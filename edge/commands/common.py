"""What all commands share: how they end, and how they say what went wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import typer
from rich.console import Console

from edge.errors import EdgeError
from edge.inspection import Outcome
from edge.logs import set_up_logging, stderr_is_the_journal

__all__ = ["OUTCOME_STYLES", "ended_by_errors", "run_command", "set_up_logging"]

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)

INTERRUPTED = 130

OUTCOME_STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.REVIEW: "bold yellow",
    Outcome.NO_DECISION: "yellow",
    Outcome.ERROR: "bold magenta",
}
"""How rich shows each outcome."""


def run_command(work: Callable[[], _Result]) -> _Result:
    """`work()`, with an `EdgeError` told on stderr and turned into its exit code.

    No traceback for an `EdgeError`: its message says what is wrong and how to mend it. Anything else is a
    mistake of ours and keeps its traceback. Ctrl-C ends with 130.
    """
    with ended_by_errors():
        return work()


@contextmanager
def ended_by_errors() -> Iterator[None]:
    """`run_command` as a context: raises `typer.Exit` with the code that the error has."""
    try:
        yield
    except EdgeError as error:
        if stderr_is_the_journal():
            _log.error("%s", error, extra={"exit_code": error.exit_code})
            raise typer.Exit(error.exit_code) from error
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        console.print("error:", style="bold red", end=" ")
        console.print(str(error), markup=False)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
