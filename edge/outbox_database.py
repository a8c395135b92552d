"""The SQLite file under the outbox: opened, checked, set aside where it is damaged; its errors in words."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from edge.clock import boot_id, utc_now
from edge.disk import sync_folder
from edge.errors import OutboxDamaged, OutboxForeign, OutboxFull, OutboxUnwritable
from edge.outbox_labels import LABEL_SCHEMA
from edge.outbox_space import free_bytes

__all__ = [
    "APPLICATION_ID",
    "DATABASE_NAME",
    "PICTURES_NAME",
    "SCHEMA_VERSION",
    "Database",
    "explained",
    "set_aside",
]

DATABASE_NAME = "outbox.db"
PICTURES_NAME = "pictures"

APPLICATION_ID = 0x45494F42
"""`EIOB` in the file's header: this file is an outbox of edge-inspect."""

SCHEMA_VERSION = 3

_WAL_PAGES = 200
_QUICKLY_CHECKED_BYTES = 64 << 20  # in a second or so
_LOCK_TIMEOUT_S = 1.0
_NO_ROOM_BYTES = 1 << 20  # with less free than this, an I/O error of SQLite's is taken for a full disk

_WAITING_SCHEMA = """
CREATE INDEX verdict_waiting ON verdict (replayed, repeats, position) WHERE acknowledged_run_ns IS NULL;
CREATE INDEX verdict_before ON verdict (before_run_ns)
    WHERE before_run_ns IS NOT NULL AND acknowledged_run_ns IS NULL;
"""

_SCHEMA = (
    """
CREATE TABLE verdict (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    result_id TEXT NOT NULL UNIQUE,
    trigger_id TEXT UNIQUE,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    replayed INTEGER NOT NULL DEFAULT 0,
    repeats INTEGER NOT NULL DEFAULT 0,
    acknowledged_us INTEGER,
    acknowledged_run_ns INTEGER,
    before_run_ns INTEGER,  -- the acknowledgement before, of one that waits again
    UNIQUE (epoch, seq)
) STRICT;
CREATE INDEX verdict_acknowledged ON verdict (acknowledged_run_ns) WHERE acknowledged_run_ns IS NOT NULL;
CREATE INDEX verdict_created ON verdict (created_us);
CREATE INDEX verdict_outcome ON verdict (outcome, position);
CREATE TABLE payload (  -- apart, for an acknowledgement writes the whole row of its verdict anew
    position INTEGER PRIMARY KEY REFERENCES verdict (position),
    json BLOB NOT NULL
) STRICT;
CREATE TABLE trigger_in_hand (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    trigger_id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    asked_us INTEGER NOT NULL,
    part_serial TEXT,
    epoch INTEGER NOT NULL,
    request_id TEXT
) STRICT;
CREATE TABLE picture (
    position INTEGER PRIMARY KEY,
    verdict_position INTEGER NOT NULL REFERENCES verdict (position),
    kind TEXT NOT NULL,
    rank INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    file TEXT NOT NULL UNIQUE,
    info BLOB NOT NULL,
    UNIQUE (verdict_position, kind)
) STRICT;
CREATE INDEX picture_rank ON picture (rank, position, size_bytes);
"""
    + LABEL_SCHEMA
    + _WAITING_SCHEMA
)

_LATER = {
    1: f"ALTER TABLE trigger_in_hand ADD COLUMN request_id TEXT; {LABEL_SCHEMA}",
    2: "ALTER TABLE verdict ADD COLUMN repeats INTEGER NOT NULL DEFAULT 0; "
    "ALTER TABLE verdict ADD COLUMN before_run_ns INTEGER; "
    f"DROP INDEX verdict_waiting; {_WAITING_SCHEMA}",
}
"""What makes of each older version the next one."""

