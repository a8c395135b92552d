"""Verdicts that the broker acknowledged and may have lost: which wait again, and when their turn is.

A broker may acknowledge first and save later. What it acknowledged is sure once the connection by which it
did has stood for `unsaved_s` more: it was not killed meanwhile, and it has saved. Where a connection is lost
sooner nobody can tell whether the broker was killed; so what was not sure goes out again, and its new
acknowledgement is as unsure as the first was.

The first repeat goes at once, when there is a connection again; the second once one has stood for
`unsaved_s`, and each later one for twice as long as the one before. So one that stays unsure over T seconds
of connections, however often they are lost, goes out again at most 1 + log2(1 + T / `unsaved_s`) times: for
repeats from the second on connections must have stood for `unsaved_s` (1 + 2 + 4 + …). And a connection of T
and twice `unsaved_s` makes it sure.
"""

from __future__ import annotations

import math
import sqlite3
from enum import Enum

from edge.outbox_pictures import requeue_pictures

__all__ = ["ALL_REPEATS", "Waiting", "newest_run_ns", "newest_sent", "repeats_due", "rest_s", "wait_again"]

ALL_REPEATS = 2**62
"""No repeat has so great a number."""


class Waiting(str, Enum):
    """Why a verdict waits, as a condition on its row; `?1` is the repeat up to which they may go.

    `NEW`: the broker never acknowledged it. `REPEATED`: it did, and may have lost it. `REPLAYED`: somebody
    asked for it.
    """

    ANY = "repeats <= ?1"
    NEW = "replayed = 0 AND repeats = 0"
    REPEATED = "replayed = 0 AND repeats BETWEEN 1 AND ?1"
    REPLAYED = "replayed = 1 AND repeats <= ?1"


def rest_s(repeats: int, unsaved_s: float) -> float:
    """How long a connection must have stood before the repeat of this number, from 1, goes out."""
    return 0.0 if repeats <= 1 else math.ldexp(unsaved_s, repeats - 2)


def repeats_due(stood_s: float, unsaved_s: float) -> int:
    """The greatest number of a repeat whose turn is when a connection has stood so long; at least 1.

    `rest_s(repeats_due(s, u), u) <= s < rest_s(repeats_due(s, u) + 1, u)`.
    """
    return 1 if stood_s < unsaved_s else 1 + math.frexp(stood_s / unsaved_s)[1]


def newest_sent(db: sqlite3.Connection) -> int:
    """The greatest position of a verdict that was ever acknowledged; 0 where there is none."""
    row = db.execute(
        "SELECT position FROM verdict WHERE acknowledged_run_ns IS NOT NULL OR before_run_ns IS NOT NULL "
        "ORDER BY position DESC LIMIT 1"
    ).fetchone()
    return 0 if row is None else int(row[0])


def newest_run_ns(db: sqlite3.Connection) -> int:
    """When the broker last acknowledged a verdict, be it one that waits again since; 0 for never."""
    row = db.execute(
        "SELECT max(coalesce((SELECT max(acknowledged_run_ns) FROM verdict "
        "WHERE acknowledged_run_ns IS NOT NULL), 0), coalesce((SELECT max(before_run_ns) FROM verdict "
        "WHERE before_run_ns IS NOT NULL AND acknowledged_run_ns IS NULL), 0))"
    ).fetchone()
    return int(row[0])


def wait_again(db: sqlite3.Connection, window_ns: int) -> int:
    """Verdicts acknowledged in the last so many ns before the newest wait once more; gives how many.

    A replayed one goes as such again: it is no newer than it was.
    """
    rows = db.execute(
        "UPDATE verdict SET acknowledged_us = NULL, acknowledged_run_ns = NULL, repeats = repeats + 1, "
        "before_run_ns = acknowledged_run_ns WHERE acknowledged_run_ns >= ? RETURNING position",
        (newest_run_ns(db) - window_ns,),
    ).fetchall()
    requeue_pictures(db, [row[0] for row in rows])
    return len(rows)
