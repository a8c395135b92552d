"""An inspection as a verdict: with its id, its number, and where it comes from."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge.clock import Session
from edge.frame import Frame
from edge.inspection import Durations, Inspection, Outcome, Region
from edge.messages import ProcessingTimes, RegionInfo, TriggerKind, Verdict

__all__ = ["Circumstances", "Provenance", "error_verdict", "verdict_from_inspection"]

REGIONS_MAX = 32
"""More would make a verdict larger than small brokers take; the inspector gives the worst first."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What all verdicts of one run share: model, calibration, job, and which run it is."""

    session: Session
    product: str
    method: str
    model_sha256: str
    calibration_id: str | None
    threshold_provisional: bool | None
    job_id: str | None
    is_simulated: bool
    calibration_version: int | None = None


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Where one verdict comes from: its run, its camera, its number and its times.

    `start` and `end` (UTC) of the inspection; `acquisition_ms` how long the frame took to come;
    `latency_ms` from its arrival until now, None without a frame. What asked for it: `trigger`, with the
    `part_serial` and `request_id` that it named; `result_id` is the verdict's, a new one if not given.
    """

    provenance: Provenance
    camera_serial: str
    seq: int
    start: datetime
    end: datetime
    acquisition_ms: float
    latency_ms: float | None
    clock_synced: bool | None
    result_id: str | None = None
    trigger: TriggerKind | None = None
    part_serial: str | None = None
    request_id: str | None = None


def verdict_from_inspection(inspection: Inspection, circumstances: Circumstances) -> Verdict:
    """The verdict about `inspection`.

    A number that is not finite can't be sent, and no pass or fail can rest on it: such an inspection
    becomes `error` with the reason `not_finite`.
    """
    inspection = _finite(inspection)
    return _verdict(
        circumstances,
        inspection.frame,
        inspection.durations,
        {
            "outcome": inspection.outcome,
            "reason": inspection.reason,
            "detail": inspection.detail,
            "score": inspection.score,
            "threshold": inspection.threshold,
            "review_threshold": inspection.review_threshold,
            "regions": tuple(_region(region) for region in inspection.regions[:REGIONS_MAX]),
            "regions_total": len(inspection.regions),
        },
    )


def error_verdict(
    reason: str, detail: str, circumstances: Circumstances, *, frame: Frame | None = None
) -> Verdict:
    """The verdict where there is no inspection, and perhaps not even a frame."""
    return _verdict(
        circumstances,
        frame,
        Durations(preprocess_ms=0.0, inference_ms=0.0, postprocess_ms=0.0),
        {
            "outcome": Outcome.ERROR,
            "reason": reason,
            "detail": detail,
            "score": None,
            "threshold": None,
            "review_threshold": None,
            "regions": (),
            "regions_total": 0,
        },
    )


def _verdict(
    circumstances: Circumstances, frame: Frame | None, durations: Durations, found: Mapping[str, Any]
) -> Verdict:
    provenance, session = circumstances.provenance, circumstances.provenance.session
    start, end = circumstances.start, circumstances.end
    return Verdict(
        # Random, not made from epoch and seq: two verdicts must not share an id if a clock goes wrong.
        result_id=circumstances.result_id or str(uuid.uuid4()),
        part_id=circumstances.part_serial or (frame.part_id if frame else None),
        trigger=circumstances.trigger,
        request_id=circumstances.request_id,
        recipe_id=provenance.product,
        job_id=provenance.job_id,
        is_simulated=provenance.is_simulated,
        creation_time=end,
        processing_times=ProcessingTimes(
            start_time=start,
            end_time=end,
            acquisition_duration_ms=circumstances.acquisition_ms,
            processing_duration_ms=durations.total_ms,
            preprocess_ms=durations.preprocess_ms,
            inference_ms=durations.inference_ms,
            postprocess_ms=durations.postprocess_ms,
            latency_ms=circumstances.latency_ms,
        ),
        threshold_provisional=provenance.threshold_provisional,
        calibration_id=provenance.calibration_id,
        calibration_version=provenance.calibration_version,
        method=provenance.method,
        model_sha256=provenance.model_sha256,
        camera_serial=circumstances.camera_serial,
        frame_seq=frame.seq if frame else None,
        epoch=session.epoch,
        seq=circumstances.seq,
        boot_id=session.boot_id,
        clock_synced=circumstances.clock_synced,
        captured_time=frame.captured_utc if frame else None,
        captured_monotonic_ns=frame.captured_ns if frame else None,
        software_version=session.software_version,
        **found,
    )


def _finite(inspection: Inspection) -> Inspection:
    numbers = [inspection.score, inspection.threshold, inspection.review_threshold]
    for region in inspection.regions:
        numbers += [region.area_mm2, region.peak, *region.centroid_px]
    bad = [number for number in numbers if number is not None and not math.isfinite(number)]
    if not bad:
        return inspection
    return Inspection(
        frame=inspection.frame,
        outcome=Outcome.ERROR,
        durations=inspection.durations,
        reason="not_finite",
        detail=(
            f"score {inspection.score}, threshold {inspection.threshold}: {len(bad)} numbers are not finite; "
            "check the model with `edge-inspect` on this part"
        ),
        window_px=inspection.window_px,
    )


def _region(region: Region) -> RegionInfo:
    return RegionInfo(
        bbox_px=region.bbox_px,
        centroid_px=region.centroid_px,
        area_px=region.area_px,
        area_mm2=region.area_mm2,
        peak=region.peak,
    )
