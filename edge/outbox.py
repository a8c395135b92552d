"""The outbox: a verdict is on disk before anything else happens to it, and stays until the broker has it.

One trigger gets one verdict, over any crash: `begin` writes down that a trigger is in hand, `finish` puts its
verdict in its place. What `in_hand` gives after a start are triggers that a crash interrupted.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from typing_extensions import Self

from edge.clock import utc_now
from edge.errors import OutboxDamaged, OutboxError, OutboxFull
from edge.messages import PictureInfo, Verdict
from edge.outbox_config import OutboxConfig
from edge.outbox_database import DATABASE_NAME, PICTURES_NAME, Database, set_aside
from edge.outbox_labels import PartLabel, insert_label
from edge.outbox_pictures import PictureStore, acknowledge_pictures
from edge.outbox_records import (
    OutboxStatus,
    QueuedVerdict,
    StoredVerdict,
    TriggerInHand,
    to_microseconds,
)
from edge.outbox_repeats import ALL_REPEATS, Waiting, newest_run_ns, newest_sent, wait_again
from edge.outbox_replay import Replay, ReplayRange, replay_rows
from edge.outbox_rows import (
    SELECT_STORED,
    acknowledge,
    count_waiting,
    insert_trigger,
    insert_verdict,
    remove,
    replace_trigger,
    stored_verdict,
    triggers_in_hand,
)
from edge.outbox_salvage import salvage
from edge.outbox_space import Ballast, lock_folder
from edge.outbox_status import look

__all__ = ["Outbox"]

_log = logging.getLogger(__name__)

_MIB = 1 << 20
_RESERVE_MB = 8  # of the ballast
_DAY_NS = 86_400 * 10**9
_MAINTENANCE_NS = 10**9
_LEDGER_PIECE = 50  # verdicts removed in one go, and
_PICTURE_PIECE = 16 * _MIB  # bytes of pictures: a commit must not wait for more
_PIECE_WHEN_FULL = 1000
_PAGES_AHEAD = 512  # some hundred verdicts
_PICTURE_PIECE_WHEN_FULL = 4 * _MIB

_T = TypeVar("_T")


class Outbox:
    """Verdicts on disk. One process has it open; the thread that opened it, or took it over, uses it.

    When `commit`, `begin` or `finish` returns, what it wrote is on disk (SQLite's log, synced). Where there
    is no room they give up pictures, then the ballast, then the oldest acknowledged verdicts, and only then
    raise `OutboxFull`. After any `OutboxError` nothing was written: what was to be committed is to be taken
    for `error`, with the safe output.
    """

    def __init__(
        self, folder: Path, config: OutboxConfig, *, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Open the outbox in `folder`; the calling thread owns it.

        A damaged database is renamed, and what can be read of it saved (what waits, and triggers in hand).
        Raises `OutboxInUse`, `OutboxForeign`, `OutboxFull` or `OutboxUnwritable`.
        """
        self._folder = folder
        self._config = config
        self._clock_ns = clock_ns
        self._owner = threading.get_ident()
        self._round = 0
        self._lock = lock_folder(folder)
        try:
            keep_free_bytes = config.keep_free_mb * _MIB
            self._ballast = Ballast(
                folder / "ballast", (config.ballast_mb - _RESERVE_MB) * _MIB, keep_free_bytes
            )
            # A disk full of what waits can only be left by acknowledgements, which have to be written.
            self._reserve = Ballast(folder / "reserve", _RESERVE_MB * _MIB, keep_free_bytes)
            self._database = self._open()
        except BaseException:
            os.close(self._lock)
            raise
        try:
            self._pictures = PictureStore(
                self._database, folder / PICTURES_NAME, config.pictures_max_mb * _MIB, keep_free_bytes
            )
            self._opened_ns = self._maintained_ns = clock_ns()
            # Counts the time that the outbox was open, over all starts: a wall clock jumps.
            self._run_base_ns = self._database.ask(newest_run_ns)
            self._restore_ballast()
            self._status = self._look()
        except BaseException:
            self._database.close()
            os.close(self._lock)
            raise
        for alarm in self._status.alarms:
            _log.error("%s", alarm)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take_over(self) -> None:
        """Make the calling thread the owner; the one before must have stopped using it."""
        self._owner = threading.get_ident()

    @property
    def unsaved_s(self) -> float:
        """`outbox.unsaved_s`."""
        return self._config.unsaved_s

    @property
    def status(self) -> OutboxStatus:
        """How it was at the last `maintain`; any thread may ask."""
        return self._status

    def begin(self, trigger: TriggerInHand) -> None:
        """Take a trigger in hand; once this returns it will have a verdict, whatever happens.

        Raises `TriggerKnown` where one of this id was taken before.
        """
        self._check_owner()
        self._write(lambda db: insert_trigger(db, trigger))

    def finish(self, trigger_id: str, verdict: Verdict) -> StoredVerdict:
        """Commit the verdict of a trigger in hand, which it then is no longer.

        Raises `TriggerKnown` where it has a verdict already, `OutboxError` where it was never begun.
        """
        self._check_owner()
        return self._write(lambda db: replace_trigger(db, trigger_id, verdict))

    def commit(self, verdict: Verdict) -> StoredVerdict:
        """Commit a verdict that nobody triggered (of a frame in free running, say)."""
        self._check_owner()
        return self._write(lambda db: insert_verdict(db, verdict, None))

    def in_hand(self) -> tuple[TriggerInHand, ...]:
        """The triggers that were begun and are not finished, in their order; of earlier starts, too."""
        self._check_owner()
        return self._database.ask(triggers_in_hand)

    def verdict_of(self, trigger_id: str) -> StoredVerdict | None:
        """The verdict of a trigger, acknowledged or not; None where it has none, or has none any more."""
        self._check_owner()
        rows = self._database.read(f"{SELECT_STORED} WHERE trigger_id = ?", (trigger_id,))
        return stored_verdict(rows[0]) if rows else None

    def unacknowledged(
        self,
        limit: int,
        *,
        without: Collection[int] = (),
        which: Waiting = Waiting.ANY,
        due: int = ALL_REPEATS,
    ) -> list[QueuedVerdict]:
        """Up to `limit` verdicts that wait: new ones, then repeated ones, then replayed ones.

        `without`: the positions of those that are on their way already. `due`: up to which repeat.
        """
        self._check_owner()
        rows = self._database.read(
            f"{SELECT_STORED} WHERE acknowledged_run_ns IS NULL AND {which.value} "
            "ORDER BY replayed, repeats, position LIMIT ?2",
            (due, limit + len(without)),
        )
        left_out = set(without)
        chosen = [row for row in rows if row[0] not in left_out][:limit]
        return [QueuedVerdict(stored_verdict(row), self._round) for row in chosen]

    def waiting(self) -> int:
        """How many verdicts wait for the broker, also those that it may have lost."""
        self._check_owner()
        return self._database.ask(count_waiting)

    def newest_sent(self) -> int:
        """The greatest position that the broker ever acknowledged; 0 where there is none."""
        self._check_owner()
        return self._database.ask(newest_sent)

    def acknowledge(self, verdicts: Iterable[QueuedVerdict], ago_s: Iterable[float] = repeat(0.0)) -> int:
        """The broker has these, as `unacknowledged` gave them; gives how many no longer wait.

        `ago_s`: how long ago that was heard of each. What was handed out before the last `requeue` goes on
        waiting: its acknowledgement may be of what the broker has lost.
        """
        self._check_owner()
        run_ns = self._run_ns()
        heard = {
            queued.verdict.position: run_ns - round(s * 1e9)
            for queued, s in zip(verdicts, ago_s, strict=False)
            if queued.round == self._round
        }

        def mark(db: sqlite3.Connection) -> int:
            acknowledge_pictures(db, list(heard))
            return acknowledge(db, heard, to_microseconds(utc_now()))

        # A loss of power may undo it: then they are sent again, and told by their id.
        return self._write(mark, durable=False, last_resort=self._reserve.drop) if heard else 0

    def requeue(self, window_s: float | None = None) -> int:
        """After the broker lost its state: what it acknowledged last waits again; gives how many.

        Of the last `window_s` (`outbox.requeue_s` if not given) before the newest acknowledgement: however
        long the broker was away, that is what it may have lost. To be called at each new connection, before
        an acknowledgement of it is written down: then what is older is sure (`edge.outbox_repeats`).
        """
        self._check_owner()
        window_ns = round((self._config.requeue_s if window_s is None else window_s) * 1e9)
        count = self._write(lambda db: wait_again(db, window_ns))
        self._round += 1
        return count

    def requeue_unsaved(self) -> int:
        """The same for a broker that remembers us, of `unsaved_s`: it may have been killed since."""
        return self.requeue(self.unsaved_s)

    def taken_along(self, queued: QueuedVerdict) -> QueuedVerdict:
        """The same, of which an acknowledgement is believed although a `requeue` came since.

        For one that is on its way all the same, and that only the broker of after can acknowledge.
        """
        return QueuedVerdict(queued.verdict, self._round)

    def replay(self, wanted: ReplayRange) -> Replay:
        """Send verdicts again, behind all that is new; raises `OutboxFull`: nothing is given up for it."""
        self._check_owner()
        return self._database.change(lambda db: replay_rows(db, wanted), durable=True)

    def label(self, said: PartLabel) -> int:
        """Keep what is said of a verdict's part; gives its position. Raises `ResultUnknown`, `OutboxFull`."""
        self._check_owner()
        return self._database.change(lambda db: insert_label(db, said), durable=True)

    def add_picture(self, info: PictureInfo, data: bytes) -> bool:
        """Keep a picture of a verdict that was committed; False where there is no room for it.

        Raises `OutboxUnwritable` where the disk refuses for another reason than room, and `OutboxError` where
        the verdict is not here, or has such a picture.
        """
        self._check_owner()
        try:
            return self._pictures.add(info, data)
        except OutboxFull:  # room for the file, none for its row
            self._pictures.refused += 1
            return False

    def maintain(self) -> None:
        """Keep the limits: to be called often, does its work about once a second, a piece at a time."""
        self._check_owner()
        now_ns = self._clock_ns()
        if now_ns - self._maintained_ns < _MAINTENANCE_NS:
            return
        self._maintained_ns = now_ns
        try:
            self._pictures.make_room(at_most_bytes=_PICTURE_PIECE)
            self._forget(self._run_ns() - round(self._config.ledger_days * _DAY_NS), _LEDGER_PIECE)
            if self._database.used_bytes() > self._config.ledger_max_mb * _MIB:
                self._forget(self._run_ns(), _LEDGER_PIECE)
        except OutboxFull as error:
            _log.error("%s", error)  # the next commit gives up what it must
        self._restore_ballast()
        self._status = self._look()

    def close(self) -> None:
        """Bring all into one file; harmless when called twice."""
        if self._lock < 0:
            return
        self._check_owner()
        try:
            self._database.checkpoint()
        except OutboxError as error:
            _log.warning("the log stays beside the database, which loses nothing: %s", error)
        finally:
            self._database.close()
            os.close(self._lock)
            self._lock = -1

    def _open(self) -> Database:
        path = self._folder / DATABASE_NAME
        try:
            return Database.open(path)
        except OutboxFull:
            if not (self._ballast.drop() or self._reserve.drop()):
                raise
            return Database.open(path)
        except OutboxDamaged as error:
            aside = set_aside(path, self._folder / PICTURES_NAME)
            _log.critical("%s Now it is %s, and a new one is begun.", error, aside)
            database = Database.open(path)
            salvage(aside, database)
            return database

    def _restore_ballast(self) -> None:
        if not (self._reserve.restore() and self._ballast.restore()):
            self._forget_ahead()

    def _drop_ballast(self) -> bool:
        dropped = self._ballast.drop()
        if dropped:
            self._forget_ahead()
        return dropped

    def _forget_ahead(self) -> None:
        """Keep room within the file: on a full disk there is none left to write what is to be removed."""
        try:
            while (
                self._database.number("PRAGMA freelist_count") < _PAGES_AHEAD
                and self._forget(self._run_ns(), _LEDGER_PIECE) == _LEDGER_PIECE
            ):
                pass
        except OutboxFull as error:
            _log.error("%s", error)

    def _write(
        self,
        change: Callable[[sqlite3.Connection], _T],
        *,
        durable: bool = True,
        last_resort: Callable[[], bool] = lambda: False,
    ) -> _T:
        while True:
            try:
                return self._database.change(change, durable=durable)
            except OutboxFull:
                if not (self._give_up_something() or last_resort()):
                    raise

    def _give_up_something(self) -> bool:
        """The disk is full: let the least important go; False where nothing is left to let go."""
        givers: tuple[Callable[[], object], ...] = (
            lambda: self._pictures.evict(_PICTURE_PIECE_WHEN_FULL),
            self._drop_ballast,
            lambda: self._forget(self._run_ns(), _PIECE_WHEN_FULL),
        )
        for give in givers:
            try:
                if give():
                    return True
            except OutboxFull as error:
                _log.error("%s", error)
        return False

    def _forget(self, until_ns: int, at_most: int) -> int:
        """Remove the oldest verdicts that were acknowledged until then; gives how many."""
        rows = self._database.read(
            "SELECT position FROM verdict WHERE acknowledged_run_ns <= ? "
            "ORDER BY acknowledged_run_ns LIMIT ?",
            (until_ns, at_most),
        )
        if rows:
            positions = [row[0] for row in rows]
            self._pictures.remove_of(positions)
            self._database.change(lambda db: remove(db, positions), durable=False)
        return len(rows)

    def _run_ns(self) -> int:
        return self._run_base_ns + self._clock_ns() - self._opened_ns

    def _look(self) -> OutboxStatus:
        held_bytes = self._ballast.held_bytes + self._reserve.held_bytes
        wanted_bytes = self._config.ballast_mb * _MIB
        return look(self._folder, self._database, self._pictures, held_bytes, wanted_bytes)

    def _check_owner(self) -> None:
        if self._lock < 0:
            raise OutboxError("the outbox is closed")
        if threading.get_ident() != self._owner:
            raise OutboxError(
                f"the outbox belongs to another thread than {threading.current_thread().name}; hand what is "
                "to be written to that thread, or take_over() once it has ended"
            )
