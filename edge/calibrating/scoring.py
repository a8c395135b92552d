"""Captures → scores, by the device's own inspector; parts that are there twice are found by their look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone

import cv2
import numpy as np

from edge.bundle import Bundle
from edge.calibrating.captures import KnownCapture
from edge.calibrating.scores import KnownParts, ScoredPart, some
from edge.calibration import Calibration
from edge.capturing.likeness import Known
from edge.capturing.measuring import measure
from edge.errors import CalibrationError
from edge.frame import Frame
from edge.heatmap import encode_jpeg, overlay_image
from edge.inspection import Inspection, Outcome
from edge.inspector import Inspector
from edge.region_rules import RegionRules
from edge.runtime.runner import Runner
from edge.trained_on import TrainedOn

__all__ = ["Scorer", "pictures_of", "refuse_trained_on", "score_at"]

_ANY = 1.0
"""Rules need a calibration to be part of, and that needs a threshold; no critical one depends on it."""

_PICTURE_PX = 420


class Scorer:
    """Scores frames by a bundle without its threshold, and remembers what it could not judge.

    `rules` are part of the score. A score is the lowest threshold at which the part passes: what the rig will
    give it where no zone has a threshold of its own. Raises `CalibrationError` where they don't go with the
    model's score.
    """

    def __init__(self, bundle: Bundle, runner: Runner, rules: RegionRules | None = None) -> None:
        self._bundle = bundle
        self._zoned = rules is not None and rules.scales
        ruled = None if rules is None else _ruled_by(rules, bundle, _ANY)
        self._inspector = Inspector(replace(bundle, calibration=ruled), runner)
        self._seen = Known(rests=False)
        self._parts: list[ScoredPart] = []
        self._unjudged: list[tuple[str, str]] = []

    def add(
        self,
        name: str,
        frame: Frame,
        *,
        capture_sha256: str,
        defect: str | None = None,
        lot: str | None = None,
        serial: str | None = None,
    ) -> ScoredPart | None:
        """Score one frame; None where it can't be judged; raises `CalibrationError` where the model fails."""
        found = self._inspector.critical(frame)
        if isinstance(found, Inspection):
            _refuse_error(name, found)
            self._unjudged.append((name, found.reason or found.outcome.value))
            return None
        part = ScoredPart(
            name=name,
            score=found.threshold,
            good=defect is None,
            defect=defect,
            lot=lot,
            part=serial if defect is not None or serial is not None else self._part_of(name, frame),
            capture_sha256=capture_sha256,
            zones=found.zones,
        )
        self._parts.append(part)
        return part

    def known(self) -> KnownParts:
        """All that was scored, and a warning of what could not be."""
        if not self._unjudged:
            return KnownParts(tuple(self._parts), zoned=self._zoned)
        reasons = Counter(reason for _, reason in self._unjudged)
        said = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        return KnownParts(
            tuple(self._parts),
            (
                f"{len(self._unjudged)} captures can't be judged ({said}: "
                f"{some([name for name, _ in self._unjudged])}) and count neither way; parts like them "
                "get no decision on the rig, either",
            ),
            zoned=self._zoned,
        )

    def _part_of(self, name: str, frame: Frame) -> str:
        """The capture that shows the same part in the same place, by its look; itself where there is none."""
        thumbnail = measure(frame, self._bundle.manifest.preprocessing.foreground).thumbnail
        same = self._seen.same(thumbnail)
        if same is None:
            self._seen.add(name, thumbnail)
        return same or name


def _refuse_error(name: str, inspection: Inspection) -> None:
    if inspection.outcome is Outcome.ERROR:
        raise CalibrationError(
            f"{name}: the model gives no score ({inspection.reason}: {inspection.detail}); export it "
            "anew, or leave the capture out"
        )


def score_at(
    bundle: Bundle, runner: Runner, rules: RegionRules, threshold: float
) -> Callable[[str, Frame], float | None]:
    """What the rig scores a named frame with at a threshold; raises `CalibrationError` as `add` does."""
    inspector = Inspector(replace(bundle, calibration=_ruled_by(rules, bundle, threshold)), runner)

    def score(name: str, frame: Frame) -> float | None:
        inspection = inspector.inspect(frame)
        _refuse_error(name, inspection)
        return inspection.score

    return score


def _ruled_by(rules: RegionRules, bundle: Bundle, threshold: float) -> Calibration:
    return Calibration(
        calibration_id="to be found",
        model_sha256=bundle.model_sha256,
        threshold=threshold,
        method="manual",
        good_parts=1,
        created_utc=datetime.now(timezone.utc),
        region_rules=rules,
    )


def refuse_trained_on(captures: Iterable[tuple[str, str]], seen: TrainedOn | None) -> tuple[str, ...]:
    """What must be said of good captures, (name, sha256), that the model has seen.

    Raises `CalibrationError` where it was fitted to one.
    """
    if seen is None:
        return (
            "the bundle does not say which captures it was trained on: make sure that none of these was "
            "among them, or export it anew from a run of this version",
        )
    listed = list(captures)
    fitted = [name for name, digest in listed if digest in seen.train]
    if fitted:
        raise CalibrationError(
            f"{len(fitted)} of {len(listed)} good captures were trained on ({some(fitted)}): the model knows "
            "them, and scores them lower than it will score tomorrow's. Calibrate on others"
        )
    held_out = [name for name, digest in listed if digest in seen.held_out]
    if held_out:
        return (
            f"{len(held_out)} of {len(listed)} good captures were held out of training, which looked at them "
            f"to choose ({some(held_out)}): the promise is exact only for captures that it never saw",
        )
    return ()


def pictures_of(
    captures: Sequence[KnownCapture],
    bundle: Bundle,
    runner: Runner,
    calibration: Calibration,
    advance: Callable[[], None],
) -> dict[str, bytes]:
    """Each capture with its heatmap, as a small JPEG, by name; colours by the new threshold."""
    inspector = Inspector(replace(bundle, calibration=calibration), runner)
    found = {}
    for capture in captures:
        found[capture.name] = _small_jpeg(inspector.inspect(capture.sample.frame()))
        advance()
    return found


def _small_jpeg(inspection: Inspection) -> bytes:
    picture = overlay_image(inspection)  # (H, W, 3)
    if inspection.window_px is not None:
        x, y, width, height = inspection.window_px
        cut = picture[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
        picture = cut if cut.size else picture
    scale = _PICTURE_PX / max(picture.shape[:2])
    if scale < 1:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return encode_jpeg(np.ascontiguousarray(picture), 85)
