"""A bundle run over captures whose truth is known, up to its calibration and the pictures of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.progress import Progress

from edge.bundle import Bundle
from edge.calibrating.captures import KnownCapture, frames_of_recording
from edge.calibrating.fitting import Asked, Fit, fit
from edge.calibrating.page import closest
from edge.calibrating.record import calibration_of
from edge.calibrating.scores import KnownParts, once_per_part
from edge.calibrating.scoring import Scorer, pictures_of, refuse_trained_on
from edge.calibration import Calibration
from edge.errors import CalibrationError
from edge.region_rules import RegionRules
from edge.runtime import runner_for
from edge.runtime.runner import Runner
from edge.terminal import counting_bars
from edge.trained_on import trained_on

__all__ = ["Calibrated", "Material", "calibrate_bundle"]


@dataclass(frozen=True, slots=True)
class Material:
    """What to calibrate on: captures, a recording whose every frame shows a good part; rules of the score."""

    captures: tuple[KnownCapture, ...] = ()
    recording: Path | None = None
    rules: RegionRules | None = None


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A fit, its calibration, and the pictures (JPEG) of its closest parts by name."""

    fit: Fit
    calibration: Calibration
    pictures: dict[str, bytes]


def calibrate_bundle(
    bundle: Bundle,
    material: Material,
    asked: Asked,
    *,
    dedupe: bool,
    created_utc: datetime,
    created_by: str,
    note: str | None = None,
) -> Calibrated:
    """Score the material by the bundle, find the threshold, and show its closest parts.

    Raises `CalibrationError` where a capture was trained on, none can be judged, or the promise can't be
    given; `CaptureError`, `CameraError`, `RunnerError`.
    """
    with counting_bars() as progress, runner_for(bundle) as runner:
        known = _scored(bundle, material, runner, progress)
        found = fit(once_per_part(known, dedupe=dedupe), asked)
        calibration = calibration_of(
            found,
            model_sha256=bundle.model_sha256,
            replaces=None if bundle.calibration is None else bundle.calibration.calibration_id,
            created_utc=created_utc,
            created_by=created_by,
            note=note,
            rules=material.rules,
        )
        wanted = {part.name for group in closest(found) for part in group}
        shown = [capture for capture in material.captures if capture.name in wanted]
        task = progress.add_task("pictures", total=len(shown))
        pictures = pictures_of(shown, bundle, runner, calibration, lambda: progress.advance(task))
    return Calibrated(found, calibration, pictures)


def _scored(bundle: Bundle, material: Material, runner: Runner, progress: Progress) -> KnownParts:
    digests = {capture.name: capture.sha256 for capture in material.captures}
    _refuse_same_names(material.captures, digests)
    good = [(capture.name, digests[capture.name]) for capture in material.captures if capture.good]
    said = refuse_trained_on(good, trained_on(bundle)) if good else ()
    scorer = Scorer(bundle, runner, material.rules)
    task = progress.add_task("scores", total=len(material.captures))
    for number, capture in enumerate(material.captures):
        scorer.add(
            capture.name,
            capture.sample.frame(number),
            capture_sha256=digests[capture.name],
            defect=capture.sample.defect,
            lot=capture.lot,
            serial=capture.serial,
        )
        progress.advance(task)
    if material.recording is not None:
        task = progress.add_task(material.recording.name, total=None)
        for digest, frame in frames_of_recording(material.recording):
            scorer.add(
                f"{material.recording.name}/{frame.seq:06d}",
                frame,
                capture_sha256=digest,
                lot=material.recording.name,
            )
            progress.advance(task)
    known = scorer.known()
    if not known.good:
        raise CalibrationError(
            f"none of {len(material.captures)} captures shows a good part that can be judged; "
            + (known.warnings[0] if known.warnings else "good parts lie in good/")
        )
    return KnownParts(known.parts, (*said, *known.warnings))


def _refuse_same_names(captures: Sequence[KnownCapture], digests: dict[str, str]) -> None:
    if len(digests) < len(captures):
        raise CalibrationError(
            "two lots of captures have one name, or one lot is given twice; give each once, under a name of "
            "its own"
        )
