"""`edge-calibrate live`: good parts are laid down under a rig at work until they carry the promise."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from edge.asking import JudgedRead, RigLine, rig_at
from edge.calibrating.fitting import Asked, fit
from edge.calibrating.live import LiveScores, Said, Taken
from edge.calibrating.output import check_folder, write_folder
from edge.calibrating.page import calibration_page
from edge.calibrating.record import calibration_of, this_person
from edge.calibrating.result import FitReport, print_fit
from edge.calibration_file import CALIBRATION_FILE
from edge.capturing.keys import Key, Keyboard
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
from edge.commands.calibrate_options import Alpha, BestEffort, By, Delta
from edge.commands.calibrate_rig import Client, InForce, RigPlace, Timeout, apply_over
from edge.commands.common import ended_by_errors
from edge.conformal import parts_needed, training_conditional_promise

__all__ = ["live"]

_LOOK_S = 0.2
_KEYS = {"g": Said.GOOD, "b": Said.BAD, "s": Said.SKIP, "q": Said.QUIT}


class LiveReport(BaseModel):
    """What `edge-calibrate live --json` says; `in_force` only with `--apply`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fit: FitReport
    in_force: InForce | None


def live(
    *,
    rig: RigPlace,
    out: Annotated[
        Path, typer.Option(help="A new folder for calibration.yaml, calibration.html and scores.csv.")
    ],
    count: Annotated[
        int | None, typer.Option(min=1, help="How many good parts; if not given, what the promise takes.")
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Ask nobody: each part counts as good; lay down nothing else.")
    ] = False,
    alpha: Alpha = 0.01,
    delta: Delta = 0.05,
    best_effort: BestEffort = False,
    scores_out: Annotated[
        Path | None,
        typer.Option(help="Where each part is kept at once, and gone on from; else OUT-live.csv."),
    ] = None,
    apply_it: Annotated[bool, typer.Option("--apply", help="Have the rig judge by it in the end.")] = False,
    by: By = None,
    host: Host = "127.0.0.1",
    port: Port = None,
    username: Username = None,
    password_file: PasswordFile = None,
    tls: Tls = False,
    ca_file: CaFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    client: Client = None,
    timeout: Timeout = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object on stdout.")] = False,
) -> None:
    """Calibrate at the rig: lay parts down, say of each whether it is good, until the promise is carried.

    Keys: g good, b bad, s skip, q quit and calibrate with what there is. Scores are the rig's own. Each
    confirmed part is in --scores-out at once: the same command goes on where it ended.

    **Example:** `edge-calibrate live --host mqtt.acme.example --rig acme/dresden/assembly/line-3/cell-2
    --alpha 0.05 --out calibration --apply`

    **Exit codes:** 0 done; 2 wrong command line, 3 an option or --out, 7 the broker, 11 it can't be promised,
    or the rig judges by another model or other region rules by now, 18 no rig answers, 19 the rig refuses;
    130 interrupted.
    """
    if not auto and not sys.stdin.isatty():
        raise typer.BadParameter(
            "stdin is no terminal, so nobody can say of a part that it is good; run it in a terminal, or "
            "with --auto"
        )
    with ended_by_errors():
        where = Where(host, port, username, password_file, tls, ca_file, cert_file, key_file)
        check_folder(out)
        wanted = count or parts_needed(alpha, delta)
        training_conditional_promise(wanted, alpha, delta, best_effort=best_effort)  # refused before the work
        asked = Asked(alpha=alpha, delta=delta, best_effort=best_effort)
        with RigLine(where.config(), rig_at(rig), client or username, timeout, verdicts=True) as line:
            scores = LiveScores(scores_out or out.with_name(f"{out.name}-live.csv"), line)
            _collect(line, scores, asked, wanted, by_key=not auto)
            found = fit(scores.known(), asked)
            calibration = calibration_of(
                found,
                model_sha256=scores.model_sha256,
                replaces=scores.calibration_id,
                created_utc=datetime.now(timezone.utc).replace(microsecond=0),
                created_by=by or this_person(),
                rules=scores.rules,
            )
            page = calibration_page(found, product=scores.recipe, calibration=calibration, pictures={})
            write_folder(out, page, found.known.parts, calibration)
            in_force = apply_over(line, out / CALIBRATION_FILE, None, scores.recipe) if apply_it else None
    if as_json:
        report = LiveReport(fit=FitReport.of(found), in_force=in_force)
        sys.stdout.write(report.model_dump_json() + "\n")
        return
    console = Console(highlight=False)
    print_fit(found, console)
    console.print(f"Page, scores and calibration: {out}", markup=False, soft_wrap=True)
    if in_force is not None:
        in_force.say(as_json=False)


