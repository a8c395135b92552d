"""An inspector that finds what it was told to."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edge.frame import Frame
from edge.inspection import Durations, Inspection, Outcome, Region
from edge.inspector import PreparedPart

__all__ = ["ScriptedInspector"]

Finding = float | Exception
"""A score to give, or an error to raise."""


class ScriptedInspector:
    """Gives one finding after the other, and begins anew at the end: a score, judged by `threshold`.

    The anomaly map is `score` in one pixel in the middle and 0 around it; a fail has that pixel as region.
    """

    def __init__(self, findings: Iterable[Finding] = (0.2,), *, threshold: float = 1.0) -> None:
        self._findings = tuple(findings)
        self._threshold = threshold
        self.inspected = 0

    def prepare(self, frame: Frame) -> PreparedPart:
        return PreparedPart(frame)

    def judge(self, part: PreparedPart) -> Inspection:
        return self.inspect(part.frame)

    def inspect(self, frame: Frame) -> Inspection:
        finding = self._findings[self.inspected % len(self._findings)]
        self.inspected += 1
        if isinstance(finding, Exception):
            raise finding
        y, x = frame.height_px // 2, frame.width_px // 2
        anomaly_map = np.zeros((frame.height_px, frame.width_px), np.float32)
        anomaly_map[y, x] = finding
        failed = finding > self._threshold
        region = Region(
            bbox_px=(x, y, 1, 1), centroid_px=(float(x), float(y)), area_px=1, area_mm2=0.1, peak=finding
        )
        return Inspection(
            frame=frame,
            outcome=Outcome.FAIL if failed else Outcome.PASS,
            durations=Durations(preprocess_ms=1.0, inference_ms=2.0, postprocess_ms=0.5),
            score=finding,
            threshold=self._threshold,
            anomaly_map=anomaly_map,
            window_px=(0, 0, frame.width_px, frame.height_px),
            regions=(region,) if failed else (),
        )
