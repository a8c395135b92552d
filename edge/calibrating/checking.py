"""The promise of a calibration, held against what people said of the parts that the rig judged by it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from edge.calibrating.labelled import defects_named, judged_by
from edge.calibration import Calibration
from edge.errors import CalibrationError
from edge.inspection import Outcome
from edge.outbox_ledger import Ledger
from edge.promise_watch import PromiseCount, lower_bound

__all__ = ["PromiseCheck", "check_promise"]


class PromiseCheck(BaseModel):
    """What the labels say of a promise.

    `good` parts count as good, `rejected` of them; `unlabelled` rejected parts count neither way. `e_value`
    against the promise, which is broken from `e_value_limit` on; `rate_at_least` bounds the rate from below.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    calibration_id: str
    alpha: float
    level: float
    good: int
    rejected: int
    bad: int
    unlabelled: int
    e_value: float
    e_value_limit: float
    rate_at_least: float
    broken: bool

    @property
    def sentence(self) -> str:
        """In words, with what to do."""
        seen = f"{self.rejected} of {self.good} good parts were rejected"
        if self.broken:
            return (
                f"the promise of {100 * self.alpha:.3g} % is broken: {seen}, the rate is at least "
                f"{100 * self.rate_at_least:.3g} %; find what has changed, and calibrate on parts of today"
            )
        waiting = (
            f"; {self.unlabelled} rejected parts have no label, and count for nothing until they have"
            if self.unlabelled
            else ""
        )
        return f"nothing speaks against the promise of {100 * self.alpha:.3g} %: {seen}{waiting}"


def check_promise(ledger: Ledger, calibration: Calibration, level: float) -> PromiseCheck:
    """Count what an outbox holds of a calibration; raises `CalibrationError` where it promises nothing.

    A part is bad where anybody's newest label names a defect. Raises `OutboxError`.
    """
    alpha = calibration.false_reject_rate
    if calibration.provisional or alpha is None:
        raise CalibrationError(
            f"calibration {calibration.calibration_id} is provisional and promises nothing; calibrate with "
            "edge-calibrate fit"
        )
    named = defects_named(ledger)
    good = rejected = bad = unlabelled = 0
    for verdict, said in judged_by(ledger, calibration.model_sha256):
        if said["calibration_id"] != calibration.calibration_id:
            continue
        is_good = named[verdict.result_id] is None if verdict.result_id in named else None
        # One for a person to look at is below the threshold: the promise does not call it rejected.
        failed = verdict.outcome is Outcome.FAIL
        bad += is_good is False
        unlabelled += failed and is_good is None
        rejected += failed and is_good is True
        good += (is_good is not False) if not failed else (is_good is True)
    count = PromiseCount(good, rejected)
    limit = 1 / level
    e_value = count.e_value(alpha)
    return PromiseCheck(
        calibration_id=calibration.calibration_id,
        alpha=alpha,
        level=level,
        good=good,
        rejected=rejected,
        bad=bad,
        unlabelled=unlabelled,
        e_value=e_value,
        e_value_limit=limit,
        rate_at_least=lower_bound(count, alpha, level),
        broken=e_value >= limit,
    )
