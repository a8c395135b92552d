"""`edge-watch`: all rigs at a broker, in a terminal."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Annotated

import typer
from rich.console import Console

from edge.commands.broker_options import (
    CaFile,
    CertFile,
    Host,
    KeyFile,
    PasswordFile,
    Port,
    Tls,
    Username,
    Where,
)
from edge.commands.common import run_command
from edge.watching.fleet import topics_below
from edge.watching.table import rig_table
from edge.watching.watch import LiveTable, Watch

__all__ = ["NEEDS_A_LOOK", "app", "main"]

NEEDS_A_LOOK = 23
_TABLE_WIDTH = 200  # where stdout is no terminal

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command()
def watch(
    *,
    host: Host = "127.0.0.1",
    port: Port = None,
    root: Annotated[
        str, typer.Option(help="Which rigs: `acme/dresden/#`, `+/+/+/line-3`; all if not given.")
    ] = "#",
    username: Username = None,
    password_file: PasswordFile = None,
    tls: Tls = False,
    ca_file: CaFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    once: Annotated[
        float | None,
        typer.Option(min=0.1, max=3600, help="Listen so many seconds, say how the rigs are, and end."),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="A JSON object for each change of a rig; with --once one document of all."
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done, on stderr.")] = False,
) -> None:
    """Show all rigs at a broker: whether they are there, what they do, their last verdicts and warnings.

    Publishes nothing. A rig is `stale` where it is said to be online and its health is older than three
    intervals. What a broker sends is not believed: a malformed message is counted, at its rig.

    **Example:** `edge-watch --host mqtt.acme.example --ca-file ca.pem --cert-file dashboard.pem --key-file
    dashboard.key --root 'acme/dresden/#'`

    **Exit codes:** 0 (with --once: all rigs are online and warn of nothing), 2 wrong command line, 3 a file
    can't be read, 7 the broker can't be reached or refuses, 23 with --once: a rig needs a look, or there is
    none; 130 interrupted.
    """
    logging.basicConfig(level=logging.DEBUG if verbose else logging.CRITICAL, stream=sys.stderr)
    console = Console(highlight=False)
    if not (as_json or once or console.is_terminal):
        raise typer.BadParameter("stdout is no terminal; add --json, or --once SECONDS")

    def work() -> bool:
        where = Where(host, port, username, password_file, tls, ca_file, cert_file, key_file)
        with Watch(where.config(), topics_below(root)) as watching:
            if once is not None:
                return _once(watching, once, console, as_json=as_json)
            if as_json:
                watching.follow(lambda row: _line(row.model_dump_json()))
            with LiveTable(console, watching):
                threading.Event().wait()
        return True

    if not run_command(work):
        raise typer.Exit(NEEDS_A_LOOK)


def _once(watching: Watch, seconds: float, console: Console, *, as_json: bool) -> bool:
    report = watching.after(seconds)
    if as_json:
        _line(report.model_dump_json())
    else:
        if not console.is_terminal:
            console = Console(highlight=False, width=_TABLE_WIDTH)
        console.print(rig_table(report.rigs, report.broker))
    return bool(report.rigs) and not any(row.needs_a_look for row in report.rigs)


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """The console entry."""
    app()


if __name__ == "__main__":
    main()
