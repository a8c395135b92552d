"""One frame → one inspection: preprocess, run the model, score, compare, find the regions."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from edge.bundle import ANOMALY_MAP, Bundle
from edge.calibration import Calibration
from edge.depth import Mask
from edge.errors import DepthUnusable, FrameError, GpuLost, RunnerError
from edge.frame import Frame
from edge.framing import View
from edge.grounds import Grounds
from edge.inspection import Durations, Inspection, Outcome, Region
from edge.preprocessing import Prepared, preprocess
from edge.ruled_score import NoPieceSoLarge, RuledMap, RuledScore, cell_mm2_of
from edge.runtime.runner import Runner
from edge.scoring import smooth_map

__all__ = ["Critical", "Inspector", "PreparedPart", "regions_above"]

_LOST_SHARE_LIMIT = 0.02
"""How much of the part may lie outside the view before a pass can no longer be trusted."""


_EDGE_PX = 3
"""How near the edge of the valid depth counts as at it: the mask's opening rounds its corners."""

_SEEN_SHARE = 0.1
"""How much of a column or row must have depth for the camera to see there."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPart:
    """A frame on its way to the model: its tensors, or what was said of it without the model.

    `undecided` is the inspection where there is nothing for the model to do; `prepared` is then None, but for
    a tray that was found empty.
    """

    frame: Frame
    preprocess_ms: float = 0.0
    prepared: Prepared | None = None
    undecided: Inspection | None = None


@dataclass(frozen=True, slots=True)
class Critical:
    """The lowest threshold at which a part passes, infinite where it never does or always; `zones` are those
    that reject it by their own thresholds alone.
    """

    threshold: float
    zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Mapped:
    """What the model made of a part: cells (m, m), smoothed (side, side), and what one of those covers."""

    frame: Frame
    prepared: Prepared
    cells: npt.NDArray[np.float32]
    square: npt.NDArray[np.float32]
    cell_mm2: float
    preprocess_ms: float
    inference_ms: float
    ran: float

    @property
    def durations(self) -> Durations:
        return Durations(self.preprocess_ms, self.inference_ms, _since_ms(self.ran))


class Inspector:
    """Judges frames by one bundle: `judge` on the thread that owns the runner, `prepare` on any one.

    Every frame gets an inspection; nothing that a frame can hold raises. What can't be judged is
    `no_decision`: `stale_frame` (the source said so), `depth_invalid`, `no_part`, `uncalibrated` (score and
    map are there, a threshold is not), `below_min_area` (so little of the part counts that nothing could
    fail), `part_exceeds_view` (what was seen is good, but not all was seen). What went wrong is `error`:
    `runner_failed`, `not_finite`. `grounds` holds what the trigger has found of a frame, by the same
    foreground, so that it is not found twice. Raises `CalibrationError` where the calibration's region rules
    don't go with the model's score.
    """

    def __init__(self, bundle: Bundle, runner: Runner, grounds: Grounds | None = None) -> None:
        self._bundle = bundle
        self._runner = runner
        self._grounds = Grounds() if grounds is None else grounds
        self._wanted = bundle.wanted | {"mask"}
        calibration, manifest = bundle.calibration, bundle.manifest
        rules = None if calibration is None else calibration.region_rules
        self._scoring = RuledScore(manifest.score, rules, manifest.preprocessing.depth_px)

    def inspect(self, frame: Frame) -> Inspection:
        """The inspection of one frame: `judge` of `prepare`.

        Raises `GpuLost`: this process can't inspect another.
        """
        return self.judge(self.prepare(frame))

    def prepare(self, frame: Frame) -> PreparedPart:
        """What comes before the model, and needs no runner."""
        started = time.perf_counter()
        if frame.stale is not None:
            return _undecided(frame, started, "stale_frame", frame.stale)
        try:
            prepared = preprocess(
                frame,
                self._bundle.manifest.preprocessing,
                self._wanted,
                ground=self._grounds.take(frame),
            )
        except DepthUnusable as error:
            return _undecided(frame, started, "depth_invalid", str(error))
        if not bool(prepared.part.any()):
            limit_mm = self._bundle.manifest.preprocessing.foreground.part_threshold_m * 1e3
            detail = f"nothing stands more than {limit_mm:g} mm above the background"
            return replace(_undecided(frame, started, "no_part", detail), prepared=prepared)
        return PreparedPart(frame, _since_ms(started), prepared)

    def judge(self, part: PreparedPart) -> Inspection:
        """The inspection of what `prepare` gave.

        Raises `GpuLost`: this process can't inspect another.
        """
        mapped = self._mapped(part)
        return mapped if isinstance(mapped, Inspection) else self._judge(mapped)

    def critical(self, frame: Frame) -> Critical | Inspection:
        """By what a part is ranked where a threshold is sought; where it has no score, its inspection.

        It does not depend on the calibration's threshold, only on its region rules. Raises `GpuLost`.
        """
        mapped = self._mapped(self.prepare(frame))
        if isinstance(mapped, Inspection):
            return mapped
        square, mask = mapped.square, mapped.prepared.mask
        if not bool(np.isfinite(square).all()):
            return _overflowed(mapped, float(square.max()))
        try:
            threshold = self._scoring.critical_threshold(square, mask, mapped.cell_mm2)
        except NoPieceSoLarge as error:
            return Inspection(
                frame, Outcome.NO_DECISION, mapped.durations, reason="below_min_area", detail=str(error)
            )
        alone = threshold == math.inf
        zones = self._scoring.rejecting_zones(square, mask, mapped.cell_mm2) if alone else ()
        return Critical(threshold, zones)

    def _mapped(self, part: PreparedPart) -> _Mapped | Inspection:
        if part.undecided is not None:
            return part.undecided
        if part.prepared is None:
            raise FrameError(
                f"frame {part.frame.seq} of {part.frame.source}: is not prepared by this inspector"
            )
        started = time.perf_counter()
        try:
            result = self._runner.run(part.prepared.tensors)[ANOMALY_MAP]
        except GpuLost:
            raise
        except RunnerError as error:
            times = Durations(part.preprocess_ms, _since_ms(started), 0.0)
            return _failed(part.frame, times, "runner_failed", str(error))
        cells = np.asarray(result[0, 0], dtype=np.float32)  # (m, m)
        inference_ms, ran = _since_ms(started), time.perf_counter()
        if not bool(np.isfinite(cells).all()):
            detail = (
                f"{int((~np.isfinite(cells)).sum())} of {cells.size} cells of the anomaly map are not numbers"
            )
            times = Durations(part.preprocess_ms, inference_ms, _since_ms(ran))
            return _failed(part.frame, times, "not_finite", detail)
        prepared = part.prepared
        square = smooth_map(cells, prepared.mask, self._bundle.manifest.score)  # (side, side)
        cell_mm2 = cell_mm2_of(prepared.view, square.shape[0], prepared.pixel_mm)
        return _Mapped(part.frame, prepared, cells, square, cell_mm2, part.preprocess_ms, inference_ms, ran)

    def _judge(self, mapped: _Mapped) -> Inspection:
        frame, prepared = mapped.frame, mapped.prepared
        calibration = self._bundle.calibration
        threshold = None if calibration is None else calibration.threshold
        review_threshold = None if calibration is None else calibration.review_threshold
        ruled = self._scoring.ruled(mapped.square, prepared.mask, threshold, mapped.cell_mm2)
        score: float | None = None
        regions: tuple[Region, ...] = ()
        decided: tuple[Outcome, str | None, str | None]
        try:
            score = self._scoring.score(ruled)
        except NoPieceSoLarge as error:
            decided = Outcome.NO_DECISION, "below_min_area", str(error)
        else:
            if not math.isfinite(score):
                return _overflowed(mapped, score)
            decided = _decide(score, calibration, self._unseen(frame, prepared))
            limit = {Outcome.FAIL: threshold, Outcome.REVIEW: review_threshold}.get(decided[0])
            if limit is not None:
                regions = regions_above(ruled, limit, prepared.view, prepared.pixel_mm)
        shown = ruled.square.astype(np.float32)
        anomaly_map = prepared.view.give_back(shown, frame.width_px, frame.height_px)  # (H, W)
        return Inspection(
            frame=frame,
            outcome=decided[0],
            durations=mapped.durations,
            reason=decided[1],
            detail=decided[2],
            score=score,
            threshold=threshold,
            review_threshold=review_threshold,
            anomaly_map=anomaly_map,
            window_px=_bounding_box(prepared.view),
            regions=regions,
        )

    def _unseen(self, frame: Frame, prepared: Prepared) -> str | None:
        """In a sentence, what of the part was not seen; None where all of it was."""
        if prepared.lost_share > _LOST_SHARE_LIMIT:
            return (
                f"{prepared.lost_share:.0%} of what stands above the background lies outside the model's "
                "view; one part at a time, inside the view"
            )
        # A fixed view may be meant to show a piece of something long; a window around a part is not.
        if prepared.box is not None and _reaches_edge(prepared.box, frame.depth_m > 0):
            return (
                "the part reaches the edge of what the camera sees, and may go on beyond it; move it, or the "
                "camera, so that all of the part is in view"
            )
        return None


def regions_above(ruled: RuledMap, threshold: float, view: View, pixel_mm: float) -> tuple[Region, ...]:
    """The connected areas of a view's map (side, side) above the threshold, the worst first.

    8-connected; a region's area is what it covers of the frame, `pixel_mm` the width of a frame's pixel on
    the background plane. What is too small to fail is none.
    """
    side = ruled.square.shape[0]
    above = ruled.above(threshold).astype(np.uint8)
    count, labels, stats, centroids = cv2.connectedComponentsWithStats(above, connectivity=8)
    affine = view.to_frame(side)
    scale = abs(float(np.linalg.det(affine[:, :2])))  # frame pixels per pixel of the square
    found = []
    for number in range(1, count):
        left, top, width, height, area = (int(v) for v in stats[number])
        if area < ruled.min_cells:
            continue
        corners = np.array(
            [[left, top], [left + width, top], [left, top + height], [left + width, top + height]],
            dtype=float,
        )
        in_frame = (corners - 0.5) @ affine[:, :2].T + affine[:, 2] + 0.5  # pixel edges, not centres
        low, high = np.floor(in_frame.min(axis=0)), np.ceil(in_frame.max(axis=0))
        centre = affine[:, :2] @ centroids[number] + affine[:, 2]
        found.append(
            Region(
                bbox_px=(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])),
                centroid_px=(float(centre[0]), float(centre[1])),
                area_px=max(1, round(area * scale)),
                area_mm2=area * scale * pixel_mm**2,
                peak=float(ruled.square[labels == number].max()),
            )
        )
    return tuple(sorted(found, key=lambda region: -region.peak))


def _decide(
    score: float, calibration: Calibration | None, unseen: str | None
) -> tuple[Outcome, str | None, str | None]:
    if calibration is None:
        detail = "the bundle has no calibration; calibrate it on good parts of this rig"
        return Outcome.NO_DECISION, "uncalibrated", detail
    if score > calibration.threshold:
        return Outcome.FAIL, None, None
    if calibration.review_threshold is not None and score > calibration.review_threshold:
        # Also where not all of it was seen: what was seen is reason enough for a person to look.
        return Outcome.REVIEW, None, None
    if unseen is not None:
        return Outcome.NO_DECISION, "part_exceeds_view", unseen
    return Outcome.PASS, None, None


def _reaches_edge(box: View, valid: Mask) -> bool:
    """Whether the part, by the box around it, ends where depth does, `valid` (H, W).

    That is at the frame's edge, or a D405's blind strip along it (that of its left side has no depth).
    """
    for axis in (0, 1):
        seen = np.flatnonzero(valid.mean(axis=axis) > _SEEN_SHARE)  # columns, then rows
        reach = (box.size_px[axis] - 1.0) / 2
        low, high = box.centre_px[axis] - reach, box.centre_px[axis] + reach
        if seen.size == 0 or low <= seen[0] + _EDGE_PX or high >= seen[-1] - _EDGE_PX:
            return True
    return False


def _undecided(frame: Frame, started: float, reason: str, detail: str) -> PreparedPart:
    times = Durations(preprocess_ms=_since_ms(started), inference_ms=0.0, postprocess_ms=0.0)
    said = Inspection(frame=frame, outcome=Outcome.NO_DECISION, durations=times, reason=reason, detail=detail)
    return PreparedPart(frame, times.preprocess_ms, undecided=said)


def _failed(frame: Frame, times: Durations, reason: str, detail: str) -> Inspection:
    return Inspection(frame=frame, outcome=Outcome.ERROR, durations=times, reason=reason, detail=detail)


def _overflowed(mapped: _Mapped, score: float) -> Inspection:
    overflow = f"the anomaly map reaches {mapped.cells.max():g}, and its smoothed score is {score}"
    return _failed(mapped.frame, mapped.durations, "not_finite", overflow)


def _since_ms(started: float) -> float:
    return (time.perf_counter() - started) * 1e3


def _bounding_box(view: View) -> tuple[int, int, int, int]:
    corners = view.corners_px() + 0.5  # pixel edges
    low, high = np.rint(corners.min(axis=0)), np.rint(corners.max(axis=0))
    return (int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
