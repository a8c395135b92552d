"""What a run of the demo came to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from edge.demo.gathering import PartResult
from edge.inspection import Outcome

__all__ = ["Counts", "Found", "PartLine", "Summary", "count", "delivered_once", "latencies_ms"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Found(_Strict):
    """How many of how many."""

    found: int
    shown: int


class PartLine(_Strict):
    """One part, its truth and its verdict; `overlay` relative to the run's folder."""

    part_id: str
    truth: str
    outcome: Outcome
    reason: str | None
    score: float | None
    threshold: float | None
    latency_ms: float | None
    agrees: bool
    overlay: str | None


class Counts(_Strict):
    """What rests on truth and verdicts alone; `undecided` got no decision or an error."""

    agreement: Found
    false_rejects: Found
    finds: dict[str, Found]
    undecided: int


class Summary(Counts):
    """The run in numbers; `delivered_once` says whether every part's verdict came, and none twice.

    `parts` were asked for, `verdicts` came. Latencies: from a frame's capture until its verdict was
    received, milliseconds. `train_seed` is what the bundle says of its training, None where it says nothing.
    """

    product: str
    seed: int
    train_seed: str | None
    model_sha256: str
    broker: Literal["mosquitto", "amqtt"]
    interrupted: bool
    parts: int
    verdicts: int
    duplicates: int
    heatmaps: int
    delivered_once: bool
    latency_p50_ms: float | None
    latency_max_ms: float | None
    seconds_to_first_verdict: float | None
    seconds: float
    folder: Path
    contact_sheet: Path | None
    lines: tuple[PartLine, ...]


def count(results: Sequence[PartResult]) -> Counts:
    """Agreement, false rejects among the good, finds among each kind of defect, and the undecided."""
    good = [r for r in results if r.truth is not None and r.defect is None]
    kinds = sorted({r.defect for r in results if r.defect is not None})
    return Counts(
        agreement=Found(found=sum(r.agrees for r in results), shown=len(results)),
        false_rejects=Found(found=_failed(good), shown=len(good)),
        finds={
            kind: Found(found=_failed(of_kind), shown=len(of_kind))
            for kind in kinds
            for of_kind in [[r for r in results if r.defect == kind]]
        },
        undecided=sum(
            r.verdict.outcome in {Outcome.REVIEW, Outcome.NO_DECISION, Outcome.ERROR} for r in results
        ),
    )


def _failed(results: Sequence[PartResult]) -> int:
    return sum(result.verdict.outcome is Outcome.FAIL for result in results)


def latencies_ms(results: Sequence[PartResult]) -> tuple[float | None, float | None]:
    """Median and largest latency; None where there is none."""
    latencies = [r.latency_ms for r in results if r.latency_ms is not None]
    return (statistics.median(latencies), max(latencies)) if latencies else (None, None)


def delivered_once(
    results: Sequence[PartResult], duplicates: int, *, made: int | None, shown: int | None
) -> bool:
    """Whether each part that was shown has one verdict, and each verdict that was made came once.

    `made` is how many the daemon says it made (None: it said nothing), `shown` how many parts there were
    (None: the run was interrupted, and nobody can say).
    """
    parts = {result.part_id for result in results if result.truth is not None}
    return duplicates == 0 and made == len(results) == len(parts) and shown in {None, made}
