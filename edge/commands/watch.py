"""`edge-watch`: all rigs at a broker, in a terminal."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from edge.commands.common import run_command
from edge.config import BrokerConfig
from edge.errors import ConfigError
from edge.watching.fleet import topics_below
from edge.watching.table import rig_table
from edge.watching.watch import LiveTable, Watch

__all__ = ["NEEDS_A_LOOK", "app", "main"]

NEEDS_A_LOOK = 23
_PORT, _TLS_PORT = 1883, 8883
_TABLE_WIDTH = 200  # where stdout is no terminal

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command()
def watch(
    *,
    host: Annotated[str, typer.Option(help="The broker.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Its port; 1883 if not given, 8883 with TLS.")
    ] = None,
    root: Annotated[
        str, typer.Option(help="Which rigs: `acme/dresden/#`, `+/+/+/line-3`; all if not given.")
    ] = "#",
    username: Annotated[str | None, typer.Option(help="Who to log in as.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="A file whose first line is the password.")
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Use TLS, with this machine's authorities.")] = False,
    ca_file: Annotated[Path | None, typer.Option(help="Use TLS, with this authority (PEM).")] = None,
    cert_file: Annotated[Path | None, typer.Option(help="Our certificate (PEM).")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
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
        config = _config(host, port, username, password_file, _tls(tls, ca_file, cert_file, key_file))
        with Watch(config, topics_below(root)) as watching:
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


def _tls(tls: bool, ca: Path | None, cert: Path | None, key: Path | None) -> dict[str, Path | None] | None:
    if not (tls or ca or cert or key):
        return None
    return {"ca_file": ca, "cert_file": cert, "key_file": key}


def _config(
    host: str,
    port: int | None,
    username: str | None,
    password_file: Path | None,
    tls: dict[str, Path | None] | None,
) -> BrokerConfig:
    try:
        return BrokerConfig.model_validate(
            {
                "host": host,
                "port": port or (_PORT if tls is None else _TLS_PORT),
                "username": username,
                "password_file": password_file,
                "tls": tls,
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{key or 'options'}: {first['msg']}") from error


def main() -> None:
    """The console entry."""
    app()


if __name__ == "__main__":
    main()
