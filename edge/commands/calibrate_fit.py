"""`edge-calibrate fit`: the threshold that good parts allow, and what it promises."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.bundle import load_bundle
from edge.calibrating.captures import captures_in
from edge.calibrating.fitting import Asked, Fit, Lots, fit
from edge.calibrating.gathering import Material, calibrate_bundle
from edge.calibrating.labelled import LabelledStretch
from edge.calibrating.labelled_fit import calibrate_labelled
from edge.calibrating.output import PAGE_FILE, check_folder, install, write_folder
from edge.calibrating.page import calibration_page
from edge.calibrating.record import this_person
from edge.calibrating.result import FitReport, print_fit
from edge.calibrating.scores import once_per_part, read_scores
from edge.calibrating.tradeoff import Costs
from edge.calibration import Calibration
from edge.commands.calibrate_options import Alpha, BestEffort, By, Delta
from edge.commands.common import ended_by_errors
from edge.errors import CalibrationError
from edge.region_rules import RegionRules
from edge.strict_yaml import load_strict_yaml

__all__ = ["fit_command"]


def fit_command(
    *,
    scores: Annotated[
        Path | None, typer.Option(help="A CSV with the columns score and perhaps label, lot, part.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="The model bundle's folder; it scores the captures.")
    ] = None,
    captures: Annotated[
        list[Path] | None,
        typer.Option(help="A lot of captures, a folder of lots, or a category of MVTec 3D-AD; repeatable."),
    ] = None,
    bad: Annotated[
        list[Path] | None, typer.Option(help="The same, of which only the bad parts are taken; repeatable.")
    ] = None,
    recording: Annotated[
        Path | None, typer.Option(help="A recording (.db3, .bag) whose every frame shows a good part.")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="Region rules (YAML) that are part of the score; see the docs.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="A rig's state folder: its verdicts by the bundle's model, and their labels."),
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Of --labels: verdicts from then on (this computer's time).")
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="Of --labels: verdicts before then.")] = None,
    unlabelled_good: Annotated[
        bool, typer.Option("--unlabelled-good", help="Of --labels: a rejected part without one is good.")
    ] = False,
    frames_are_parts: Annotated[
        bool, typer.Option("--frames-are-parts", help="Of --labels: each free-running frame is a new part.")
    ] = False,
    split: Annotated[str, typer.Option(help="Of MVTec 3D-AD: the split of --captures.")] = "validation",
    bad_split: Annotated[str, typer.Option(help="Of MVTec 3D-AD: the split of --bad.")] = "test",
    alpha: Alpha = 0.01,
    delta: Delta = 0.05,
    marginal: Annotated[
        bool, typer.Option("--marginal", help="Promise on average only, without a confidence: fewer parts.")
    ] = False,
    best_effort: BestEffort = False,
    lots: Annotated[
        Lots,
        typer.Option(help="pooled: parts as these; worst: of each lot seen; new: of a lot not seen."),
    ] = Lots.POOLED,
    review_alpha: Annotated[
        float | None, typer.Option(help="Also find where a person should look: this share of good parts.")
    ] = None,
    costs: Annotated[
        str | None,
        typer.Option(help="What a rejected good part and a passed bad one cost, such as 1:50."),
    ] = None,
    prevalence: Annotated[float, typer.Option(help="With --costs: the share of parts that is bad.")] = 0.01,
    weaken: Annotated[
        bool, typer.Option("--weaken", help="With --costs: take a cheaper threshold that promises less.")
    ] = False,
    dedupe: Annotated[
        bool, typer.Option("--dedupe", help="Count each part once, by its first capture.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="A new folder for calibration.yaml, calibration.html and scores.csv.")
    ] = None,
    install_it: Annotated[
        bool, typer.Option("--install", help="Put the calibration into the bundle, in place of its own.")
    ] = False,
    by: By = None,
    note: Annotated[str | None, typer.Option(help="A sentence to keep with the calibration.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object on stdout.")] = False,
) -> None:
    """Find the threshold that good parts allow, and say what it promises.

    Captures are scored by the bundle as the device does it, with a progress bar. One that the model was
    trained on is refused; a part that is there twice is found, by its serial or its look. With --labels the
    scores are those that the rig gave; each rejected part must have a label.

    **Example:** `edge-calibrate fit --bundle bundles/gland --captures captures/gland/lot7 --out calibration`

    **Exit codes:** 0 the promise is as asked for, or --best-effort took less; 2 wrong command line, 3 --out,
    4 captures, 5 bundle, 6 a stage can't run, 11 it can't be promised, or the scores can't be read, 12 the
    outbox.
    """
    with ended_by_errors():
        _check(scores, bundle, captures or recording, labels, rules, install_it=install_it)
        if labels is None and (since or until or unlabelled_good or frames_are_parts):
            raise typer.BadParameter(
                "--since, --until, --unlabelled-good, --frames-are-parts are of --labels"
            )
        if out is not None:
            check_folder(out)
        asked = Asked(
            alpha=alpha,
            delta=None if marginal else delta,
            best_effort=best_effort,
            lots=lots,
            review_alpha=review_alpha,
            costs=_costs(costs, prevalence),
            weaken=weaken,
        )
        product: str | None = None
        calibration: Calibration | None = None
        pictures: dict[str, bytes] = {}
        now, who = datetime.now(timezone.utc).replace(microsecond=0), by or this_person()
        if bundle is not None:
            loaded = load_bundle(bundle)
            if labels is not None:
                stretch = LabelledStretch(
                    loaded.model_sha256,
                    since=since and since.astimezone(timezone.utc),
                    until=until and until.astimezone(timezone.utc),
                    frames_are_parts=frames_are_parts,
                    unlabelled_good=unlabelled_good,
                )
                done = calibrate_labelled(
                    labels,
                    loaded,
                    stretch,
                    asked,
                    dedupe=dedupe,
                    created_utc=now,
                    created_by=who,
                    note=note,
                )
            else:
                good = [capture for path in captures or () for capture in captures_in(path, split)]
                known_bad = [capture for path in bad or () for capture in captures_in(path, bad_split)]
                material = Material(
                    captures=(*good, *(capture for capture in known_bad if not capture.good)),
                    recording=recording,
                    rules=None if rules is None else load_strict_yaml(rules, RegionRules),
                )
                done = calibrate_bundle(
                    loaded,
                    material,
                    asked,
                    dedupe=dedupe,
                    created_utc=now,
                    created_by=who,
                    note=note,
                )
            found, calibration, pictures = done.fit, done.calibration, done.pictures
            product = loaded.product
        elif scores is not None:
            found = fit(once_per_part(read_scores(scores), dedupe=dedupe), asked)
        if out is not None:
            page = calibration_page(found, product=product, calibration=calibration, pictures=pictures)
            write_folder(out, page, found.known.parts, calibration)
        if install_it and bundle is not None and calibration is not None:
            install(bundle, calibration)
    _print(found, as_json=as_json, out=out, installed=bundle if install_it else None)


def _check(
    scores: Path | None,
    bundle: Path | None,
    captures: object,
    labels: Path | None,
    rules: Path | None,
    *,
    install_it: bool,
) -> None:
    """What does not go together is a wrong command line."""
    if bundle is None:
        if captures:
            raise typer.BadParameter("--captures and --recording are scored by a bundle; give --bundle")
        if labels is not None:
            raise typer.BadParameter("--labels are of verdicts by one model; give its --bundle")
        if scores is None:
            raise typer.BadParameter(
                "say what to calibrate on: --bundle and --captures (or --labels), or --scores"
            )
        if rules is not None:
            raise typer.BadParameter("--rules are part of a score that a bundle gives; give --bundle")
        if install_it:
            raise typer.BadParameter("--install puts a calibration into a bundle; give --bundle")
    elif scores is not None:
        raise typer.BadParameter("--scores has scores already; leave out --bundle")
    elif labels is not None and (captures or rules is not None):
        raise typer.BadParameter(
            "--labels has the scores that the rig gave, by its own rules; leave out --captures, --recording, "
            "--rules"
        )
    elif labels is None and not captures:
        raise typer.BadParameter("--bundle has nothing to score; give --captures, --recording or --labels")


def _print(found: Fit, *, as_json: bool, out: Path | None, installed: Path | None) -> None:
    if as_json:
        sys.stdout.write(FitReport.of(found).model_dump_json() + "\n")
        return
    console = Console(highlight=False)
    print_fit(found, console)
    if out is not None:
        console.print(f"Page, scores and calibration: {out / PAGE_FILE}", markup=False, soft_wrap=True)
    if installed is not None:
        console.print(f"{installed} has this calibration now", markup=False, soft_wrap=True)


def _costs(text: str | None, prevalence: float) -> Costs | None:
    if text is None:
        return None
    good, colon, bad = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return Costs(float(good), float(bad), prevalence)
    except ValueError as error:
        raise CalibrationError(f"--costs {text!r}: must be two numbers, such as 1:50") from error
