"""Verdicts to test with."""

from __future__ import annotations

from edge.clock import Session, utc_now
from edge.inspection import Durations, Inspection, Outcome, Region
from edge.messages import Verdict
from edge.testing.frames import flat_frame
from edge.verdict import Circumstances, Provenance, verdict_from_inspection

__all__ = ["sample_verdict"]

_REGION = Region(bbox_px=(1, 2, 3, 4), centroid_px=(2.5, 4.0), area_px=12, area_mm2=1.5, peak=3.0)
_PROVENANCE = Provenance(
    session=Session(epoch=7, boot_id="boot", software_version="0"),
    product="plate",
    method="ast",
    model_sha256="0" * 64,
    calibration_id="c1",
    threshold_provisional=True,
    job_id=None,
    is_simulated=True,
)


def sample_verdict(seq: int = 0, regions: int = 0) -> Verdict:
    """A verdict with that number: `pass`, or with `regions` `fail`."""
    now = utc_now()
    inspection = Inspection(
        frame=flat_frame(seq),
        outcome=Outcome.FAIL if regions else Outcome.PASS,
        durations=Durations(preprocess_ms=1.0, inference_ms=2.0, postprocess_ms=3.0),
        score=0.5,
        threshold=1.0,
        regions=(_REGION,) * regions,
    )
    circumstances = Circumstances(
        provenance=_PROVENANCE,
        camera_serial="SN1",
        seq=seq,
        start=now,
        end=now,
        acquisition_ms=1.0,
        latency_ms=5.0,
        clock_synced=None,
    )
    return verdict_from_inspection(inspection, circumstances)
