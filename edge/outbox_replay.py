"""Which verdicts go out again because somebody asked for them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from edge.outbox_pictures import requeue_pictures
from edge.outbox_records import to_microseconds

__all__ = ["REPLAY_MAX", "Replay", "ReplayRange", "replay_rows"]

REPLAY_MAX = 10_000
"""More in one go would keep verdicts that are being made from being committed."""


@dataclass(frozen=True, slots=True)
class ReplayRange:
    """Verdicts by (`epoch`, `seq`), or by when they were made (UTC): from the first to the last.

    Both are included; `last` None is the newest. Of more than `limit` (1 to `REPLAY_MAX`) the oldest.
    """

    first: tuple[int, int] | datetime
    last: tuple[int, int] | datetime | None = None
    limit: int = 1000

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= REPLAY_MAX:
            raise ValueError(f"limit is {self.limit}; it must be 1 to {REPLAY_MAX}")


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay came to: `queued` go out again, `waiting` would have anyway.

    `next` is (`epoch`, `seq`) of the first that the limit left out; None where it left out none.
    """

    queued: int
    waiting: int
    next: tuple[int, int] | None


def replay_rows(db: sqlite3.Connection, wanted: ReplayRange) -> Replay:
    """Mark the verdicts of a range to go out again."""
    which, parameters, order = _clauses(wanted)
    rows = db.execute(
        "SELECT position, epoch, seq, acknowledged_run_ns IS NOT NULL FROM verdict "
        f"WHERE {which} ORDER BY {order} LIMIT ?",
        (*parameters, wanted.limit + 1),
    ).fetchall()
    chosen, beyond = rows[: wanted.limit], rows[wanted.limit :]
    positions = [row[0] for row in chosen if row[3]]
    db.executemany(
        "UPDATE verdict SET acknowledged_us = NULL, acknowledged_run_ns = NULL, replayed = 1, repeats = 0, "
        "before_run_ns = acknowledged_run_ns "
        "WHERE position = ?",
        [(position,) for position in positions],
    )
    requeue_pictures(db, positions)
    left_out = (beyond[0][1], beyond[0][2]) if beyond else None
    return Replay(len(positions), len(chosen) - len(positions), left_out)


def _clauses(wanted: ReplayRange) -> tuple[str, tuple[int, ...], str]:
    """What to look for, its parameters, and the order."""
    if isinstance(wanted.first, datetime):
        which, order = "created_us >= ?", "created_us, position"
        parameters: tuple[int, ...] = (to_microseconds(wanted.first),)
        if isinstance(wanted.last, datetime):
            which, parameters = f"{which} AND created_us <= ?", (*parameters, to_microseconds(wanted.last))
        return which, parameters, order
    which, parameters, order = "(epoch, seq) >= (?, ?)", wanted.first, "epoch, seq"
    if isinstance(wanted.last, tuple):
        which, parameters = f"{which} AND (epoch, seq) <= (?, ?)", (*parameters, *wanted.last)
    return which, parameters, order
