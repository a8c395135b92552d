"""What a fit says: to a program, and to a person."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from edge.calibrating.fitting import Fit
from edge.calibrating.tradeoff import Rate
from edge.calibration import Calibration

__all__ = ["FitReport", "RateReport", "percent", "print_calibration", "print_fit"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RateReport(_Strict):
    """A count, and the exact 95 % interval of the rate behind it."""

    count: int
    of: int
    interval: tuple[float, float]

    @classmethod
    def from_rate(cls, rate: Rate) -> Self:
        return cls(count=rate.count, of=rate.of, interval=(rate.low, rate.high))


class LotReport(_Strict):
    """Whether lots differ; see `edge.calibrating.lots.LotTest`."""

    p_value: float
    differ: bool
    lot: str
    distance: float
    median_shift: float
    parts_by_lot: dict[str, int]


class FitReport(_Strict):
    """What `edge-calibrate fit --json` says.

    `alpha` and `confidence` are what is promised (`confidence` null: on average), `kept` whether that is what
    was asked for. `rejected_good` and `found_bad` of the parts that were scored.
    """

    threshold: float
    review_threshold: float | None
    method: str
    promise: str
    kept: bool
    alpha: float
    confidence: float | None
    asked_alpha: float
    asked_confidence: float | None
    good_parts: int
    bad_parts: int
    rank: int
    expected_rate: float
    rate_interval: tuple[float, float]
    rejected_good: RateReport
    found_bad: RateReport | None
    found_by_defect: dict[str, RateReport]
    lots: LotReport | None
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, fit: Fit) -> Self:
        promise, lots = fit.promise, fit.lot_test
        return cls(
            threshold=fit.threshold,
            review_threshold=fit.review_threshold,
            method=fit.method,
            promise=fit.sentence,
            kept=promise.kept,
            alpha=promise.alpha,
            confidence=None if promise.delta is None else 1 - promise.delta,
            asked_alpha=promise.asked_alpha,
            asked_confidence=None if promise.asked_delta is None else 1 - promise.asked_delta,
            good_parts=promise.parts,
            bad_parts=len(fit.known.bad),
            rank=promise.rank,
            expected_rate=promise.expected_rate,
            rate_interval=fit.rate_interval,
            rejected_good=RateReport.from_rate(fit.rejected),
            found_bad=None if fit.found is None else RateReport.from_rate(fit.found),
            found_by_defect={name: RateReport.from_rate(rate) for name, rate in fit.found_by_defect.items()},
            lots=None
            if lots is None
            else LotReport(
                p_value=lots.p_value,
                differ=lots.differ,
                lot=lots.lot,
                distance=lots.distance,
                median_shift=lots.median_shift,
                parts_by_lot=lots.parts_by_lot,
            ),
            warnings=fit.warnings,
        )


def percent(share: float) -> str:
    """A share in percent with three digits."""
    return f"{100 * share:.3g} %"


def print_fit(fit: Fit, console: Console) -> None:
    """The result for a person, the promise first."""
    console.print(
        Text(
            f"{fit.sentence[0].upper()}{fit.sentence[1:]}.",
            "bold green" if fit.promise.kept else "bold yellow",
        ),
        soft_wrap=True,
    )
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    low, high = fit.rate_interval
    table.add_row("threshold", f"{fit.threshold:.6g}")
    if fit.review_threshold is not None:
        table.add_row("for review above", f"{fit.review_threshold:.6g}")
    table.add_row(
        "false rejects to expect", f"{percent(fit.promise.expected_rate)} ({percent(low)} to {percent(high)})"
    )
    table.add_row("of the good parts scored", _rate(fit.rejected, "rejected"))
    if fit.found is not None:
        table.add_row("of the bad parts scored", _rate(fit.found, "found"))
        for name, rate in fit.found_by_defect.items():
            table.add_row(f"  {name}", _rate(rate, "found"))
    if fit.lot_test is not None:
        said = "differ" if fit.lot_test.differ else "are not seen to differ"
        table.add_row(
            f"its {len(fit.lot_test.parts_by_lot)} lots", f"{said} (p = {fit.lot_test.p_value:.3g})"
        )
    console.print(table)
    for warning in fit.warnings:
        console.print(Text(f"warning: {warning}", "yellow"), soft_wrap=True)


def _rate(rate: Rate, what: str) -> str:
    return f"{rate.count} of {rate.of} {what} ({percent(rate.low)} to {percent(rate.high)})"


def print_calibration(found: Calibration, console: Console) -> None:
    """A calibration for a person."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows: dict[str, object] = {
        "calibration": f"{found.calibration_id}, version {found.version}",
        "model": found.model_sha256,
        "threshold": f"{found.threshold:.6g}",
        "for review above": None if found.review_threshold is None else f"{found.review_threshold:.6g}",
        "promise": _promise_of(found),
        "false rejects to expect": None
        if found.good_rate_interval is None
        else " to ".join(percent(rate) for rate in found.good_rate_interval),
        "good parts": found.good_parts,
        "bad parts": found.bad_parts,
        "captures": len(found.captures) or None,
        "by": found.created_by,
        "at": f"{found.created_utc:%Y-%m-%d %H:%M:%S} UTC",
        "replaces": found.replaces,
        "note": found.note,
    }
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, Text(str(value)))
    console.print(table)


def _promise_of(found: Calibration) -> str:
    if found.provisional or found.false_reject_rate is None:
        return f"none: provisional ({found.method})"
    rate = f"at most {percent(found.false_reject_rate)} of good parts are rejected"
    if found.confidence is None:
        return f"{rate}, on average over such calibrations"
    return f"{rate}, with {percent(found.confidence)} confidence"
