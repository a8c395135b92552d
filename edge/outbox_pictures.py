"""Pictures beside the outbox: files up to a limit, of which the least important and oldest go first."""

from __future__ import annotations

import logging
import re
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.disk import is_no_space
from edge.errors import OutboxError, OutboxUnwritable
from edge.inspection import Outcome
from edge.messages import PictureInfo, PictureKind
from edge.outbox_database import Database
from edge.outbox_space import free_bytes

__all__ = ["PictureStore", "acknowledge_pictures", "requeue_pictures"]

_log = logging.getLogger(__name__)

_RAW_MAP, _PASS, _NOT_PASS, _UNACKNOWLEDGED = range(4)
_MOST = _UNACKNOWLEDGED
_AT_A_TIME = 16
_CHOSEN = "SELECT position, size_bytes, file FROM picture"
_FILE = re.compile(r"\d+-\d{8,}\.(heatmap|image-rgb|map)\.(jpg|f16)")  # what `_file_of` gives


class PictureStore:
    """Pictures as files that a person can open, and their rows; belongs to the outbox.

    Importance, from the least: raw maps; acknowledged passes; other acknowledged verdicts; verdicts that
    still wait. They never need more than `limit_bytes`, and never leave less than `keep_free_bytes` of
    the disk. A new one takes the place of what is as important as itself and older, or less important;
    where that is not enough it is not kept.
    """

    def __init__(self, database: Database, folder: Path, limit_bytes: int, keep_free_bytes: int) -> None:
        self._database = database
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._keep_free_bytes = keep_free_bytes
        self.evicted = 0
        self.refused = 0
        self.count = 0
        self.size_bytes = 0
        try:
            self._folder.mkdir(exist_ok=True)
            self._reconcile()
        except OSError as error:
            raise self._unusable(error) from error
        self.make_room()

    def add(self, info: PictureInfo, data: bytes) -> bool:
        """Keep a picture of a verdict that is in the outbox; False where there is no room for it.

        Raises `OutboxUnwritable` where the disk refuses for another reason, and `OutboxError` where the
        outbox has no such verdict, or has such a picture of it.
        """
        found = self._database.read(
            "SELECT position, outcome, acknowledged_run_ns IS NULL FROM verdict WHERE result_id = ?",
            (info.result_id,),
        )
        if not found:
            raise OutboxError(f"verdict {info.result_id} is not in the outbox; commit it before its pictures")
        position, outcome, waits = found[0]
        if self._database.number(
            "SELECT count(*) FROM picture WHERE verdict_position = ? AND kind = ?",
            (position, info.kind.value),
        ):
            raise OutboxError(f"verdict {info.result_id} has its {info.kind.value} already")
        rank = _rank(info.kind, outcome, bool(waits))
        file = self._folder / _file_of(info)
        if not self._fit(len(data), rank) or not self._write(file, data, rank):
            self.refused += 1
            return False
        row = (position, info.kind.value, rank, len(data), file.name, info.to_json())
        sql = (
            "INSERT INTO picture (verdict_position, kind, rank, size_bytes, file, info) "
            "VALUES (?, ?, ?, ?, ?, ?)"
        )
        try:
            self._database.change(lambda db: db.execute(sql, row), durable=False)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        self.count += 1
        self.size_bytes += len(data)
        return True

    def make_room(self, at_most_bytes: int = sys.maxsize) -> None:
        """Let go what is more than the limits allow, or a piece of it; raises `OutboxUnwritable`."""
        over = max(self.size_bytes - self._limit_bytes, self._keep_free_bytes - free_bytes(self._folder))
        if over > 0 and self.count:
            self.evict(min(over, at_most_bytes))

    def evict(self, size_bytes: int, rank: int = _MOST, *, in_part: bool = True) -> int:
        """Let go at least `size_bytes` of what is no more important than `rank`; gives what it came to.

        Where there is not as much, all there is goes, or without `in_part` nothing.
        """
        limit = _AT_A_TIME
        while True:
            rows = self._database.read(
                f"{_CHOSEN} WHERE rank <= ? ORDER BY rank, position LIMIT ?",
                (rank, limit),
            )
            total = sum(row[1] for row in rows)
            if total >= size_bytes or len(rows) < limit:
                break
            limit *= 4
        if total < size_bytes and not in_part:
            return 0
        chosen, gone = [], 0
        for row in rows:
            if gone >= size_bytes:
                break
            chosen.append(row)
            gone += row[1]
        self._remove(chosen)
        self.evicted += len(chosen)
        return gone

    def remove_of(self, verdicts: Sequence[int]) -> None:
        """Remove the pictures of the verdicts at these positions, which are about to go."""
        for position in verdicts:
            self._remove(self._database.read(f"{_CHOSEN} WHERE verdict_position = ?", (position,)))

    def _fit(self, size_bytes: int, rank: int) -> bool:
        """Make room for a picture of that importance; False where there can't be."""
        over = max(
            self.size_bytes + size_bytes - self._limit_bytes,
            self._keep_free_bytes + size_bytes - free_bytes(self._folder),
        )
        return over <= 0 or (
            size_bytes <= self._limit_bytes and self.evict(over, rank, in_part=False) >= over
        )

    def _write(self, file: Path, data: bytes, rank: int) -> bool:
        for _ in range(2):
            try:
                # Not synced: after a loss of power its size tells whether it is whole.
                file.write_bytes(data)
            except OSError as error:
                file.unlink(missing_ok=True)
                if not is_no_space(error):
                    raise self._unusable(error) from error
                if self.evict(len(data), rank, in_part=False) < len(data):
                    return False
            else:
                return True
        return False

    def _remove(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Files first: on a full disk there may be no room to write that the rows are gone."""
        if not rows:
            return
        try:
            for _, _, file in rows:
                (self._folder / file).unlink(missing_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        positions = [(position,) for position, _, _ in rows]
        self._database.change(
            lambda db: db.executemany("DELETE FROM picture WHERE position = ?", positions), durable=False
        )
        self.count -= len(rows)
        self.size_bytes -= sum(size for _, size, _ in rows)

    def _reconcile(self) -> None:
        """After a crash: a file without a row goes, and so does a row without its file."""
        there = {entry.name: entry.stat().st_size for entry in self._folder.iterdir() if entry.is_file()}
        rows = self._database.read(_CHOSEN)
        broken = [row for row in rows if there.get(row[2]) != row[1]]
        known = {row[2] for row in rows}
        self.count = len(rows)
        self.size_bytes = sum(row[1] for row in rows)
        self._remove(broken)
        orphans = [name for name in there if name not in known and _FILE.fullmatch(name)]
        for name in orphans:
            (self._folder / name).unlink()
        if broken or orphans:
            _log.warning(
                "%s: %d pictures were not whole and are gone", self._folder, len(broken) + len(orphans)
            )

    def _unusable(self, error: OSError) -> OutboxUnwritable:
        return OutboxUnwritable(
            f"{self._folder}: can't be used ({error.strerror}); check the disk and the folder's rights"
        )


def acknowledge_pictures(db: sqlite3.Connection, verdicts: Sequence[int]) -> None:
    """In the transaction that acknowledges the verdicts at these positions: their pictures count for less."""
    db.executemany(
        "UPDATE picture SET rank = CASE (SELECT outcome FROM verdict v WHERE v.position = verdict_position) "
        f"WHEN '{Outcome.PASS.value}' THEN {_PASS} ELSE {_NOT_PASS} END "
        f"WHERE verdict_position = ? AND rank <> {_RAW_MAP}",
        [(position,) for position in verdicts],
    )


def requeue_pictures(db: sqlite3.Connection, verdicts: Sequence[int]) -> None:
    """In the transaction after which the verdicts at these positions wait: their pictures count for more."""
    db.executemany(
        f"UPDATE picture SET rank = {_UNACKNOWLEDGED} WHERE verdict_position = ? AND rank <> {_RAW_MAP}",
        [(position,) for position in verdicts],
    )


def _rank(kind: PictureKind, outcome: str, waits: bool) -> int:
    if kind is PictureKind.MAP:
        return _RAW_MAP
    if waits:
        return _UNACKNOWLEDGED
    return _PASS if outcome == Outcome.PASS.value else _NOT_PASS


def _file_of(info: PictureInfo) -> str:
    end = "jpg" if info.encoding == "image/jpeg" else "f16"
    return f"{info.epoch}-{info.seq:08d}.{info.kind.value.replace('/', '-')}.{end}"
