"""How commands end and how they log."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer

from edge.commands.common import run_command, set_up_logging
from edge.errors import BrokerRefused, EdgeError, RecordingCorrupt

ALL_ERRORS = [EdgeError, *EdgeError.__subclasses__(), BrokerRefused, RecordingCorrupt]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_each_error_has_its_exit_code_and_its_message(
    kind: type[EdgeError], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise kind("3 of 5 [bold]bolts[/bold] are loose; tighten them")

    with pytest.raises(typer.Exit) as caught:
        run_command(fail)
    assert caught.value.exit_code == kind.exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: 3 of 5 [bold]bolts[/bold] are loose; tighten them\n"


def test_what_went_well_is_given_back() -> None:
    assert run_command(lambda: 7) == 7


def test_an_interrupt_is_130() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as caught:
        run_command(interrupt)
    assert caught.value.exit_code == 130


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)


def test_logs_have_times_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    logging.getLogger("edge.x").warning("hot")
    logging.getLogger("edge.x").debug("not told")
    err = capsys.readouterr().err
    assert err.endswith("WARNING edge.x: hot\n")
    set_up_logging(verbose=True)
    logging.getLogger("edge.x").debug("told")
    assert "told" in capsys.readouterr().err


def test_logs_have_levels_in_the_journal_and_only_there() -> None:
    script = (
        "import logging, os, sys\n"
        "if sys.argv[1] == 'journal':\n"
        "    status = os.fstat(2)\n"
        "    os.environ['JOURNAL_STREAM'] = f'{status.st_dev}:{status.st_ino}'\n"
        "from edge.commands.common import set_up_logging\n"
        "set_up_logging()\n"
        "logging.getLogger('x').error('two\\nlines')\n"
    )
    told = {}
    for where in ("journal", "elsewhere"):
        told[where] = subprocess.run(
            [sys.executable, "-c", script, where],
            stderr=subprocess.PIPE,
            text=True,
            check=True,
            env=os.environ | {"JOURNAL_STREAM": "1:2"},
        ).stderr
    assert told["journal"] == "<3>x: two\n<3>lines\n"
    assert "<3>" not in told["elsewhere"]
