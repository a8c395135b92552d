"""A verdict comes in once, goes out in its order until it is acknowledged, and is kept for a while after."""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from edge.clock import utc_now
from edge.errors import (
    OutboxDamaged,
    OutboxError,
    OutboxForeign,
    OutboxInUse,
    OutboxUnwritable,
    ResultUnknown,
    TriggerKnown,
)
from edge.inspection import Outcome
from edge.messages import PictureInfo, PictureKind, Verdict
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_database import APPLICATION_ID, SCHEMA_VERSION, Database
from edge.outbox_labels import PartLabel
from edge.outbox_ledger import Ledger
from edge.outbox_records import QueuedVerdict, TriggerInHand
from edge.outbox_repeats import Waiting
from edge.outbox_replay import REPLAY_MAX, Replay, ReplayRange
from edge.outbox_salvage import salvage
from edge.testing import sample_verdict

SETTINGS = OutboxConfig(keep_free_mb=0)
MIB = 1 << 20


class Clock:
    """Monotonic nanoseconds that go on when told to."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, time_s: float) -> None:
        self.now_ns += round(time_s * 1e9)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where that can be: what these tests are about needs no disk, and syncing one is slow."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(tmp_path: Path, clock: Clock) -> Iterator[Outbox]:
    with Outbox(tmp_path, SETTINGS, clock_ns=clock) as opened:
        yield opened


def trigger(name: str = "") -> TriggerInHand:
    return TriggerInHand(name or str(uuid.uuid4()), "command", utc_now(), "part-1", 7)


def info_of(verdict: Verdict, data: bytes, kind: PictureKind = PictureKind.HEATMAP) -> PictureInfo:
    return PictureInfo(
        kind=kind,
        result_id=verdict.result_id,
        epoch=verdict.epoch,
        seq=verdict.seq,
        encoding="float16-le" if kind is PictureKind.MAP else "image/jpeg",
        width_px=8,
        height_px=8,
        low=None,
        high=None,
        colour_map=None,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def seqs(queued: list[QueuedVerdict]) -> list[int]:
    return [each.verdict.seq for each in queued]


def test_a_verdict_comes_out_as_it_went_in(outbox: Outbox) -> None:
    verdict = sample_verdict(3, regions=2)
    stored = outbox.commit(verdict)
    (queued,) = outbox.unacknowledged(10)
    assert queued.verdict == stored
    assert stored.payload == verdict.to_json()
    assert (stored.result_id, stored.epoch, stored.seq, stored.outcome) == (
        verdict.result_id,
        7,
        3,
        Outcome.FAIL,
    )


def test_verdicts_wait_in_their_order_over_a_restart(tmp_path: Path) -> None:
    with Outbox(tmp_path, SETTINGS) as first:
        for seq in range(5):
            first.commit(sample_verdict(seq))
        assert first.acknowledge(first.unacknowledged(2)) == 2
    with Outbox(tmp_path, SETTINGS) as second:
        assert seqs(second.unacknowledged(10)) == [2, 3, 4]
        assert second.status.unacknowledged == 3


def test_what_is_on_its_way_is_left_out(outbox: Outbox) -> None:
    for seq in range(6):
        outbox.commit(sample_verdict(seq))
    under_way = {each.verdict.position for each in outbox.unacknowledged(3)}
    assert seqs(outbox.unacknowledged(2, without=under_way)) == [3, 4]


def test_an_acknowledgement_counts_once(outbox: Outbox) -> None:
    outbox.commit(sample_verdict(0))
    queued = outbox.unacknowledged(1)
    assert outbox.acknowledge(queued) == 1
    assert outbox.acknowledge(queued) == 0
    assert outbox.acknowledge([]) == 0
    assert outbox.unacknowledged(1) == []


def test_an_id_or_a_number_is_taken_once(outbox: Outbox) -> None:
    verdict = sample_verdict(0)
    outbox.commit(verdict)
    for again in (verdict, sample_verdict(0), verdict.model_copy(update={"seq": 1})):
        with pytest.raises(OutboxError, match="is here already"):
            outbox.commit(again)
    assert seqs(outbox.unacknowledged(10)) == [0]


def test_one_trigger_gets_one_verdict(outbox: Outbox) -> None:
    asked = trigger()
    outbox.begin(asked)
    assert outbox.in_hand() == (asked,)
    assert outbox.verdict_of(asked.trigger_id) is None
    with pytest.raises(TriggerKnown):
        outbox.begin(asked)
    stored = outbox.finish(asked.trigger_id, sample_verdict(0))
    assert outbox.in_hand() == ()
    assert outbox.verdict_of(asked.trigger_id) == stored
    with pytest.raises(TriggerKnown):
        outbox.begin(asked)
    with pytest.raises(TriggerKnown):
        outbox.finish(asked.trigger_id, sample_verdict(1))
    with pytest.raises(OutboxError, match="never begun"):
        outbox.finish("nobody", sample_verdict(1))
    assert seqs(outbox.unacknowledged(10)) == [0]


def test_a_finish_that_fails_leaves_the_trigger_in_hand(outbox: Outbox) -> None:
    outbox.commit(sample_verdict(0))
    asked = trigger()
    outbox.begin(asked)
    with pytest.raises(OutboxError, match="is here already"):
        outbox.finish(asked.trigger_id, sample_verdict(0))
    assert outbox.in_hand() == (asked,)


def test_triggers_in_hand_outlive_the_process(tmp_path: Path) -> None:
    asked = [trigger() for _ in range(3)]
    with Outbox(tmp_path, SETTINGS) as first:
        for each in asked:
            first.begin(each)
        first.finish(asked[1].trigger_id, sample_verdict(0))
    with Outbox(tmp_path, SETTINGS) as second:
        assert second.in_hand() == (asked[0], asked[2])


def test_what_a_broker_may_have_lost_waits_again(outbox: Outbox, clock: Clock) -> None:
    for seq in range(4):
        outbox.commit(sample_verdict(seq))
        outbox.acknowledge(outbox.unacknowledged(1))
        clock.advance(10)
    clock.advance(3600)  # the broker was away: what counts is when it acknowledged
    assert outbox.requeue(15) == 2
    assert seqs(outbox.unacknowledged(10)) == [2, 3]
    assert not any(each.verdict.replayed for each in outbox.unacknowledged(10))


def test_connections_that_bring_nothing_have_nothing_older_wait_again(tmp_path: Path, clock: Clock) -> None:
    for seq in range(4):
        with Outbox(tmp_path, SETTINGS, clock_ns=clock) as outbox:
            clock.advance(10)
            outbox.commit(sample_verdict(seq))
            outbox.acknowledge(outbox.unacknowledged(1))
    for expected in (2, 0, 0):
        with Outbox(tmp_path, SETTINGS, clock_ns=clock) as outbox:
            assert outbox.requeue(15) == expected
            assert outbox.requeue(15) == 0
    with Outbox(tmp_path, SETTINGS, clock_ns=clock) as outbox:
        assert [(each.verdict.seq, each.verdict.repeats) for each in outbox.unacknowledged(9)] == [
            (2, 1),
            (3, 1),
        ]
        assert outbox.acknowledge(outbox.unacknowledged(9)) == 2
        assert outbox.requeue(15) == 2
        assert [each.verdict.repeats for each in outbox.unacknowledged(9)] == [2, 2]


def test_an_acknowledgement_counts_from_when_it_was_heard(outbox: Outbox, clock: Clock) -> None:
    for seq in range(3):
        outbox.commit(sample_verdict(seq))
    first, second, third = outbox.unacknowledged(3)
    clock.advance(1)
    outbox.acknowledge([first])
    clock.advance(100)  # whoever writes them down was held up
    outbox.acknowledge([second, third], [100, 99])
    assert outbox.requeue(0.5) == 1
    assert seqs(outbox.unacknowledged(9)) == [2]
    assert outbox.requeue(1) == 2


@pytest.mark.parametrize(("window_s", "expected"), [(4, [1]), (6, [0, 1])])
def test_the_window_of_a_requeue_reaches_over_a_restart(
    tmp_path: Path, clock: Clock, window_s: float, expected: list[int]
) -> None:
    for seq in range(2):
        with Outbox(tmp_path, SETTINGS, clock_ns=clock) as outbox:
            clock.advance(5)
            outbox.commit(sample_verdict(seq))
            outbox.acknowledge(outbox.unacknowledged(1))
        clock.now_ns = 1_000_000  # another boot
    with Outbox(tmp_path, SETTINGS, clock_ns=clock) as outbox:
        assert outbox.requeue(window_s) == len(expected)
        assert seqs(outbox.unacknowledged(10)) == expected


def test_an_acknowledgement_from_before_a_requeue_is_not_believed(outbox: Outbox) -> None:
    outbox.commit(sample_verdict(0))
    old = outbox.unacknowledged(1)
    outbox.requeue()
    assert outbox.acknowledge(old) == 0
    assert outbox.acknowledge(outbox.unacknowledged(1)) == 1


def test_a_replay_goes_behind_what_is_new(outbox: Outbox) -> None:
    for seq in range(5):
        outbox.commit(sample_verdict(seq))
    outbox.acknowledge(outbox.unacknowledged(4))
    outbox.commit(sample_verdict(5))
    assert outbox.replay(ReplayRange((7, 1), (7, 9))) == Replay(3, 2, None)
    waiting = outbox.unacknowledged(10)
    assert seqs(waiting) == [4, 5, 1, 2, 3]
    assert [each.verdict.replayed for each in waiting] == [False, False, True, True, True]
    assert outbox.acknowledge(waiting) == 5
    assert outbox.replay(ReplayRange((8, 0), (8, 9))) == Replay(0, 0, None)
    assert seqs(outbox.unacknowledged(10, which=Waiting.REPLAYED)) == []


def test_a_broker_that_lost_a_replayed_one_gets_it_as_such(outbox: Outbox) -> None:
    for seq in range(2):
        outbox.commit(sample_verdict(seq))
    outbox.acknowledge(outbox.unacknowledged(2))
    outbox.replay(ReplayRange((7, 0), (7, 0)))
    outbox.acknowledge(outbox.unacknowledged(1))
    assert outbox.requeue() == 2
    waiting = outbox.unacknowledged(2)
    assert [(each.verdict.seq, each.verdict.replayed) for each in waiting] == [(1, False), (0, True)]


def test_new_ones_and_replayed_ones_can_be_told_apart(outbox: Outbox) -> None:
    for seq in range(4):
        outbox.commit(sample_verdict(seq))
    outbox.acknowledge(outbox.unacknowledged(3))
    outbox.replay(ReplayRange((7, 0)))
    assert seqs(outbox.unacknowledged(10, which=Waiting.NEW)) == [3]
    assert seqs(outbox.unacknowledged(2, which=Waiting.REPLAYED)) == [0, 1]
    assert seqs(outbox.unacknowledged(10, without=[1], which=Waiting.REPLAYED)) == [1, 2]


def test_a_replay_over_epochs_goes_on_where_its_limit_ended(outbox: Outbox) -> None:
    for epoch in (3, 7, 5):  # a clock that was set back
        for seq in range(4):
            made = sample_verdict(seq).model_copy(
                update={"epoch": epoch, "result_id": f"{epoch}-{seq}", "creation_time": utc_now()}
            )
            outbox.commit(made)
    outbox.acknowledge(outbox.unacknowledged(20))
    again = []
    start: tuple[int, int] | None = (3, 2)
    while start is not None:
        came = outbox.replay(ReplayRange(start, (7, 1), limit=3))
        sent = outbox.unacknowledged(20)
        assert len(sent) == came.queued
        again += [queued.verdict.result_id for queued in sent]
        outbox.acknowledge(sent)
        start = came.next
    assert sorted(again) == ["3-2", "3-3", "5-0", "5-1", "5-2", "5-3", "7-0", "7-1"]


def test_a_replay_by_time(outbox: Outbox) -> None:
    old = sample_verdict(0).model_copy(update={"creation_time": utc_now() - timedelta(hours=2)})
    outbox.commit(old)
    outbox.commit(sample_verdict(1))
    outbox.acknowledge(outbox.unacknowledged(2))
    hour_ago = utc_now() - timedelta(hours=1)
    assert outbox.replay(ReplayRange(hour_ago)).queued == 1
    assert seqs(outbox.unacknowledged(10)) == [1]
    assert outbox.replay(ReplayRange(old.creation_time, hour_ago)) == Replay(1, 0, None)
    assert outbox.replay(ReplayRange(old.creation_time, limit=1)) == Replay(0, 1, (7, 1))


@pytest.mark.parametrize("limit", [0, REPLAY_MAX + 1])
def test_a_replay_has_an_end(limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        ReplayRange((7, 0), limit=limit)


class TestLabels:
    """What people say about parts afterwards."""

    def test_the_later_label_of_a_person_takes_the_place_of_the_earlier(
        self, outbox: Outbox, tmp_path: Path
    ) -> None:
        verdict = outbox.commit(sample_verdict(0, 1))
        positions = [
            outbox.label(PartLabel(verdict.result_id, who, label, note, utc_now()))
            for who, label, note in [
                ("anna", "scratch", "left"),
                ("ben", "good", None),
                ("anna", "good", None),
            ]
        ]
        assert positions == [1, 2, 3]
        with Ledger(tmp_path) as ledger:
            labels = ledger.labels_since(0)
            assert ledger.labels_since(1, limit=1) == labels[1:2]
            assert ledger.labels_since(3) == []
        assert [(one.issued_by, one.label, one.replaced, one.replaces) for one in labels] == [
            ("anna", "scratch", True, None),
            ("ben", "good", False, None),
            ("anna", "good", False, 1),
        ]
        said = Verdict.model_validate_json(verdict.payload)
        assert (labels[0].outcome, labels[0].score, labels[0].threshold) == (
            Outcome.FAIL,
            said.score,
            said.threshold,
        )
        assert (labels[0].recipe_id, labels[0].model_sha256) == (said.recipe_id, said.model_sha256)
        assert (labels[0].calibration_id, labels[0].note) == (said.calibration_id, "left")

    def test_an_unknown_result_has_none(self, outbox: Outbox) -> None:
        outbox.begin(trigger("in hand"))
        for result_id in ("nobody", "in hand"):
            with pytest.raises(ResultUnknown, match="ledger_days"):
                outbox.label(PartLabel(result_id, "anna", "good", None, utc_now()))

    def test_a_label_outlives_its_verdict(self, tmp_path: Path, clock: Clock) -> None:
        with Outbox(tmp_path, OutboxConfig(keep_free_mb=0, ledger_days=1), clock_ns=clock) as outbox:
            verdict = outbox.commit(sample_verdict(0))
            outbox.label(PartLabel(verdict.result_id, "anna", "good", None, utc_now()))
            outbox.acknowledge(outbox.unacknowledged(1))
            clock.advance(2 * 86_400)
            outbox.maintain()
            with Ledger(tmp_path) as ledger:
                assert ledger.find(verdict.result_id) is None
                assert [one.result_id for one in ledger.labels_since(0)] == [verdict.result_id]
            with pytest.raises(ResultUnknown):
                outbox.label(PartLabel(verdict.result_id, "ben", "good", None, utc_now()))

    def test_they_are_bounded(self, outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edge.outbox_labels.LABELS_MAX", 3)
        verdict = outbox.commit(sample_verdict(0))
        for number in range(5):
            outbox.label(PartLabel(verdict.result_id, f"p{number}", "good", None, utc_now()))
        with Ledger(tmp_path) as ledger:
            assert [one.issued_by for one in ledger.labels_since(0)] == ["p2", "p3", "p4"]


VERSION_2 = """
DROP INDEX verdict_before;
DROP INDEX verdict_waiting;
ALTER TABLE verdict DROP COLUMN repeats;
ALTER TABLE verdict DROP COLUMN before_run_ns;
CREATE INDEX verdict_waiting ON verdict (replayed, position) WHERE acknowledged_run_ns IS NULL;
PRAGMA user_version = 2;
"""
VERSION_1 = f"""
{VERSION_2}
DROP TABLE label;
ALTER TABLE trigger_in_hand DROP COLUMN request_id;
PRAGMA user_version = 1;
"""
OLDER = {1: VERSION_1, 2: VERSION_2}


@pytest.mark.parametrize("version", OLDER)
def test_an_outbox_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    with Outbox(tmp_path, SETTINGS) as before:
        kept = before.commit(sample_verdict(0))
        before.commit(sample_verdict(1))
        before.acknowledge(before.unacknowledged(1))
        before.begin(trigger("t"))
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as connection:
        connection.executescript(OLDER[version])
    for number in range(2):
        with Outbox(tmp_path, SETTINGS) as after:
            assert seqs(after.unacknowledged(5)) == [1, 0][: number + 1]
            after.requeue()
            assert seqs(after.unacknowledged(5)) == [1, 0]
            assert [(one.trigger_id, one.request_id) for one in after.in_hand()] == [("t", None)]
            after.label(PartLabel(kept.result_id, "anna", "good", None, utc_now()))
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_the_ledger_forgets_what_is_old_and_acknowledged(tmp_path: Path, clock: Clock) -> None:
    config = OutboxConfig(keep_free_mb=0, ledger_days=1)
    with Outbox(tmp_path, config, clock_ns=clock) as outbox:
        for seq in range(3):
            outbox.commit(sample_verdict(seq))
            if seq != 1:
                outbox.acknowledge(outbox.unacknowledged(2)[-1:])
            clock.advance(0.75 * 86_400)
            outbox.maintain()
        # 0 was acknowledged 2.25 days ago, 2 0.75 days ago; 1 never
        with Ledger(tmp_path) as ledger:
            assert [each.seq for each in ledger.after(0, 10)] == [1, 2]
        assert seqs(outbox.unacknowledged(10)) == [1]


def test_the_ledger_has_a_size(tmp_path: Path, clock: Clock) -> None:
    config = OutboxConfig(keep_free_mb=0, ledger_max_mb=1)
    with Outbox(tmp_path, config, clock_ns=clock) as outbox:
        long = sample_verdict(0, regions=1).model_copy(update={"detail": "x" * 50_000})
        for seq in range(60):
            outbox.commit(long.model_copy(update={"seq": seq, "result_id": str(seq)}))
            if seq % 10:
                outbox.acknowledge(outbox.unacknowledged(10)[-1:])
        for _ in range(10):
            clock.advance(1)
            outbox.maintain()
        assert outbox.status.verdict_bytes <= 1 * MIB
        assert seqs(outbox.unacknowledged(99)) == [0, 10, 20, 30, 40, 50]


def test_another_thread_is_sent_away(outbox: Outbox) -> None:
    found: list[BaseException] = []

    def intrude() -> None:
        try:
            outbox.commit(sample_verdict(0))
        except OutboxError as error:
            found.append(error)
        outbox.take_over()
        outbox.commit(sample_verdict(1))

    thread = threading.Thread(target=intrude, name="intruder")
    thread.start()
    thread.join()
    assert "belongs to another thread than intruder" in str(found[0])
    outbox.take_over()
    assert seqs(outbox.unacknowledged(10)) == [1]


def test_a_closed_outbox_says_so(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, SETTINGS)
    outbox.close()
    outbox.close()
    with pytest.raises(OutboxError, match="closed"):
        outbox.unacknowledged(1)
    assert not (tmp_path / "outbox.db-wal").exists()


def test_two_can_not_have_it(tmp_path: Path) -> None:
    with Outbox(tmp_path, SETTINGS), pytest.raises(OutboxInUse, match="another process"):
        Outbox(tmp_path, SETTINGS)
    Outbox(tmp_path, SETTINGS).close()


def test_a_lock_of_another_program_is_no_endless_wait(tmp_path: Path) -> None:
    with Outbox(tmp_path, SETTINGS) as outbox:
        other = sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OutboxUnwritable, match="locked"):
            outbox.commit(sample_verdict(0))
        other.execute("ROLLBACK")
        other.close()
        outbox.commit(sample_verdict(0))


def test_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "outbox.db") as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = (tmp_path / "outbox.db").read_bytes()
    with pytest.raises(OutboxForeign, match="is no outbox"):
        Outbox(tmp_path, SETTINGS)
    assert (tmp_path / "outbox.db").read_bytes() == before


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1])
def test_another_version_is_refused(tmp_path: Path, version: int) -> None:
    Outbox(tmp_path, SETTINGS).close()
    other = sqlite3.connect(tmp_path / "outbox.db")
    other.execute(f"PRAGMA user_version = {version}")
    other.close()
    with pytest.raises(OutboxForeign, match=f"schema version {version}"):
        Outbox(tmp_path, SETTINGS)
    other = sqlite3.connect(tmp_path / "outbox.db")
    assert other.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    other.close()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("x")
    with pytest.raises(OutboxUnwritable, match="can't be used"):
        Outbox(tmp_path / "outbox", SETTINGS)


class TestDamage:
    def fill(self, folder: Path, count: int = 400) -> list[str]:
        with Outbox(folder, SETTINGS) as outbox:
            ids = [outbox.commit(sample_verdict(seq, regions=1)).result_id for seq in range(count)]
            outbox.acknowledge(outbox.unacknowledged(10))
            outbox.begin(trigger("begun"))
        return ids[10:]

    def test_it_is_set_aside_and_what_can_be_read_is_saved(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        waiting = self.fill(tmp_path)
        path = tmp_path / "outbox.db"
        whole = path.read_bytes()
        page = 4096
        at = whole.index(f'"result_id":"{waiting[150]}"'.encode()) // page * page  # of the payloads
        path.write_bytes(whole[:at] + b"\xa5" * page + whole[at + page :])
        damaged = path.read_bytes()
        with caplog.at_level(logging.CRITICAL), Outbox(tmp_path, SETTINGS) as outbox:
            (aside,) = tmp_path.glob("outbox.damaged-*-1.db")
            assert aside.read_bytes() == damaged
            assert outbox.status.set_aside == (aside.name,)
            assert "look at it" in outbox.status.alarms[0]
            saved = [each.verdict.result_id for each in outbox.unacknowledged(1000)]
            assert len(waiting) - 20 < len(saved) < len(waiting)  # but for those of one page
            assert saved == [each for each in waiting if each in set(saved)]
            assert [each.trigger_id for each in outbox.in_hand()] == ["begun"]
            outbox.commit(sample_verdict(1000))
        assert "could be read, and were saved" in caplog.text
        with Outbox(tmp_path, SETTINGS) as again:
            assert len(again.unacknowledged(1000)) == len(saved) + 1

    @pytest.mark.parametrize("version", [1, 2, SCHEMA_VERSION])
    def test_triggers_and_labels_are_saved_from_each_version(self, tmp_path: Path, version: int) -> None:
        with Outbox(tmp_path / "old", SETTINGS) as old:
            verdict = old.commit(sample_verdict(0))
            old.begin(TriggerInHand("t", "command", utc_now(), "part-1", 7, "request-1"))
            old.label(PartLabel(verdict.result_id, "anna", "good", "why", utc_now()))
        if version != SCHEMA_VERSION:
            with closing(sqlite3.connect(tmp_path / "old" / "outbox.db")) as connection:
                connection.executescript(OLDER[version])
        Outbox(tmp_path / "new", SETTINGS).close()
        database = Database.open(tmp_path / "new" / "outbox.db")
        salvage(tmp_path / "old" / "outbox.db", database)
        database.close()
        with Outbox(tmp_path / "new", SETTINGS) as new, Ledger(tmp_path / "new") as ledger:
            known = None if version == 1 else "request-1"
            assert [(one.trigger_id, one.request_id) for one in new.in_hand()] == [("t", known)]
            assert [(one.label, one.note) for one in ledger.labels_since(0)] == [("good", "why")] * (
                version > 1
            )

    def test_a_large_file_is_checked_once_in_each_boot_and_after_damage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waiting = self.fill(tmp_path)
        Outbox(tmp_path, SETTINGS).close()
        monkeypatch.setattr("edge.outbox_database._QUICKLY_CHECKED_BYTES", 0)
        path = tmp_path / "outbox.db"
        whole = bytearray(path.read_bytes())
        at = whole.index(f'"result_id":"{waiting[-1]}"'.encode()) // 4096 * 4096
        whole[at : at + 4096] = bytes(4096)
        path.write_bytes(whole)
        with Outbox(tmp_path, SETTINGS) as outbox:  # it was checked in this boot
            assert outbox.status.set_aside == ()
            with pytest.raises(OutboxDamaged, match="sets it aside"):
                outbox.unacknowledged(1000)
        with Outbox(tmp_path, SETTINGS) as outbox:
            assert len(outbox.status.set_aside) == 1
            assert len(outbox.unacknowledged(1000)) > len(waiting) - 20

    def test_a_large_file_is_checked_after_a_boot(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fill(tmp_path, 200)
        monkeypatch.setattr("edge.outbox_database._QUICKLY_CHECKED_BYTES", 0)
        monkeypatch.setattr("edge.outbox_database.boot_id", lambda: "another")
        path = tmp_path / "outbox.db"
        whole = bytearray(path.read_bytes())
        whole[-4096:] = bytes(4096)
        path.write_bytes(whole)
        with Outbox(tmp_path, SETTINGS) as outbox:
            assert len(outbox.status.set_aside) == 1

    def test_so_is_what_is_no_database_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "outbox.db").write_bytes(b"not a database, but long enough to look at " * 100)
        pictures = tmp_path / "pictures"
        pictures.mkdir()
        (pictures / "7-00000001.heatmap.jpg").write_bytes(b"picture")
        with Outbox(tmp_path, SETTINGS) as outbox:
            outbox.commit(sample_verdict(0))
        (kept,) = tmp_path.glob("pictures.damaged-*/7-00000001.heatmap.jpg")
        assert kept.read_bytes() == b"picture"
        (tmp_path / "outbox.db").write_bytes(b"again")
        Outbox(tmp_path, SETTINGS).close()
        assert len(list(tmp_path.glob("outbox.damaged-*.db"))) == 2

    def test_a_log_cut_off_in_a_crash_is_no_damage(self, tmp_path: Path) -> None:
        self.fill(tmp_path, 20)
        with Outbox(tmp_path, SETTINGS) as outbox:
            outbox.commit(sample_verdict(20))
            outbox.commit(sample_verdict(21))
            files = {f.name: f.read_bytes() for f in tmp_path.glob("outbox.db*")}
        log = files["outbox.db-wal"]
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        (crashed / "outbox.db").write_bytes(files["outbox.db"])
        (crashed / "outbox.db-wal").write_bytes(log[: len(log) - 100])
        with Outbox(crashed, SETTINGS) as outbox:
            assert outbox.status.set_aside == ()
            assert seqs(outbox.unacknowledged(99))[-1] == 20


class TestPictures:
    def store(self, tmp_path: Path, **settings: Any) -> Outbox:
        return Outbox(tmp_path, OutboxConfig(**{"keep_free_mb": 0, "pictures_max_mb": 1, **settings}))

    def kept(self, tmp_path: Path) -> set[str]:
        return {path.name for path in (tmp_path / "pictures").iterdir()}

    def test_they_can_be_opened_and_read(self, tmp_path: Path) -> None:
        verdict, data = sample_verdict(4), b"jpeg"
        with self.store(tmp_path) as outbox, Ledger(tmp_path) as ledger:
            outbox.commit(verdict)
            info = info_of(verdict, data)
            assert outbox.add_picture(info, data)
            assert self.kept(tmp_path) == {"7-00000004.heatmap.jpg"}
            assert ledger.pictures_of(verdict.result_id) == [info]
            assert ledger.picture(info) == data
            (tmp_path / "pictures/7-00000004.heatmap.jpg").write_bytes(b"jpeX")
            assert ledger.picture(info) is None

    def test_the_least_important_and_oldest_go_first(self, tmp_path: Path) -> None:
        quarter = b"x" * (MIB // 4)
        with self.store(tmp_path) as outbox:
            verdicts = [sample_verdict(seq, regions=seq % 2) for seq in range(4)]  # 1 and 3 fail
            for verdict in verdicts:
                outbox.commit(verdict)
            outbox.acknowledge(outbox.unacknowledged(3))  # 3 waits
            for verdict in verdicts[::-1]:
                assert outbox.add_picture(info_of(verdict, quarter), quarter)
            assert len(self.kept(tmp_path)) == 4

            def add(seq: int, kind: PictureKind, *, regions: int = 0) -> bool:
                verdict = sample_verdict(seq, regions)
                outbox.commit(verdict)
                return outbox.add_picture(info_of(verdict, quarter, kind), quarter)

            assert not add(4, PictureKind.MAP)  # nothing here is worth less than a raw map
            assert len(self.kept(tmp_path)) == 4
            assert add(5, PictureKind.IMAGE)
            assert "7-00000002.heatmap.jpg" not in self.kept(tmp_path)  # an acknowledged pass, the older one
            assert "7-00000000.heatmap.jpg" in self.kept(tmp_path)
            assert add(6, PictureKind.IMAGE)
            assert "7-00000000.heatmap.jpg" not in self.kept(tmp_path)
            assert add(7, PictureKind.IMAGE)
            assert self.kept(tmp_path) == {
                "7-00000003.heatmap.jpg",
                "7-00000005.image-rgb.jpg",
                "7-00000006.image-rgb.jpg",
                "7-00000007.image-rgb.jpg",
            }
            outbox.acknowledge(outbox.unacknowledged(99))
            assert add(8, PictureKind.IMAGE)
            assert "7-00000005.image-rgb.jpg" not in self.kept(tmp_path)  # all else is as old or a fail
            assert outbox.requeue(1e-9) > 0
            assert "7-00000003.heatmap.jpg" in self.kept(tmp_path)

    def test_their_bytes_have_a_hard_limit(self, tmp_path: Path) -> None:
        with self.store(tmp_path) as outbox:
            for seq in range(40):
                verdict = sample_verdict(seq, regions=seq % 3)
                outbox.commit(verdict)
                for kind in PictureKind:
                    data = bytes(30_000 + 1000 * seq)
                    outbox.add_picture(info_of(verdict, data, kind), data)
                    total = sum(f.stat().st_size for f in (tmp_path / "pictures").iterdir())
                    assert total <= MIB
                if seq % 2:
                    outbox.acknowledge(outbox.unacknowledged(1))

    def test_one_larger_than_all_may_be_is_refused_and_nothing_else_goes(self, tmp_path: Path) -> None:
        verdict, small, huge = sample_verdict(0), bytes(1000), bytes(2 * MIB)
        with self.store(tmp_path) as outbox:
            outbox.commit(verdict)
            assert outbox.add_picture(info_of(verdict, small), small)
            assert not outbox.add_picture(info_of(verdict, huge, PictureKind.IMAGE), huge)
            assert self.kept(tmp_path) == {"7-00000000.heatmap.jpg"}

    def test_nothing_goes_for_one_that_would_not_fit_even_then(self, tmp_path: Path) -> None:
        one, two = sample_verdict(0, regions=1), sample_verdict(1)
        with self.store(tmp_path) as outbox:
            outbox.commit(one)
            outbox.commit(two)
            for kind, size in ((PictureKind.MAP, 100_000), (PictureKind.HEATMAP, 900_000)):
                assert outbox.add_picture(info_of(one, bytes(size), kind), bytes(size))
            large_map = bytes(300_000)  # more than the old map has, and the heatmap of a fail stays
            assert not outbox.add_picture(info_of(two, large_map, PictureKind.MAP), large_map)
            assert self.kept(tmp_path) == {"7-00000000.map.f16", "7-00000000.heatmap.jpg"}

    def test_none_are_kept_where_none_are_wanted(self, tmp_path: Path) -> None:
        verdict = sample_verdict(0)
        with self.store(tmp_path, pictures_max_mb=0) as outbox:
            outbox.commit(verdict)
            assert not outbox.add_picture(info_of(verdict, b"x"), b"x")
        assert self.kept(tmp_path) == set()

    def test_a_picture_needs_its_verdict_and_comes_once(self, tmp_path: Path) -> None:
        verdict = sample_verdict(0)
        with self.store(tmp_path) as outbox:
            with pytest.raises(OutboxError, match="commit it before"):
                outbox.add_picture(info_of(verdict, b"x"), b"x")
            outbox.commit(verdict)
            outbox.add_picture(info_of(verdict, b"x"), b"x")
            with pytest.raises(OutboxError, match="already"):
                outbox.add_picture(info_of(verdict, b"y"), b"y")
            assert (tmp_path / "pictures/7-00000000.heatmap.jpg").read_bytes() == b"x"

    def test_after_a_crash_only_whole_ones_are_left(self, tmp_path: Path) -> None:
        with self.store(tmp_path) as outbox:
            for seq in range(4):
                verdict = sample_verdict(seq)
                outbox.commit(verdict)
                outbox.add_picture(info_of(verdict, b"picture"), b"picture")
        folder = tmp_path / "pictures"
        (folder / "7-00000000.heatmap.jpg").unlink()
        (folder / "7-00000001.heatmap.jpg").write_bytes(b"")
        (folder / "9-00000001.map.f16").write_bytes(b"no row")
        (folder / "notes.txt").write_text("not ours")
        with self.store(tmp_path) as outbox:
            assert self.kept(tmp_path) == {"7-00000002.heatmap.jpg", "7-00000003.heatmap.jpg", "notes.txt"}
            assert (outbox.status.pictures, outbox.status.picture_bytes) == (2, 14)

    def test_they_go_with_their_verdict(self, tmp_path: Path) -> None:
        clock = Clock()
        config = OutboxConfig(keep_free_mb=0, ledger_days=1)
        with Outbox(tmp_path, config, clock_ns=clock) as outbox:
            verdict = sample_verdict(0)
            outbox.commit(verdict)
            outbox.add_picture(info_of(verdict, b"x"), b"x")
            outbox.acknowledge(outbox.unacknowledged(1))
            clock.advance(2 * 86_400)
            outbox.maintain()
            assert self.kept(tmp_path) == set()
            assert outbox.status.pictures == 0


class TestLedger:
    def test_it_reads_beside_the_owner(self, outbox: Outbox, tmp_path: Path) -> None:
        with Ledger(tmp_path) as ledger:
            stored = [outbox.commit(sample_verdict(seq, regions=seq % 2)) for seq in range(6)]
            outbox.acknowledge(outbox.unacknowledged(1))
            assert [each.seq for each in ledger.after(stored[3].position, 10)] == [4, 5]
            assert [each.seq for each in ledger.latest(2)] == [5, 4]
            assert [each.seq for each in ledger.latest(2, [Outcome.FAIL])] == [5, 3]
            first = ledger.find(stored[0].result_id)
            assert first is not None
            assert first.acknowledged is not None
            assert ledger.find("nobody") is None

    def test_it_can_change_nothing(self, outbox: Outbox, tmp_path: Path) -> None:
        outbox.commit(sample_verdict(0))
        with Ledger(tmp_path) as ledger, pytest.raises(OutboxUnwritable, match="readonly"):
            ledger._read("DELETE FROM verdict RETURNING position", ())

    def test_where_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(OutboxUnwritable, match="unable to open"):
            Ledger(tmp_path)