_TABLES = {"label", "payload", "picture", "trigger_in_hand", "verdict"}

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Database:
    """The connection to an outbox's file; it is used by one thread at a time.

    `open` raises `OutboxForeign` where the file is something else, `OutboxDamaged` where it is broken,
    `OutboxFull` or `OutboxUnwritable` where the disk does not let it be opened.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    def open(cls, path: Path) -> Database:
        """The database in `path`, checked; a new one where there is none."""
        with explained(path):
            connection = sqlite3.connect(
                path,
                timeout=_LOCK_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,  # the outbox itself watches over its thread, with a better message
            )
            try:
                _prepare(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(connection, path)

    def read(self, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows that a SELECT gives."""
        with explained(self._path):
            return self._connection.execute(sql, parameters).fetchall()

    def ask(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `question` reads."""
        with explained(self._path):
            return question(self._connection)

    def number(self, sql: str, parameters: tuple[object, ...] = ()) -> int:
        """The one number that a SELECT or a PRAGMA gives; 0 for NULL."""
        return int(self.read(sql, parameters)[0][0] or 0)

    def change(self, change: Callable[[sqlite3.Connection], _T], *, durable: bool) -> _T:
        """`change` in a transaction: whole or not at all.

        `durable`: it is on disk when this returns. Otherwise it outlives the process at once, and a loss of
        power from the next durable one on.
        """
        with explained(self._path):
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = change(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite ends it itself for some errors
                    self._connection.execute("ROLLBACK")
                raise
            return result

    def used_bytes(self) -> int:
        """What the rows need of the file; what was removed leaves room for new ones."""
        used = self.number("PRAGMA page_count") - self.number("PRAGMA freelist_count")
        return used * self.number("PRAGMA page_size")

    def checkpoint(self) -> None:
        """Bring all into the main file, and make the log empty."""
        self.read("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        with explained(self._path):
            self._connection.close()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """SQLite's errors as `OutboxFull`, `OutboxUnwritable` or `OutboxDamaged`; broken rules pass unchanged."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.InterfaceError):
        raise
    except sqlite3.OperationalError as error:
        # Python 3.10 gives no error code, only SQLite's text for it.
        no_room = "full" in str(error) or free_bytes(path.parent) < _NO_ROOM_BYTES
        if no_room:
            raise OutboxFull(
                f"{path}: there is no room for it ({error}; {free_bytes(path.parent)} bytes are free); free "
                "some space on that disk, or lower outbox.pictures_max_mb and outbox.ledger_max_mb"
            ) from error
        raise OutboxUnwritable(
            f"{path}: can't be used ({error}); check the disk (dmesg, `mount | grep ro,`), the rights of the "
            "folder, and that no other program holds the file"
        ) from error
    except sqlite3.DatabaseError as error:
        _checked(path).unlink(missing_ok=True)
        raise OutboxDamaged(
            f"{path}: is damaged ({error}); check the disk. The daemon's start sets it aside, and "
            "saves from it what can be read."
        ) from error


def set_aside(path: Path, *others: Path) -> Path:
    """Rename a damaged database, with its log and `others`, so that a person can look; nothing is deleted.

    Gives the new name of the database; raises `OutboxUnwritable` where it can't be renamed.
    """
    stamp = f"damaged-{utc_now():%Y%m%dT%H%M%SZ}"
    number = 1
    while (aside := path.with_name(f"{path.stem}.{stamp}-{number}{path.suffix}")).exists():
        number += 1
    # A log belongs to its database by name.
    moves = {
        path.with_name(path.name + end): aside.with_name(aside.name + end) for end in ("", "-wal", "-shm")
    }
    moves |= {other: other.with_name(f"{other.name}.{stamp}-{number}") for other in others}
    try:
        for old, new in moves.items():
            if old.exists():
                old.rename(new)
        sync_folder(path.parent)
    except OSError as error:
        raise OutboxUnwritable(
            f"{path}: is damaged and can't be renamed ({error.strerror}); move it away by hand"
        ) from error
    return aside


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not (empty and application_id == 0) and application_id != APPLICATION_ID:
        raise OutboxForeign(
            f"{path}: is no outbox (application id {application_id:#x}, not {APPLICATION_ID:#x}); move it "
            "away, or give daemon.state_dir a folder of its own"
        )
    if not empty and version not in (*_LATER, SCHEMA_VERSION):
        raise OutboxForeign(
            f"{path}: is an outbox of schema version {version}, this software knows {SCHEMA_VERSION}; "
            "install the version that wrote it, let it send what waits, then move the file away"
        )
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise OutboxUnwritable(
            f"{path}: the file system can't hold SQLite's log (journal mode {mode}); put daemon.state_dir on "
            "a local disk"
        )
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {16 * _WAL_PAGES * 4096}")
    connection.execute("PRAGMA synchronous = FULL")
    if empty:
        connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
        sync_folder(path.parent)
        sync_folder(path.parent.parent)
        return
    for older in range(version, SCHEMA_VERSION):
        connection.executescript(
            f"BEGIN IMMEDIATE; {_LATER[older]} PRAGMA user_version = {older + 1}; COMMIT;"
        )
        _log.info("%s: brought to schema version %d", path, older + 1)
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables >= _TABLES:
        raise OutboxForeign(f"{path}: has no table {', '.join(sorted(_TABLES - tables))}; move it away")
    _check(connection, path)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Look at every page: of a large file once in each boot, for the end of a process damages nothing.

    A start must not take half a minute each time; whoever meets damage later sees to it that the next looks.
    """
    checked = _checked(path)
    boot = boot_id()
    if path.stat().st_size > _QUICKLY_CHECKED_BYTES and checked.exists() and checked.read_text() == boot:
        return
    found = connection.execute("PRAGMA integrity_check(3)").fetchall()
    if found != [("ok",)]:
        raise sqlite3.DatabaseError("; ".join(str(row[0]) for row in found))
    try:
        checked.write_text(boot)
    except OSError as error:
        _log.warning("%s: can't be written (%s); the next start checks again", checked, error.strerror)


def _checked(path: Path) -> Path:
    return path.with_suffix(".checked")
