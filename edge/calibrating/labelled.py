"""A stretch of a rig's verdicts and what people said of their parts, as parts to calibrate with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge.calibrating.scores import KnownParts, ScoredPart, some
from edge.captures import GOOD
from edge.errors import CalibrationError, VersionUnknown
from edge.inspection import JUDGED, Outcome
from edge.messages import FREE_RUNNING
from edge.outbox_labels import StoredLabel, part_label
from edge.outbox_ledger import Ledger
from edge.outbox_records import StoredVerdict
from edge.region_rules import RegionRules
from edge.utc_time import utc_from_text

__all__ = ["LabelledStretch", "RulesOf", "defects_named", "judged_by", "labelled_parts"]

_PIECE = 1000

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
    for verdict, said in judged_by(ledger, stretch.model_sha256):
        result_id, outcome = verdict.result_id, verdict.outcome
        made = utc_from_text(said["creation_time"])
        if (stretch.since and made < stretch.since) or (stretch.until and made >= stretch.until):
            continue
        if not stretch.frames_are_parts and said.get("trigger") in FREE_RUNNING:
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


def judged_by(ledger: Ledger, model_sha256: str) -> Iterator[tuple[StoredVerdict, dict[str, Any]]]:
    """The verdicts by one model that say pass, review or fail, the oldest first, each with what it said.

    Raises `OutboxError`.
    """
    position = 0
    while verdicts := ledger.after(position, _PIECE):
        position = verdicts[-1].position
        for verdict in verdicts:
            if verdict.outcome in JUDGED:
                said = json.loads(verdict.payload)
                if said["model_sha256"] == model_sha256:
                    yield verdict, said


def defects_named(ledger: Ledger) -> Mapping[str, str | None]:
    """By the verdict's id, for each labelled part: the newest defect that anybody names of it, or None.

    Of each person the last label counts (`edge.outbox_labels.part_label`). Raises `OutboxError`.
    """
    said: dict[str, list[StoredLabel]] = {}
    position = 0
    while rows := ledger.labels_since(position, _PIECE):
        position = rows[-1].position
        for row in rows:
            if not row.replaced:
                said.setdefault(row.result_id, []).append(row)
    named = {result_id: part_label(labels) for result_id, labels in said.items()}
    return {result_id: None if label == GOOD else label for result_id, label in named.items()}


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
