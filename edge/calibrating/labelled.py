"""A stretch of a rig's verdicts and what people said of their parts, as parts to calibrate with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge.calibrating.scores import KnownParts, ScoredPart, some
from edge.captures import GOOD
from edge.errors import CalibrationError, VersionUnknown
from edge.inspection import Outcome
from edge.messages import TriggerKind
from edge.outbox_ledger import Ledger
from edge.region_rules import RegionRules

__all__ = ["LabelledStretch", "RulesOf", "defects_named", "labelled_parts"]

_PIECE = 1000
_FREE_RUNNING = (TriggerKind.EVERY_FRAME.value, TriggerKind.INTERVAL.value)
_DECIDED = (Outcome.PASS, Outcome.REVIEW, Outcome.FAIL)

RulesOf = Callable[[str | None, int | None], RegionRules | None]
"""The region rules of a calibration by its id and version; raises `VersionUnknown`."""


@dataclass(frozen=True, slots=True)
class LabelledStretch:
    """Which verdicts count: those of one model, made from `since` until before `until` (None: no bound).

    `frames_are_parts`: each frame of a rig in free running showed another part. `unlabelled_good`: a rejected
    part without a label counts as good.
    """

    model_sha256: str
    since: datetime | None = None
    until: datetime | None = None
    frames_are_parts: bool = False
    unlabelled_good: bool = False


def labelled_parts(
    ledger: Ledger, stretch: LabelledStretch, rules: RegionRules | None, rules_of: RulesOf
) -> KnownParts:
    """All parts of the stretch that were judged by these region rules, good or bad as people said.

    A part is bad where anybody's newest label names a defect. Passed parts, and those for review, count as
    good without a label. Rejected ones must have theirs: left out, the good ones among them would be missing
    where the scores are high, and the threshold too low for its promise. Raises `CalibrationError` where they
    have not, or nothing is left; `OutboxError`.
    """
    named = defects_named(ledger)
    parts: list[ScoredPart] = []
    silent: list[str] = []
    assumed = other = free_running = 0
    for result_id, outcome, said in _judged(ledger, stretch):
        if not stretch.frames_are_parts and said.get("trigger") in _FREE_RUNNING:
            free_running += 1
            continue
        if not _scored_by(rules, said, rules_of):
            other += 1
            continue
        labelled = result_id in named
        if not labelled and outcome is Outcome.FAIL:
            silent.append(result_id)
        assumed += not labelled and outcome is not Outcome.FAIL
        defect = named.get(result_id)
        parts.append(
            ScoredPart(
                name=result_id,
                score=float(said["score"]),
                good=defect is None,
                defect=defect,
                lot=str(said["creation_time"])[:10],
                part=said["part_id"] or result_id,
            )
        )
    if silent and not stretch.unlabelled_good:
        raise CalibrationError(
            f"{len(silent)} rejected parts of this stretch have no label ({some(silent)}): good ones among "
            "them would be missing from the highest scores. Label them, end the stretch before (--until), or "
            "count them as good with --unlabelled-good, which keeps the promise and may let defects pass"
        )
    if not any(part.good for part in parts):
        raise CalibrationError(_nothing(free_running, other))
    return KnownParts(tuple(parts), tuple(_told(assumed, len(silent), other, free_running)))


def defects_named(ledger: Ledger) -> Mapping[str, str | None]:
    """By the verdict's id, for each labelled part: the defect that anybody's newest label names, or None."""
    found: dict[str, str | None] = {}
    position = 0
    while rows := ledger.labels_since(position, _PIECE):
        position = rows[-1].position
        for row in rows:
            if not row.replaced:
                said = None if row.label == GOOD else row.label
                found[row.result_id] = found.get(row.result_id) or said
    return found


def _judged(ledger: Ledger, stretch: LabelledStretch) -> Iterable[tuple[str, Outcome, dict[str, Any]]]:
    position = 0
    while verdicts := ledger.after(position, _PIECE):
        position = verdicts[-1].position
        for verdict in verdicts:
            if verdict.outcome not in _DECIDED:
                continue
            said = json.loads(verdict.payload)
            if said["model_sha256"] != stretch.model_sha256 or said["score"] is None:
                continue
            made = datetime.fromisoformat(said["creation_time"].replace("Z", "+00:00"))
            if stretch.since is not None and made < stretch.since:
                continue
            if stretch.until is not None and made >= stretch.until:
                continue
            yield verdict.result_id, verdict.outcome, said


def _scored_by(rules: RegionRules | None, said: Mapping[str, Any], rules_of: RulesOf) -> bool:
    try:
        return rules_of(said["calibration_id"], said.get("calibration_version")) == rules
    except VersionUnknown:
        return False


def _told(assumed: int, silent: int, other: int, free_running: int) -> Iterable[str]:
    if assumed:
        yield (
            f"{assumed} parts that passed have no label and count as good: if a share e of them is bad, the "
            "promise is of alpha / (1 - e)"
        )
    if silent:
        yield f"{silent} rejected parts without a label count as good; defects among them would pass now"
    if other:
        yield f"{other} parts were scored by other region rules than the rig's now, or unknown ones; left out"
    if free_running:
        yield f"{free_running} frames of free running may show one part many times; left out"


def _nothing(free_running: int, other: int) -> str:
    if free_running:
        return (
            f"nothing but {free_running} frames of free running, which may show one part many times; give "
            "--frames-are-parts if each shows another"
        )
    if other:
        return (
            f"all {other} parts were scored by other region rules than the rig's now, or by calibrations "
            "that its state does not hold; let it judge parts by these, or calibrate on captures"
        )
    return (
        "the outbox holds no good part that this model judged in this stretch; check --bundle, --since and "
        "--until, and outbox.ledger_days"
    )
