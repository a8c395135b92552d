"""Looking at an outbox while its owner writes: from another thread, or another process."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import ValidationError
from typing_extensions import Self

from edge.errors import OutboxDamaged
from edge.inspection import Outcome
from edge.messages import PictureInfo
from edge.outbox_database import DATABASE_NAME, PICTURES_NAME, explained
from edge.outbox_judged import SELECT_JUDGED, CalibrationKey, JudgedParts, judged_parts
from edge.outbox_labels import SELECT_LABELS, StoredLabel, stored_label
from edge.outbox_records import StoredVerdict, to_microseconds
from edge.outbox_rows import SELECT_STORED, stored_verdict

__all__ = ["Ledger"]


class Ledger:
    """The verdicts and pictures that are kept, to read; each thread opens one of its own.

    It sees what is committed, never holds up the owner, and can change nothing. Raises `OutboxUnwritable`
    where the outbox can't be opened, `OutboxDamaged` where it is broken.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / DATABASE_NAME
        self._pictures = folder / PICTURES_NAME
        with explained(self._path):
            self._connection = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def find(self, result_id: str) -> StoredVerdict | None:
        """The verdict of that id; None where there is none, or none any more."""
        rows = self._read(f"{SELECT_STORED} WHERE result_id = ?", (result_id,))
        return stored_verdict(rows[0]) if rows else None

    def after(self, position: int, limit: int) -> list[StoredVerdict]:
        """Up to `limit` verdicts behind that position, the oldest first."""
        sql = f"{SELECT_STORED} WHERE position > ? ORDER BY position LIMIT ?"
        return [stored_verdict(row) for row in self._read(sql, (position, limit))]

    def latest(self, limit: int, outcomes: Collection[Outcome] = tuple(Outcome)) -> list[StoredVerdict]:
        """The last `limit` verdicts of these outcomes, the newest first."""
        found: list[StoredVerdict] = []
        sql = f"{SELECT_STORED} WHERE outcome = ? ORDER BY position DESC LIMIT ?"
        for outcome in outcomes:  # one by one, so that the index gives rare ones at once
            found += [stored_verdict(row) for row in self._read(sql, (outcome.value, limit))]
        return sorted(found, key=lambda verdict: -verdict.position)[:limit]

    def labels_since(self, position: int, limit: int = 1000) -> list[StoredLabel]:
        """Up to `limit` labels behind that position, the oldest first, with what their verdicts had said."""
        sql = f"{SELECT_LABELS} WHERE position > ? ORDER BY position LIMIT ?"
        return [stored_label(row) for row in self._read(sql, (position, limit))]

    def labels_of(self, result_id: str) -> list[StoredLabel]:
        """What each person last said of the part of that verdict, the oldest first."""
        sql = f"{SELECT_LABELS} WHERE result_id = ? AND replaced = 0 ORDER BY position"
        return [stored_label(row) for row in self._read(sql, (result_id,))]

    def last_label(self) -> int:
        """The position of the newest label; 0 where there is none."""
        return int(self._read("SELECT coalesce(max(position), 0) FROM label", ())[0][0])

    def judged(
        self, calibration: CalibrationKey, position: int, limit: int, *, free_running: bool
    ) -> JudgedParts:
        """How the parts of a calibration were judged, among up to `limit` verdicts behind that position.

        `free_running`: with verdicts of frames that no part or command triggered.
        """
        key = (calibration.model_sha256, calibration.calibration_id, calibration.version)
        return judged_parts(self._read(SELECT_JUDGED, (position, limit, *key, free_running))[0], position)

    def position_of(self, epoch: int, seq: int) -> int | None:
        """The position of the verdict of that number; None where there is none, or none any more."""
        rows = self._read("SELECT position FROM verdict WHERE epoch = ? AND seq = ?", (epoch, seq))
        return int(rows[0][0]) if rows else None

    def counted_since(self, since: datetime) -> list[tuple[int, str, int]]:
        """How many verdicts were made since then: minute (since 1970), outcome, number."""
        sql = (
            "SELECT created_us / 60000000 AS minute, outcome, count(*) FROM verdict WHERE created_us >= ? "
            "GROUP BY minute, outcome"
        )
        return [(int(row[0]), str(row[1]), int(row[2])) for row in self._read(sql, (to_microseconds(since),))]

    def pictures_of(self, result_id: str) -> list[PictureInfo]:
        """Which pictures of a verdict are kept."""
        rows = self._read(
            "SELECT info FROM picture WHERE verdict_position = "
            "(SELECT position FROM verdict WHERE result_id = ?) ORDER BY position",
            (result_id,),
        )
        try:
            return [PictureInfo.model_validate_json(row[0]) for row in rows]
        except ValidationError as error:
            raise OutboxDamaged(f"{self._path}: holds a picture that can't be read ({error})") from error

    def picture(self, info: PictureInfo) -> bytes | None:
        """Its bytes; None where it is gone, or a loss of power cut it off."""
        rows = self._read(
            "SELECT file FROM picture WHERE kind = ? AND verdict_position = "
            "(SELECT position FROM verdict WHERE result_id = ?)",
            (info.kind.value, info.result_id),
        )
        if not rows:
            return None
        try:
            data = (self._pictures / rows[0][0]).read_bytes()
        except FileNotFoundError:
            return None
        return data if hashlib.sha256(data).hexdigest() == info.sha256 else None

    def _read(self, sql: str, parameters: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with explained(self._path):
            return self._connection.execute(sql, parameters).fetchall()
