"""`edge-demo`: the whole line on this computer, with no camera and no broker of your own."""

from __future__ import annotations

import sys
import webbrowser
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.commands.common import INTERRUPTED, ended_by_errors
from edge.demo.rig import DemoRig, packaged_bundle
from edge.demo.run import DaemonFailure, Demo
from edge.demo.view import TerminalView, show_summary
from edge.errors import BrokerError
from edge.rig import stopped_by_signals

__all__ = ["app", "main"]

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


class Broker(str, Enum):
    """Which broker to start."""

    AUTO = "auto"
    MOSQUITTO = "mosquitto"
    AMQTT = "amqtt"


@app.command()
def demo(
    *,
    parts: Annotated[int, typer.Option(min=1, help="How many simulated parts; half of them are bad.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Of the parts; another than those of the training.")] = 7,
    out: Annotated[
        Path | None,
        typer.Option(help="A new folder for the pictures; a new one below demo-output if not given."),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="A bundle of your own for a simulated product.")] = None,
    broker: Annotated[Broker, typer.Option(help="auto: mosquitto where it is installed.")] = Broker.AUTO,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the daemon's page in a browser.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON on stdout; all else goes to stderr.")
    ] = False,
) -> None:
    """Show the line at work: a simulated D405, the real daemon, a broker on 127.0.0.1, a subscriber.

    Each part's verdict, as it was received, stands beside the truth that only the simulation knows. The
    overlays and a contact sheet of all parts are left in a folder; a white line runs round what is truly
    defective. The address of the daemon's page is printed: look at it while the parts go by.

    **Example:** `edge-demo --parts 200 --seed 7`

    **Exit codes:** 0 every part's verdict reached the subscriber exactly once (whether or not it agrees with
    the truth), 7 one did not, or the broker failed, 130 interrupted; else what the daemon ended with.
    """
    console = Console(stderr=as_json)
    folder = out or Path("demo-output") / f"{datetime.now().astimezone():%Y-%m-%dT%H-%M-%S}"
    with ended_by_errors():
        rig = DemoRig.prepare(bundle or packaged_bundle(), folder, parts=parts, seed=seed)
        with TerminalView(console, parts) as view:
            run = Demo(rig, view, broker.value, show_page=webbrowser.open if open_page else lambda page: None)
            with stopped_by_signals(run.stop):
                summary = run.run()
        if isinstance(summary, DaemonFailure):
            Console(stderr=True, soft_wrap=True, highlight=False).print(
                f"edge-daemon ended with {summary.exit_code}; its log ends with:\n{summary.log_tail}",
                markup=False,
            )
            raise typer.Exit(summary.exit_code if summary.exit_code > 0 else 1)  # below 0: killed by a signal
        show_summary(console, summary)
        if as_json:
            sys.stdout.write(summary.model_dump_json() + "\n")
        if summary.interrupted:
            raise typer.Exit(INTERRUPTED)
        if not summary.delivered_once:
            raise BrokerError(
                f"{summary.verdicts} verdicts for {summary.parts} parts reached the subscriber, "
                f"{summary.duplicates} of them again; see {summary.folder / 'daemon.log'}"
            )


def main() -> None:
    """The console entry."""
    app()


if __name__ == "__main__":
    main()
