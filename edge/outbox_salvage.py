"""What can still be read of a damaged outbox: verdicts that wait, and triggers in hand."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge.messages import Verdict
from edge.outbox_database import Database

__all__ = ["salvage"]

_log = logging.getLogger(__name__)

_VERDICT = "position, result_id, trigger_id, epoch, seq, outcome, created_us, replayed"
_TRIGGER = "position, trigger_id, kind, asked_us, part_serial, epoch"


def salvage(damaged: Path, into: Database) -> None:
    """Copy what waits in `damaged` and can be read, is whole, and is not there yet."""
    payloads = dict(_rows(damaged, "payload", "position, json", "TRUE"))
    verdicts = [
        row
        for row in _rows(damaged, "verdict", _VERDICT, "acknowledged_run_ns IS NULL")
        if _is_whole(row, payloads.get(row[0]))
    ]
    triggers = _rows(damaged, "trigger_in_hand", _TRIGGER, "TRUE")

    def insert(db: sqlite3.Connection) -> tuple[int, int]:
        saved = db.executemany(
            f"INSERT OR IGNORE INTO verdict ({_VERDICT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", verdicts
        ).rowcount
        db.executemany(
            "INSERT OR IGNORE INTO payload (position, json) SELECT ?1, ?2 "
            "WHERE EXISTS (SELECT 1 FROM verdict WHERE position = ?1)",
            [(row[0], payloads[row[0]]) for row in verdicts],
        )
        begun = db.executemany(
            f"INSERT OR IGNORE INTO trigger_in_hand ({_TRIGGER}) SELECT ?, ?2, ?, ?, ?, ? "
            "WHERE NOT EXISTS (SELECT 1 FROM verdict WHERE trigger_id = ?2)",
            triggers,
        ).rowcount
        return saved, begun

    saved, begun = into.change(insert, durable=True)
    _log.critical(
        "%s: %d verdicts that wait and %d triggers in hand could be read, and were saved",
        damaged,
        saved,
        begun,
    )


def _rows(damaged: Path, table: str, columns: str, which: str) -> list[tuple[Any, ...]]:
    """All rows that can be read: from the front, and from the back, until the damage."""
    found: dict[int, tuple[Any, ...]] = {}
    for order in ("ASC", "DESC"):
        try:
            connection = sqlite3.connect(f"{damaged.as_uri()}?mode=ro", uri=True, isolation_level=None)
            try:
                rows = connection.execute(
                    f"SELECT {columns} FROM {table} NOT INDEXED WHERE {which} ORDER BY position {order}"
                )
                for row in rows:
                    found[row[0]] = row
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            _log.error("%s, table %s: %s", damaged, table, error)
    return [found[position] for position in sorted(found)]


def _is_whole(row: tuple[Any, ...], payload: object) -> bool:
    if not isinstance(payload, bytes):
        return False
    try:
        verdict = Verdict.model_validate_json(payload)
    except ValidationError:
        return False
    return (verdict.result_id, verdict.epoch, verdict.seq, verdict.outcome.value) == (row[1], *row[3:6])
