"""What can still be read of a damaged outbox: verdicts that wait, triggers in hand, and labels."""

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
_TRIGGER = "position, trigger_id, kind, asked_us, part_serial, epoch, request_id"
_LABEL = (
    "position, result_id, issued_by, label, note, labelled_us, replaces, replaced, outcome, score, "
    "threshold, recipe_id, model_sha256, calibration_id, calibration_version"
)


def salvage(damaged: Path, into: Database) -> None:
    """Copy what waits in `damaged` and can be read, is whole, and is not there yet."""
    payloads = dict(_rows(damaged, "payload", "position, json", "TRUE"))
    verdicts = [
        row
        for row in _rows(damaged, "verdict", _VERDICT, "acknowledged_run_ns IS NULL")
        if _is_whole(row, payloads.get(row[0]))
    ]
    first = _is_of_version_1(damaged)  # it was damaged before it could be brought up to date
    told = _TRIGGER.replace("request_id", "NULL") if first else _TRIGGER
    triggers = _rows(damaged, "trigger_in_hand", told, "TRUE")
    labels = [] if first else _rows(damaged, "label", _LABEL, "TRUE")

    def insert(db: sqlite3.Connection) -> tuple[int, int, int]:
        saved = db.executemany(
            f"INSERT OR IGNORE INTO verdict ({_VERDICT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", verdicts
        ).rowcount
        db.executemany(
            "INSERT OR IGNORE INTO payload (position, json) SELECT ?1, ?2 "
            "WHERE EXISTS (SELECT 1 FROM verdict WHERE position = ?1)",
            [(row[0], payloads[row[0]]) for row in verdicts],
        )
        begun = db.executemany(
            f"INSERT OR IGNORE INTO trigger_in_hand ({_TRIGGER}) SELECT ?, ?2, ?, ?, ?, ?, ? "
            "WHERE NOT EXISTS (SELECT 1 FROM verdict WHERE trigger_id = ?2)",
            triggers,
        ).rowcount
        said = db.executemany(
            f"INSERT OR IGNORE INTO label ({_LABEL}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            labels,
        ).rowcount
        return saved, begun, said

    saved, begun, said = into.change(insert, durable=True)
    _log.critical(
        "%s: %d verdicts that wait, %d triggers in hand and %d labels could be read, and were saved",
        damaged,
        saved,
        begun,
        said,
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


def _is_of_version_1(damaged: Path) -> bool:
    try:
        connection = sqlite3.connect(f"{damaged.as_uri()}?mode=ro", uri=True)
        try:
            return bool(connection.execute("PRAGMA user_version").fetchone()[0] == 1)
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        _log.error("%s: %s", damaged, error)
        return False


def _is_whole(row: tuple[Any, ...], payload: object) -> bool:
    if not isinstance(payload, bytes):
        return False
    try:
        verdict = Verdict.model_validate_json(payload)
    except ValidationError:
        return False
    return (verdict.result_id, verdict.epoch, verdict.seq, verdict.outcome.value) == (row[1], *row[3:6])
