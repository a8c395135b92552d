"""What all commands share: how they end, and how they say what went wrong."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import typer
from rich.console import Console

from edge.errors import EdgeError
from edge.inspection import Outcome

__all__ = ["OUTCOME_STYLES", "ended_by_errors", "run_command", "set_up_logging"]

_Result = TypeVar("_Result")

INTERRUPTED = 130

OUTCOME_STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.NO_DECISION: "yellow",
    Outcome.ERROR: "bold magenta",
}
"""How rich shows each outcome."""

# systemd reads a syslog level in angle brackets from the start of a line (sd-daemon(3)).
_JOURNAL_LEVELS = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}


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
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        console.print("error:", style="bold red", end=" ")
        console.print(str(error), markup=False)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = _JOURNAL_LEVELS.get(record.levelno, 6)
        # A prefix for each line: the journal takes lines, not messages.
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())


def set_up_logging(verbose: bool = False) -> None:
    """Log to stderr: with levels that the journal understands under systemd, with times elsewhere."""
    handler = logging.StreamHandler(sys.stderr)
    if _stderr_is_the_journal():
        handler.setFormatter(_JournalFormatter("%(name)s: %(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)


def _stderr_is_the_journal() -> bool:
    """JOURNAL_STREAM names device and inode of the journal's socket; children inherit it elsewhere too."""
    named = os.environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # stderr is closed, or no file
        return False
    return named == f"{status.st_dev}:{status.st_ino}"
