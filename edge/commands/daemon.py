"""`edge-daemon`: inspect parts and publish verdicts, as one rig's YAML says."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from edge.commands.common import ended_by_errors, set_up_logging
from edge.config import RigConfig, load_rig_config
from edge.daemon import RunSummary
from edge.errors import ConfigError, ThreadHung
from edge.rig import check_rig, run_rig

__all__ = ["app", "main"]

_log = logging.getLogger(__name__)

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command()
def daemon(
    config: Annotated[Path, typer.Argument(help="The rig's YAML; docs/rig.example.yaml is one.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only check configuration, bundle, password and certificates.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Inspect the parts under a rig's camera and publish a verdict about each over MQTT.

    Runs until SIGTERM or Ctrl-C, or until a recording or folder ends; then it finishes the part in hand,
    waits for the broker's acknowledgements and says that it goes.

    **Example:** `edge-daemon --check rig.yaml && edge-daemon rig.yaml`

    **Exit codes:** 0 all is well, 2 wrong command line, 3 configuration, 4 camera, 5 bundle, 6 a stage
    can't run, 7 broker, or verdicts that it did not acknowledge, 11 calibration, 14 the trigger can't be
    heard, 15 a thread hangs.
    """
    set_up_logging(verbose)
    if check:
        _check(config, as_json)
        return
    with ended_by_errors():
        try:
            summary = run_rig(load_rig_config(config), path=config)
        except ThreadHung as error:
            _leave_at_once(error)
    _report(summary, as_json)


def _leave_at_once(error: ThreadHung) -> NoReturn:
    """End the process as it is: Python, and what it calls, would wait for the thread that hangs."""
    _log.critical("%s", error)
    logging.shutdown()
    os._exit(error.exit_code)


def _check(path: Path, as_json: bool) -> None:
    mistakes: list[str] = []
    loaded: RigConfig | None = None
    try:
        loaded = load_rig_config(path)
    except ConfigError as error:
        mistakes = str(error).splitlines()
    if loaded is not None:
        mistakes = [f"{path}: {mistake}" for mistake in check_rig(loaded, path)]
    if as_json:
        sys.stdout.write(json.dumps({"ok": not mistakes, "mistakes": mistakes}, ensure_ascii=False) + "\n")
    else:
        console = Console(stderr=bool(mistakes), soft_wrap=True, highlight=False)
        for mistake in mistakes:
            console.print(mistake, markup=False)
        if not mistakes:
            console.print(f"{path}: all is well", markup=False)
    if mistakes:
        raise typer.Exit(ConfigError.exit_code)


def _report(summary: RunSummary, as_json: bool) -> None:
    if as_json:
        result = {
            "verdicts": summary.verdicts,
            "acknowledged": summary.delivery.acknowledged,
            "outcomes": {outcome.value: count for outcome, count in summary.outcomes.items()},
        }
        sys.stdout.write(json.dumps(result) + "\n")
        return
    counts = ", ".join(f"{count} {outcome.value}" for outcome, count in summary.outcomes.items())
    text = f"{summary.verdicts} verdicts ({counts}), {summary.delivery.acknowledged} acknowledged"
    Console(soft_wrap=True, highlight=False).print(text, markup=False)


def main() -> None:
    """The console entry."""
    app()


if __name__ == "__main__":
    main()
