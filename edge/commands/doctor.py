"""`edge-doctor`: what this machine can do, what is wrong and how to mend it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.doctor.machine import Machine
from edge.doctor.packages import incomplete
from edge.doctor.page import print_report
from edge.doctor.report import Level, Report

__all__ = ["FOUND_ERRORS", "app", "main"]

FOUND_ERRORS = 22
INTERRUPTED = 130

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


class Backend(str, Enum):
    """What runs the stages."""

    ONNX = "onnx"
    TENSORRT = "tensorrt"


@app.command()
def doctor(
    *,
    config: Annotated[
        Path | None,
        typer.Option(help="The rig's YAML: its camera, broker, bundle and folders are looked at."),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="A model bundle, instead of the rig's.")] = None,
    selftest: Annotated[
        bool, typer.Option("--selftest", help="Run the bundle's golden samples and compare with torch's.")
    ] = False,
    backend: Annotated[
        Backend | None, typer.Option(help="What is to run the stages; the rig's if not given, else onnx.")
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            help="Whose groups and rights are looked at; the service's user if not given, else yours."
        ),
    ] = None,
    unit: Annotated[str, typer.Option(help="The systemd unit of the daemon.")] = "edge-daemon.service",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout (docs/schemas/doctor.schema.json).")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done, on stderr.")] = False,
) -> None:
    """Say on one page what this machine can do, what is wrong and how to mend it.

    Changes nothing and publishes nothing; only a file in the state folder is written for a moment, and a
    connection to the broker opened under a client id of its own.

    **Example:** `edge-doctor --config rig.yaml --selftest`

    **Exit codes:** 0 nothing is an error (warnings may be there), 2 wrong command line, 22 at least one
    finding is an error.
    """
    logging.basicConfig(level=logging.DEBUG if verbose else logging.CRITICAL, stream=sys.stderr)
    stderr = Console(stderr=True)
    with stderr.status("looking …") as status:
        try:
            report = _report(
                config,
                bundle,
                backend=backend,
                selftest=selftest,
                user=user,
                unit=unit,
                progress=lambda what: status.update(f"{what} …"),
            )
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        sys.stdout.write(report.model_dump_json() + "\n")
    else:
        print_report(report, Console(highlight=False))
    if report.counts[Level.ERROR]:
        raise typer.Exit(FOUND_ERRORS)


def _report(
    config: Path | None,
    bundle: Path | None,
    *,
    backend: Backend | None,
    selftest: bool,
    user: str | None,
    unit: str,
    progress: Callable[[str], None],
) -> Report:
    try:
        # Only now: with a package missing that the rig's configuration needs, there is still a page.
        from edge.doctor.request import report_of  # noqa: PLC0415
    except ImportError as problem:
        return incomplete(Machine(), problem)
    return report_of(
        config,
        bundle,
        backend=backend.value if backend else None,
        selftest=selftest,
        user=user,
        unit=unit,
        progress=progress,
    )


def main() -> None:
    """The console entry."""
    app()


if __name__ == "__main__":
    main()
