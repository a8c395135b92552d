"""Where verdicts of a daemon in a test come from."""

from __future__ import annotations

from edge.clock import Session
from edge.verdict import Provenance

__all__ = ["PROVENANCE"]

PROVENANCE = Provenance(
    session=Session(epoch=5, boot_id="boot", software_version="0"),
    product="plate",
    method="ast",
    model_sha256="a" * 64,
    calibration_id="c1",
    threshold_provisional=True,
    job_id=None,
    is_simulated=True,
)