def _collect(line: RigLine, scores: LiveScores, asked: Asked, wanted: int, *, by_key: bool) -> None:
    """Ask of each part what it is, until so many good ones are confirmed, or the operator quits."""
    with ExitStack() as stack:
        keyboard = stack.enter_context(Keyboard(sys.stdin, text=True)) if by_key else None
        progress = stack.enter_context(
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                console=Console(stderr=True, highlight=False),
            )
        )
        task = progress.add_task("good parts", total=wanted)
        said_of_it: str | None = None

        def show() -> None:
            nonlocal said_of_it
            trouble = line.trouble()
            if trouble != said_of_it:
                progress.console.print(trouble or "the rig is there again", markup=False)
                said_of_it = trouble
            said = trouble or _promised(scores.good, asked)
            progress.update(task, completed=scores.good, description=said)

        missing = max(wanted - scores.good, 0)
        begun = f"; {scores.kept}, and count" if scores.good else ""
        told = f"{line.place}, recipe {scores.recipe}: {missing} good parts to collect{begun}"
        progress.console.print(told, markup=False, soft_wrap=True)

        while scores.good < wanted:
            show()
            judged = line.judged(_LOOK_S)
            if judged is None:
                if keyboard is not None and Said.QUIT in _said(keyboard, 0.0):
                    break
                continue
            taken = scores.look(judged)
            if taken is not Taken.NEW:
                progress.console.print(
                    f"{_told(judged)}: {taken.value}, not counted", markup=False, soft_wrap=True
                )
                continue
            said = Said.GOOD
            if keyboard is not None:
                _said(keyboard, 0.0)  # what was pressed before this part came was not meant for it
                progress.console.print(
                    f"{_told(judged)}: g good, b bad, s skip, q quit?", markup=False, soft_wrap=True
                )
                said = _answer(keyboard)
            if said is Said.QUIT:
                break
            if said is Said.SKIP:
                scores.pass_over(judged)
            else:
                scores.add(judged, good=said is Said.GOOD)
            so_far = _promised(scores.good, asked)
            progress.console.print(f"{_told(judged)}: {said.value}; {so_far}", markup=False, soft_wrap=True)
        show()
        progress.console.print(scores.kept, markup=False, soft_wrap=True)


def _answer(keyboard: Keyboard) -> Said:
    while True:
        said = _said(keyboard, _LOOK_S)
        if said:
            return said[0]


def _said(keyboard: Keyboard, wait_s: float) -> list[Said]:
    found = []
    for press in keyboard.pressed(wait_s):
        if press.key is Key.END:
            found.append(Said.QUIT)
        elif press.text.lower() in _KEYS:
            found.append(_KEYS[press.text.lower()])
    return found


def _promised(good: int, asked: Asked) -> str:
    if good == 0 or asked.delta is None:
        return "lay down good parts"
    promise = training_conditional_promise(good, asked.alpha, asked.delta, best_effort=True)
    return (
        f"so far at most {100 * promise.alpha:.3g} % of good parts rejected ({100 * (1 - asked.delta):g} %)"
    )


def _told(judged: JudgedRead) -> str:
    score = "no score" if judged.score is None else f"score {judged.score:.5g}"
    reason = "" if judged.reason is None else f" ({judged.reason})"
    return f"{judged.part_id or judged.result_id}: {judged.outcome}{reason}, {score}"
