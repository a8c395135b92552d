"""The rows of the outbox: triggers in hand, verdicts that wait, and the ledger of those that are through."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from edge.errors import OutboxError, TriggerKnown
from edge.inspection import Outcome
from edge.messages import Verdict
from edge.outbox_records import StoredVerdict, TriggerInHand, from_microseconds, to_microseconds

__all__ = [
    "SELECT_STORED",
    "acknowledge",
    "count_waiting",
    "insert_trigger",
    "insert_verdict",
    "remove",
    "replace_trigger",
    "stored_verdict",
    "triggers_in_hand",
]

SELECT_STORED = (
    "SELECT position, result_id, trigger_id, epoch, seq, outcome, json, replayed, repeats, acknowledged_us "
    "FROM verdict JOIN payload USING (position)"
)
"""What `stored_verdict` reads."""

_KNOWN = (
    "SELECT EXISTS (SELECT 1 FROM trigger_in_hand WHERE trigger_id = ?1) "
    "OR EXISTS (SELECT 1 FROM verdict WHERE trigger_id = ?1)"
)


def insert_trigger(db: sqlite3.Connection, trigger: TriggerInHand) -> None:
    """Raises `TriggerKnown` where one of this id was taken before."""
    if _is_known(db, trigger.trigger_id):
        raise TriggerKnown(f"trigger {trigger.trigger_id} was taken before; it gets one verdict")
    db.execute(
        "INSERT INTO trigger_in_hand (trigger_id, kind, asked_us, part_serial, epoch, request_id) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (
            trigger.trigger_id,
            trigger.kind,
            to_microseconds(trigger.asked),
            trigger.part_serial,
            trigger.epoch,
            trigger.request_id,
        ),
    )


def triggers_in_hand(db: sqlite3.Connection) -> tuple[TriggerInHand, ...]:
    """In their order."""
    rows = db.execute(
        "SELECT trigger_id, kind, asked_us, part_serial, epoch, request_id FROM trigger_in_hand "
        "ORDER BY position"
    )
    return tuple(TriggerInHand(id_, kind, from_microseconds(us), *rest) for id_, kind, us, *rest in rows)


def replace_trigger(db: sqlite3.Connection, trigger_id: str, verdict: Verdict) -> StoredVerdict:
    """The verdict in place of its trigger in hand; raises `TriggerKnown` or `OutboxError`."""
    if not db.execute("DELETE FROM trigger_in_hand WHERE trigger_id = ?", (trigger_id,)).rowcount:
        if _is_known(db, trigger_id):
            raise TriggerKnown(f"trigger {trigger_id} has its verdict already")
        raise OutboxError(f"trigger {trigger_id} was never begun; begin it before it is finished")
    return insert_verdict(db, verdict, trigger_id)


def insert_verdict(db: sqlite3.Connection, verdict: Verdict, trigger_id: str | None) -> StoredVerdict:
    """Raises `OutboxError` where its id, or its number, is there already."""
    name = (verdict.result_id, trigger_id, verdict.epoch, verdict.seq, verdict.outcome.value)
    payload = verdict.to_json()
    try:
        position = db.execute(
            "INSERT INTO verdict (result_id, trigger_id, epoch, seq, outcome, created_us) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (*name, to_microseconds(verdict.creation_time)),
        ).lastrowid
    except sqlite3.IntegrityError as error:
        raise OutboxError(
            f"verdict {verdict.result_id} (epoch {verdict.epoch}, seq {verdict.seq}) is here already "
            f"({error}); give each verdict an id and a number of its own"
        ) from error
    db.execute("INSERT INTO payload (position, json) VALUES (?, ?)", (position, payload))
    return stored_verdict((position, *name, payload, 0, 0, None))


def stored_verdict(row: Sequence[Any]) -> StoredVerdict:
    """A row of `SELECT_STORED`."""
    position, result_id, trigger_id, epoch, seq, outcome, payload, replayed, repeats, acknowledged_us = row
    return StoredVerdict(
        position=position,
        result_id=result_id,
        trigger_id=trigger_id,
        epoch=epoch,
        seq=seq,
        outcome=Outcome(outcome),
        payload=payload,
        replayed=bool(replayed),
        repeats=repeats,
        acknowledged=None if acknowledged_us is None else from_microseconds(acknowledged_us),
    )


def acknowledge(db: sqlite3.Connection, heard_run_ns: Mapping[int, int], now_us: int) -> int:
    """The broker has these, by position, since then; gives how many of them had waited."""
    return db.executemany(
        "UPDATE verdict SET acknowledged_us = ?, acknowledged_run_ns = ? "
        "WHERE position = ? AND acknowledged_run_ns IS NULL",
        [(now_us, run_ns, position) for position, run_ns in heard_run_ns.items()],
    ).rowcount


def count_waiting(db: sqlite3.Connection) -> int:
    """How many verdicts wait for the broker, also those that it may have lost."""
    row = db.execute("SELECT count(*) FROM verdict WHERE acknowledged_run_ns IS NULL").fetchone()
    return int(row[0])


def remove(db: sqlite3.Connection, positions: Sequence[int]) -> None:
    """Forget these verdicts, whose pictures are gone."""
    for table in ("payload", "verdict"):
        db.executemany(f"DELETE FROM {table} WHERE position = ?", [(position,) for position in positions])


def _is_known(db: sqlite3.Connection, trigger_id: str) -> bool:
    return bool(db.execute(_KNOWN, (trigger_id,)).fetchone()[0])
