"""What people found out about parts afterwards, beside the verdicts that the parts had."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge.captures import GOOD
from edge.errors import ResultUnknown
from edge.inspection import Outcome
from edge.outbox_records import from_microseconds, to_microseconds

__all__ = [
    "LABELS_MAX",
    "LABEL_SCHEMA",
    "SELECT_LABELS",
    "PartLabel",
    "StoredLabel",
    "insert_label",
    "part_label",
    "stored_label",
]

LABELS_MAX = 100_000
"""Far more than people label; a program in a loop must not fill the disk."""

LABEL_SCHEMA = """
CREATE TABLE label (  -- with a copy of what the verdict said, for a label outlives the ledger
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    result_id TEXT NOT NULL,
    issued_by TEXT NOT NULL,
    label TEXT NOT NULL,
    note TEXT,
    labelled_us INTEGER NOT NULL,
    replaces INTEGER,
    replaced INTEGER NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL,
    score REAL,
    threshold REAL,
    recipe_id TEXT NOT NULL,
    model_sha256 TEXT NOT NULL,
    calibration_id TEXT,
    calibration_version INTEGER
) STRICT;
CREATE UNIQUE INDEX label_newest ON label (result_id, issued_by) WHERE replaced = 0;
"""

_COLUMNS = (
    "result_id, issued_by, label, note, labelled_us, replaces, outcome, score, threshold, recipe_id, "
    "model_sha256, calibration_id, calibration_version"
)

SELECT_LABELS = f"SELECT position, replaced, {_COLUMNS} FROM label"
"""What `stored_label` reads."""


@dataclass(frozen=True, slots=True)
class PartLabel:
    """What somebody says about the part of one verdict: `good`, or a defect's name."""

    result_id: str
    issued_by: str
    label: str
    note: str | None
    labelled: datetime


@dataclass(frozen=True, slots=True)
class StoredLabel:
    """A label as it is kept, with what the verdict of `result_id` had said.

    `position` grows with each label. `replaces` is the position of the one that the same person gave before;
    `replaced`: there is a newer one of that person.
    """

    position: int
    replaced: bool
    result_id: str
    issued_by: str
    label: str
    note: str | None
    labelled: datetime
    replaces: int | None
    outcome: Outcome
    score: float | None
    threshold: float | None
    recipe_id: str
    model_sha256: str
    calibration_id: str | None
    calibration_version: int | None


def insert_label(db: sqlite3.Connection, said: PartLabel) -> int:
    """Keep a label, in place of the one that the same person gave before; gives its position.

    Raises `ResultUnknown` where there is no such verdict, or none any more.
    """
    found = db.execute(
        "SELECT json FROM payload JOIN verdict USING (position) WHERE result_id = ?", (said.result_id,)
    ).fetchone()
    if found is None:
        raise ResultUnknown(
            f"there is no verdict {said.result_id} here, or it is older than what outbox.ledger_days keeps"
        )
    verdict = json.loads(found[0])
    newest = "result_id = ? AND issued_by = ? AND replaced = 0"
    before = db.execute(
        f"UPDATE label SET replaced = 1 WHERE {newest} RETURNING position", (said.result_id, said.issued_by)
    ).fetchall()
    row = (
        said.result_id,
        said.issued_by,
        said.label,
        said.note,
        to_microseconds(said.labelled),
        before[0][0] if before else None,
        verdict["outcome"],
        verdict["score"],
        verdict["threshold"],
        verdict["recipe_id"],
        verdict["model_sha256"],
        verdict["calibration_id"],
        verdict.get("calibration_version"),
    )
    places = ", ".join("?" * len(row))
    position = db.execute(f"INSERT INTO label ({_COLUMNS}) VALUES ({places})", row).lastrowid or 0
    db.execute("DELETE FROM label WHERE position <= ?", (position - LABELS_MAX,))
    return position


def part_label(labels: Sequence[StoredLabel]) -> str:
    """What a part is by what each person last said of it, the oldest first; there is at least one.

    It is bad where anybody names a defect: by the newest name.
    """
    defects = [said.label for said in labels if said.label != GOOD]
    return defects[-1] if defects else GOOD


def stored_label(row: Sequence[Any]) -> StoredLabel:
    """A row of `SELECT_LABELS`."""
    position, replaced, result_id, issued_by, label, note, labelled_us, replaces, outcome, *rest = row
    score, threshold, recipe_id, model_sha256, calibration_id, calibration_version = rest
    return StoredLabel(
        position=position,
        replaced=bool(replaced),
        result_id=result_id,
        issued_by=issued_by,
        label=label,
        note=note,
        labelled=from_microseconds(labelled_us),
        replaces=replaces,
        outcome=Outcome(outcome),
        score=score,
        threshold=threshold,
        recipe_id=recipe_id,
        model_sha256=model_sha256,
        calibration_id=calibration_id,
        calibration_version=calibration_version,
    )
