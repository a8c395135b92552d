"""The scores of one model as they come, and what they say of it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Literal

import numpy as np

from edge.messages import Verdict
from edge.score_evidence import TESTS, DriftEvidence, FailEvidence
from edge.score_messages import ScoreHealth, ScoreWarning
from edge.score_ranks import ScoreRanks
from edge.score_watch_config import ScoreWatchConfig

__all__ = ["RECENT", "RECENT_LEAST", "SHIFTED_SHARE", "ScoreStream"]

_log = logging.getLogger(__name__)

_LEAST_REFERENCE = 10
"""Fewer scores of set-up prove nothing: the reference is learnt instead."""

RECENT = 100
"""How many parts are "now"."""

RECENT_LEAST = 20

SHIFTED_SHARE = 0.65
"""A drift is worth a warning while so much of what is now lies beyond the reference's median, where half
should. It takes more than 30 % of parts from elsewhere (defects below the threshold, say) to get there, even
if all of them lie on one side: 0.7 × 1/2 + 0.3 = 0.65."""

_STILL_SHIFTED_SHARE = 0.6
"""Until it is less than this, so that a warning does not flicker."""


class ScoreStream:
    """Watches the scores of one model, calibration and threshold; not thread-safe.

    The null hypothesis, of which false alarms are counted: the scores below the threshold (strictly; it may
    be itself one of the reference's) come in an order that says nothing, the reference's before the line's,
    and each part fails with a chance of at most `max_fail_share`, whatever went before. Parts that fail are
    thus no evidence of a drift, for many may be really defective; what good parts below the threshold do is
    judged as it is, given that they are below it.
    """

    def __init__(
        self, first: Verdict, threshold: float, good_scores: Sequence[float] | None, config: ScoreWatchConfig
    ) -> None:
        self._config = config
        self._threshold = threshold
        self._calibration_id = first.calibration_id or "none"
        below = [score for score in good_scores or () if score < threshold]
        self._from_set_up = len(below) >= _LEAST_REFERENCE
        self._learnt: list[float] = below if self._from_set_up else []
        self._ranks = ScoreRanks(self._learnt)
        self._reference_median = median(below) if self._from_set_up else None
        self._limit = TESTS / config.level
        self._up = DriftEvidence(1, self._limit)
        self._down = DriftEvidence(-1, self._limit)
        self._too_many = FailEvidence(config.max_fail_share, self._limit)
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._recent_fails: deque[bool] = deque(maxlen=RECENT)
        self._tested = self._fails = self._parts = 0
        self._warning: ScoreWarning | None = None
        self._warned_s = 0.0
        seed = f"{first.model_sha256} {first.calibration_id} {first.epoch} {threshold!r}"
        # Chance only breaks ties; from a seed, so that the same verdicts always say the same.
        self._chance = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest(), "big"))
        _log.info(
            "watching the scores of model %s… by %s",
            first.model_sha256[:12],
            f"{len(below)} good parts of its calibration"
            if self._from_set_up
            else f"the first {config.learn_parts} parts that pass: its calibration has {len(below)} scores",
        )

    def add(self, score: float, *, failed: bool, tested: bool) -> None:
        """Take in a part that passed or failed; `tested`: it is another part than the one before."""
        self._fails += failed
        self._recent_fails.append(failed)
        if tested:
            self._too_many.add(failed, self._parts)
            self._parts += 1
        if score < self._threshold:
            self._add_below(score, tested)
        self._judge()

    def health(self, tested: bool) -> ScoreHealth:
        """How the scores are; `tested` as the last part was."""
        return ScoreHealth(
            state="not_tested" if not tested else "learning" if self._learning else "watching",
            calibration_id=self._calibration_id,
            reference="set_up" if self._from_set_up else "first_parts",
            reference_parts=self._reference_parts,
            reference_median=self._reference_median,
            tested=self._tested,
            fails=self._fails,
            recent_parts=len(self._recent),
            median_now=self._median_now,
            share_above=self._share_above,
            fail_share=self._fail_share,
            level=self._config.level,
            e_value_limit=self._limit,
            e_value_up=self._up.e_value,
            e_value_down=self._down.e_value,
            e_value_fails=self._too_many.e_value,
            direction=_DIRECTIONS.get(self._warning) if self._warning else None,
            warning=self._warning,
            detail=self._detail(self._warning) if self._warning else None if tested else _WHY_NOT,
            warned_for_s=time.monotonic() - self._warned_s if self._warning else None,
        )

    def _add_below(self, score: float, tested: bool) -> None:
        self._recent.append(score)
        if self._learning:
            self._learn(score)
        elif tested:
            seen = len(self._ranks)
            # Of 53 random bits, and a half more: never quite 0 or 1.
            chance = (int(self._chance.integers(1 << 53)) + 0.5) / (1 << 53)
            p_value = self._ranks.p_value(score, chance)
            self._up.add(p_value, seen)
            self._down.add(p_value, seen)
            self._tested += 1

    @property
    def _learning(self) -> bool:
        return self._reference_median is None

    @property
    def _reference_parts(self) -> int:
        return len(self._learnt)

    def _learn(self, score: float) -> None:
        self._learnt.append(score)
        self._ranks.add(score)
        if len(self._learnt) >= self._config.learn_parts:
            self._reference_median = median(self._learnt)
            _log.info(
                "learnt how scores are from %d parts that passed: median %.4g",
                len(self._learnt),
                self._reference_median,
            )

    @property
    def _median_now(self) -> float | None:
        return median(self._recent) if len(self._recent) >= RECENT_LEAST else None

    @property
    def _share_above(self) -> float | None:
        """Of the recent parts, with half of those that lie on the reference's median."""
        middle = self._reference_median
        if middle is None or len(self._recent) < RECENT_LEAST:
            return None
        return sum(1.0 if score > middle else 0.5 * (score == middle) for score in self._recent) / len(
            self._recent
        )

    @property
    def _fail_share(self) -> float | None:
        if len(self._recent_fails) < RECENT_LEAST:
            return None
        return sum(self._recent_fails) / len(self._recent_fails)

    def _judge(self) -> None:
        warning = self._found()
        if warning == self._warning:
            return
        if warning is None:
            _log.info("%s is over", self._warning)
        else:
            self._warned_s = time.monotonic()
            _log.warning("%s: %s", warning, self._detail(warning))
        self._warning = warning

    def _found(self) -> ScoreWarning | None:
        share, fail_share, now = self._share_above, self._fail_share, self._warning
        if share is not None:
            bar = _STILL_SHIFTED_SHARE if now == "scores_drifted_up" else SHIFTED_SHARE
            if self._up.proven and share >= bar:
                return "scores_drifted_up"
            bar = _STILL_SHIFTED_SHARE if now == "scores_drifted_down" else SHIFTED_SHARE
            if self._down.proven and 1.0 - share >= bar:
                return "scores_drifted_down"
        if fail_share is not None and self._too_many.proven and fail_share > self._config.max_fail_share:
            return "too_many_fails"
        return None

    def _detail(self, warning: ScoreWarning) -> str:
        if warning == "too_many_fails":
            return (
                f"of the last {len(self._recent_fails)} parts {self._fail_share or 0.0:.0%} failed, more "
                f"than score_watch.max_fail_share {self._config.max_fail_share:.0%}; unless they are bad, "
                "camera, light or product are not those of the set-up: look at the heatmaps, then calibrate"
            )
        up = warning == "scores_drifted_up"
        share = self._share_above or 0.0
        return (
            f"parts that pass score {'higher' if up else 'lower'} than at set-up: median "
            f"{self._median_now or 0.0:.4g}, was {self._reference_median or 0.0:.4g}; "
            f"{share if up else 1.0 - share:.0%} of the last {len(self._recent)} lie "
            f"{'above' if up else 'below'} that; "
            + (
                "good parts will begin to fail: clean lens and lamp, compare with the parts of set-up, then "
                "calibrate or train on parts of today"
                if up
                else "defects may score too low to be seen: check a part that is known to be bad, camera "
                "and light, then calibrate"
            )
        )


_DIRECTIONS: dict[ScoreWarning, Literal["up", "down"]] = {
    "scores_drifted_up": "up",
    "scores_drifted_down": "down",
}

_WHY_NOT = (
    "frames that nothing but time asked for may show one part many times, and no statement holds for those; "
    "where each shows another part, set score_watch.enabled: true"
)
