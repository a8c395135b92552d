"""Whatever is done to an outbox, and in whatever order, it holds what a list would hold."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from edge.clock import utc_now
from edge.errors import OutboxError, TriggerKnown
from edge.messages import PictureInfo, PictureKind
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_ledger import Ledger
from edge.outbox_records import QueuedVerdict, TriggerInHand
from edge.outbox_replay import ReplayRange
from edge.testing import sample_verdict

SETTINGS = OutboxConfig(keep_free_mb=0, pictures_max_mb=1, ledger_days=1)
MIB = 1 << 20
MEMORY = Path("/dev/shm")


@dataclass
class Row:
    """A verdict as the model knows it."""

    seq: int
    trigger: str | None
    acknowledged_s: float | None = None
    replayed: bool = False
    repeats: int = 0
    before_s: float | None = None


class OutboxMachine(RuleBasedStateMachine):
    triggers = Bundle("triggers")

    def __init__(self) -> None:
        super().__init__()
        self.temporary = TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
        self.folder = Path(self.temporary.name)
        self.now_s = 0
        self.rows: list[Row] = []
        self.in_hand: list[str] = []
        self.stale: list[QueuedVerdict] = []
        self.next = 0
        self.run_s = 0.0
        self.open()

    def open(self) -> None:
        self.opened_s, self.stale = self.now_s, []
        self.base_s = self.newest_s()
        self.outbox = Outbox(self.folder, SETTINGS, clock_ns=lambda: self.now_s * 10**9)

    def teardown(self) -> None:
        self.outbox.close()
        self.temporary.cleanup()

    def newest_s(self) -> float:
        """When the broker last acknowledged, be it what waits again since."""
        times = [r.before_s if r.acknowledged_s is None else r.acknowledged_s for r in self.rows]
        return max((time_s for time_s in times if time_s is not None), default=0.0)

    def running_s(self) -> float:
        return self.base_s + self.now_s - self.opened_s

    def waiting(self) -> list[Row]:
        return sorted(
            (r for r in self.rows if r.acknowledged_s is None),
            key=lambda r: (r.replayed, r.repeats, self.rows.index(r)),
        )

    def add(self, trigger: str | None) -> None:
        self.rows.append(Row(self.next, trigger))
        self.next += 1

    @rule(regions=st.integers(0, 1))
    def commit(self, regions: int) -> None:
        self.outbox.commit(sample_verdict(self.next, regions))
        self.add(None)

    @rule(target=triggers)
    def begin(self) -> object:
        name = f"t{self.next}-{len(self.in_hand)}"
        if name in self.in_hand:
            return multiple()
        self.outbox.begin(TriggerInHand(name, "command", utc_now(), None, 7))
        self.in_hand.append(name)
        return name

    @rule(trigger=triggers)
    def begin_again(self, trigger: str) -> None:
        if trigger in self.in_hand or any(row.trigger == trigger for row in self.rows):
            with pytest.raises(TriggerKnown):
                self.outbox.begin(TriggerInHand(trigger, "command", utc_now(), None, 7))

    @rule(trigger=triggers)
    def finish(self, trigger: str) -> None:
        if trigger in self.in_hand:
            self.outbox.finish(trigger, sample_verdict(self.next))
            self.in_hand.remove(trigger)
            self.add(trigger)
        else:
            with pytest.raises(OutboxError):
                self.outbox.finish(trigger, sample_verdict(self.next))

    @rule(chosen=st.sets(st.integers(0, 5)))
    def acknowledge(self, chosen: set[int]) -> None:
        queued = self.outbox.unacknowledged(6)
        self.stale = queued
        rows = self.waiting()
        picked = [number for number in chosen if number < len(queued)]
        assert self.outbox.acknowledge([queued[number] for number in picked]) == len(picked)
        for number in picked:
            rows[number].acknowledged_s = self.running_s()

    @rule(window_s=st.integers(1, 100_000))
    def requeue(self, window_s: int) -> None:
        since_s = self.newest_s() - window_s
        again = [r for r in self.rows if r.acknowledged_s is not None and r.acknowledged_s >= since_s]
        assert self.outbox.requeue(window_s) == len(again)
        for row in again:
            row.before_s, row.acknowledged_s, row.repeats = row.acknowledged_s, None, row.repeats + 1
        assert self.outbox.acknowledge(self.stale) == 0

    @rule(first=st.integers(0, 30), count=st.integers(1, 10))
    def replay(self, first: int, count: int) -> None:
        asked = [r for r in self.rows if first <= r.seq < first + count]
        again = [r for r in asked if r.acknowledged_s is not None]
        came = self.outbox.replay(ReplayRange((7, first), (7, first + count - 1)))
        assert (came.queued, came.waiting, came.next) == (len(again), len(asked) - len(again), None)
        for row in again:
            row.before_s, row.acknowledged_s, row.replayed, row.repeats = row.acknowledged_s, None, True, 0

    @rule(kind=st.sampled_from(PictureKind), size=st.integers(1, MIB // 2), which=st.integers(0, 50))
    def picture(self, kind: PictureKind, size: int, which: int) -> None:
        if which >= len(self.rows):
            return
        with Ledger(self.folder) as ledger:
            verdict = ledger.after(0, 1000)[which]
            known = {info.kind for info in ledger.pictures_of(verdict.result_id)}
        if kind in known:
            return
        data = bytes(size)
        info = PictureInfo(
            kind=kind,
            result_id=verdict.result_id,
            epoch=verdict.epoch,
            seq=verdict.seq,
            encoding="image/jpeg",
            width_px=1,
            height_px=1,
            low=None,
            high=None,
            colour_map=None,
            size_bytes=size,
            sha256=hashlib.sha256(data).hexdigest(),
        )
        if self.outbox.add_picture(info, data):
            with Ledger(self.folder) as ledger:
                assert ledger.picture(info) == data

    @rule(time_s=st.integers(1, 60_000))
    def wait(self, time_s: int) -> None:
        self.now_s += time_s
        self.outbox.maintain()
        old_s = self.running_s() - 86_400
        self.rows = [r for r in self.rows if r.acknowledged_s is None or r.acknowledged_s > old_s]

    @rule()
    def restart(self) -> None:
        self.outbox.close()
        self.open()

    @invariant()
    def it_holds_what_the_list_holds(self) -> None:
        queued = self.outbox.unacknowledged(1000)
        assert [(q.verdict.seq, q.verdict.replayed, q.verdict.repeats) for q in queued] == [
            (row.seq, row.replayed, row.repeats) for row in self.waiting()
        ]
        assert [trigger.trigger_id for trigger in self.outbox.in_hand()] == self.in_hand
        with Ledger(self.folder) as ledger:
            kept = ledger.after(0, 1000)
        assert [(k.seq, k.trigger_id, k.acknowledged is None) for k in kept] == [
            (row.seq, row.trigger, row.acknowledged_s is None) for row in self.rows
        ]

    @invariant()
    def pictures_keep_their_limit(self) -> None:
        files = [path.stat().st_size for path in (self.folder / "pictures").iterdir()]
        assert sum(files) <= MIB
        assert (self.outbox._pictures.count, self.outbox._pictures.size_bytes) == (len(files), sum(files))


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
