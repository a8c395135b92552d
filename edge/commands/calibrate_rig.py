"""`edge-calibrate apply` and `rollback`: the calibration of a rig at work is changed over MQTT."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from edge.asking import RigLine, RunningRead, rig_at
from edge.calibrating.record import this_person
from edge.calibration_file import CALIBRATION_FILE, calibration_text, parse_calibration
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
from edge.commands.common import ended_by_errors
from edge.order_messages import CalibrationOrder, RollbackOrder
from edge.sealed import read_sealed

__all__ = ["Client", "InForce", "RigPlace", "Timeout", "apply", "apply_over", "rollback"]

_MOST_NAME = 128

RigPlace = Annotated[str, typer.Option(help="The rig: enterprise/site/area/line/cell.")]
Client = Annotated[
    str | None,
    typer.Option(
        help="Whose topic to command on (commands.allow); if not given --username, else everybody's."
    ),
]
_Expected = Annotated[
    int | None,
    typer.Option(min=0, help="Only where this version is in force; if not given, the one that the rig says."),
]
_Recipe = Annotated[str | None, typer.Option(help="Only where this recipe runs.")]
Timeout = Annotated[float, typer.Option(min=0.1, max=600, help="Seconds to wait for the rig.")]
_Json = Annotated[bool, typer.Option("--json", help="What is in force now, as one JSON object.")]


class InForce(BaseModel):
    """What `edge-calibrate apply --json` says is in force on the rig now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rig: str
    recipe: str
    model_sha256: str
    calibration_id: str | None
    calibration_version: int
    version_before: int
    threshold: float | None
    review_threshold: float | None

    @classmethod
    def of(cls, rig: str, running: RunningRead, version_before: int) -> InForce:
        return cls(
            rig=rig,
            recipe=running.name,
            model_sha256=running.model_sha256,
            calibration_id=running.calibration_id,
            calibration_version=running.version,
            version_before=version_before,
            threshold=running.threshold,
            review_threshold=running.review_threshold,
        )

    def say(self, *, as_json: bool) -> None:
        """On stdout."""
        if as_json:
            sys.stdout.write(self.model_dump_json() + "\n")
            return
        threshold = "none" if self.threshold is None else f"{self.threshold:.6g}"
        review = "" if self.review_threshold is None else f", review above {self.review_threshold:.6g}"
        Console(highlight=False).print(
            f"{self.rig}, recipe {self.recipe}: calibration {self.calibration_id}, version "
            f"{self.calibration_version} (before: {self.version_before}), threshold {threshold}{review}",
            markup=False,
            soft_wrap=True,
        )


def apply_over(line: RigLine, file: Path, expected: int | None, recipe: str | None) -> InForce:
    """Have the rig judge by the calibration in `file`.

    Raises what `RigLine.ask` does, `CalibrationForeign`, `BundleCorrupt` where the file was changed.
    """
    text, _ = read_sealed(file)
    running = line.running()
    calibration = parse_calibration(text, file, running.model_sha256)
    before = running.version
    answer = line.ask(
        CalibrationOrder,
        this_person()[:_MOST_NAME],
        expected_version=before if expected is None else expected,
        recipe=recipe,
        calibration=calibration_text(calibration),
    )
    return InForce.of(line.place, line.running_with(answer.calibration_version or 0), before)


def apply(
    path: Annotated[
        Path, typer.Argument(help="A calibration.yaml, or the folder (a bundle, --out) that holds one.")
    ],
    *,
    rig: RigPlace,
    host: Host = "127.0.0.1",
    port: Port = None,
    username: Username = None,
    password_file: PasswordFile = None,
    tls: Tls = False,
    ca_file: CaFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    client: Client = None,
    expected_version: _Expected = None,
    recipe: _Recipe = None,
    timeout: Timeout = 30.0,
    as_json: _Json = False,
) -> None:
    """Have a rig at work judge by a calibration, from its next part on.

    The rig is asked over MQTT, and keeps the version before: `edge-calibrate rollback` goes back to it. Of
    two who change it at once, one is refused.

    **Example:** `edge-calibrate apply calibration --host mqtt.acme.example --rig
    acme/dresden/assembly/line-3/cell-2`

    **Exit codes:** 0 it is in force; 2 wrong command line, 3 an option or a file, 5 the calibration was
    changed or is missing, 7 the broker, 11 it is another model's, 18 no rig answers, 19 the rig refuses.
    """
    with ended_by_errors():
        where = Where(host, port, username, password_file, tls, ca_file, cert_file, key_file)
        file = path / CALIBRATION_FILE if path.is_dir() else path
        with RigLine(where.config(), rig_at(rig), client or username, timeout) as line:
            apply_over(line, file, expected_version, recipe).say(as_json=as_json)


def rollback(
    *,
    to_version: Annotated[int, typer.Option(min=1, help="The version to judge by again.")],
    rig: RigPlace,
    host: Host = "127.0.0.1",
    port: Port = None,
    username: Username = None,
    password_file: PasswordFile = None,
    tls: Tls = False,
    ca_file: CaFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    client: Client = None,
    expected_version: _Expected = None,
    recipe: _Recipe = None,
    timeout: Timeout = 30.0,
    as_json: _Json = False,
) -> None:
    """Have a rig at work judge by an earlier version of its calibration again; that becomes a new version.

    **Example:** `edge-calibrate rollback --to-version 1 --host mqtt.acme.example --rig
    acme/dresden/assembly/line-3/cell-2`

    **Exit codes:** 0 it is in force; 2 wrong command line, 3 an option or a file, 7 the broker, 18 no rig
    answers, 19 the rig refuses.
    """
    with ended_by_errors():
        where = Where(host, port, username, password_file, tls, ca_file, cert_file, key_file)
        with RigLine(where.config(), rig_at(rig), client or username, timeout) as line:
            before = line.running().version
            answer = line.ask(
                RollbackOrder,
                this_person()[:_MOST_NAME],
                expected_version=before if expected_version is None else expected_version,
                recipe=recipe,
                to_version=to_version,
            )
            now = line.running_with(answer.calibration_version or 0)
            InForce.of(line.place, now, before).say(as_json=as_json)
