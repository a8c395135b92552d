"""What an inspection found out about one frame."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from edge.frame import Frame

__all__ = ["JUDGED", "AnomalyMap", "Durations", "Inspection", "Outcome", "Region"]

AnomalyMap = npt.NDArray[np.float32]
"""(H, W) in the pixels of the frame; the unit is the method's own; 0 outside the foreground."""


class Outcome(str, Enum):
    """What is said about a part; never a guess: what can't be judged is `no_decision` or `error`.

    `review`: neither good nor bad by its score; a person is to look at it.
    """

    PASS = "pass"
    FAIL = "fail"
    REVIEW = "review"
    NO_DECISION = "no_decision"
    ERROR = "error"


JUDGED = frozenset({Outcome.PASS, Outcome.REVIEW, Outcome.FAIL})
"""What says something of the part by its score."""


@dataclass(frozen=True, slots=True)
class Region:
    """A connected area of the frame in which the anomaly map lies above the threshold, or that for review.

    `bbox_px` (x, y, width, height) and `centroid_px` (x, y) in pixels of the frame; `area_mm2` measured
    at the depth of the background plane; `peak` the largest value of the anomaly map inside.
    """

    bbox_px: tuple[int, int, int, int]
    centroid_px: tuple[float, float]
    area_px: int
    area_mm2: float
    peak: float


@dataclass(frozen=True, slots=True)
class Durations:
    """How long the steps of one inspection took, in milliseconds."""

    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float

    @property
    def total_ms(self) -> float:
        return self.preprocess_ms + self.inference_ms + self.postprocess_ms


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """The verdict about one frame, with what it rests on.

    `reason` says in one stable word (`no_part`, `depth_invalid`, `uncalibrated`, `not_finite`, …) why
    there is no decision, or what went wrong, and `detail` in a sentence for people; both None for pass,
    fail and review. `score`, `threshold` and `anomaly_map` are None where it did not come to them. `score` >
    `threshold` means fail, and what else is above `review_threshold`, where there is one, is for review;
    `regions` lie above the one or the other. `window_px` (x, y, width, height) is the part of the frame that
    the model saw.
    """

    frame: Frame
    outcome: Outcome
    durations: Durations
    reason: str | None = None
    detail: str | None = None
    score: float | None = None
    threshold: float | None = None
    review_threshold: float | None = None
    anomaly_map: AnomalyMap | None = None
    window_px: tuple[int, int, int, int] | None = None
    regions: tuple[Region, ...] = ()
