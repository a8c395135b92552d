"""A bundle run over captures whose truth is known, up to its calibration and the pictures of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from rich.progress import Progress

from edge.bundle import Bundle
from edge.calibrating.captures import KnownCapture, frames_of_recording
from edge.calibrating.fitting import Asked, Fit, fit
from edge.calibrating.page import closest
from edge.calibrating.record import calibration_of
from edge.calibrating.scores import KnownParts, once_per_part
from edge.calibrating.scoring import Scorer, pictures_of, refuse_trained_on, score_at
from edge.calibrating.zones import rescored
from edge.calibration import Calibration
from edge.errors import CalibrationError
from edge.frame import Frame
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

    Where zones have thresholds of their own, all is scored a second time, at the threshold that was found.

    Raises `CalibrationError` where a capture was trained on, none can be judged, or the promise can't be
    given; `CaptureError`, `CameraError`, `RunnerError`.
    """
    with counting_bars() as progress, runner_for(bundle) as runner:
        known = _scored(bundle, material, runner, progress)
        found = fit(once_per_part(known, dedupe=dedupe), asked)
        if material.rules is not None and material.rules.scales:
            score = score_at(bundle, runner, material.rules, found.threshold)
            scores = {
                shown.name: score(shown.name, shown.frame)
                for shown in _shown(material, progress, "scores at it")
            }
            found = replace(found, known=rescored(found.known, found.threshold, scores))
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
    for shown in _shown(material, progress, "scores"):
        capture = shown.capture
        scorer.add(
            shown.name,
            shown.frame,
            capture_sha256=shown.sha256,
            defect=None if capture is None else capture.sample.defect,
            lot=shown.lot,
            serial=None if capture is None else capture.serial,
        )
    known = scorer.known()
    if not known.good:
        raise CalibrationError(
            f"none of {len(material.captures)} captures shows a good part that can be judged; "
            + (known.warnings[0] if known.warnings else "good parts lie in good/")
        )
    return replace(known, warnings=(*said, *known.warnings))


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """A frame under the name that its part has; `capture` None where it is of a recording."""

    name: str
    frame: Frame
    lot: str | None
    sha256: str
    capture: KnownCapture | None = None


def _shown(material: Material, progress: Progress, what: str) -> Iterator[_Shown]:
    """Every frame of the material, in the same order and under the same names each time; tells `progress`."""
    task = progress.add_task(what, total=len(material.captures))
    for number, capture in enumerate(material.captures):
        yield _Shown(capture.name, capture.sample.frame(number), capture.lot, capture.sha256, capture)
        progress.advance(task)
    if material.recording is not None:
        name = material.recording.name
        task = progress.add_task(name, total=None)
        for digest, frame in frames_of_recording(material.recording):
            yield _Shown(f"{name}/{frame.seq:06d}", frame, name, digest)
            progress.advance(task)


def _refuse_same_names(captures: Sequence[KnownCapture], digests: dict[str, str]) -> None:
    if len(digests) < len(captures):
        raise CalibrationError(
            "two lots of captures have one name, or one lot is given twice; give each once, under a name of "
            "its own"
        )
