"""How many parts passed and were rejected by one calibration, counted by SQLite itself.

Not verdict by verdict in Python: whoever counts a month of them must not take the interpreter from the
threads that inspect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["SELECT_JUDGED", "CalibrationKey", "JudgedParts", "judged_parts"]

SELECT_JUDGED = """
WITH piece AS (
    SELECT position, outcome, CAST(json AS TEXT) AS said FROM verdict JOIN payload USING (position)
    WHERE position > ? ORDER BY position LIMIT ?
), judged AS (
    SELECT position, outcome,
        outcome IN ('pass', 'review', 'fail')
        AND json_extract(said, '$.model_sha256') = ?
        AND json_extract(said, '$.calibration_id') = ?
        AND json_extract(said, '$.calibration_version') IS ?
        AND (? OR coalesce(json_extract(said, '$.trigger'), '') NOT IN ('every_frame', 'interval')) AS counts
    FROM piece
)
SELECT count(*), max(position), total(counts AND outcome != 'fail'), total(counts AND outcome = 'fail')
FROM judged
"""
"""What `judged_parts` reads."""


@dataclass(frozen=True, slots=True)
class CalibrationKey:
    """Which verdicts are meant: those of one version of a calibration."""

    model_sha256: str
    calibration_id: str
    version: int | None


@dataclass(frozen=True, slots=True)
class JudgedParts:
    """Of `verdicts` that were looked at, the last at `position`, those of a calibration.

    `passed`, ones for a person to look at among them, since those lie below the threshold; and `rejected`.
    """

    verdicts: int
    position: int
    passed: int
    rejected: int


def judged_parts(row: Sequence[Any], before: int) -> JudgedParts:
    """A row of `SELECT_JUDGED`, which looked behind the position `before`."""
    verdicts, position, passed, rejected = row
    return JudgedParts(verdicts, before if position is None else position, int(passed), int(rejected))
