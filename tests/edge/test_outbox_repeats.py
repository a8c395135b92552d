"""What a broker may have lost goes again: none is lost, no new one waits for it, and it has an end."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import OutboxUnwritable
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_records import StoredVerdict
from edge.outbox_repeats import Waiting, repeats_due, rest_s
from edge.testing import RecordingPublisher, sample_verdict
from edge.work.delivering import Courier

UNSAVED_S = 10.0
SAVES_EVERY_S = 8.0
ON_THE_WAY_MAX = 20 + 10 + 1
MEMORY = Path("/dev/shm")


@given(st.floats(0, 1e9), st.floats(1e-3, 86_400))
def test_a_repeat_is_due_when_the_connection_has_stood_for_its_rest(stood_s: float, unsaved_s: float) -> None:
    due = repeats_due(stood_s, unsaved_s)
    assert due >= 1
    assert rest_s(due, unsaved_s) <= stood_s * (1 + 1e-12)
    assert stood_s <= rest_s(due + 1, unsaved_s) * (1 + 1e-12)


def test_the_rests_double() -> None:
    assert [rest_s(number, 10) for number in range(1, 7)] == [0, 10, 20, 40, 80, 160]
    assert [repeats_due(s, 10) for s in (0, 9.9, 10, 19.9, 20, 39.9, 40, 160)] == [1, 1, 2, 2, 3, 3, 4, 6]


@dataclass
class Plant:
    """A courier, and a broker that saves from time to time, between which the connection is lost.

    What the broker had not saved when it was killed is gone from it. `came` is what came in there,
    `stood_s` is how long there was a connection.
    """

    outbox: Outbox
    now_s: float = 0.0
    connected: bool = False
    memory: set[int] = field(default_factory=set)
    disk: set[int] = field(default_factory=set)
    saved_s: float = 0.0
    came: list[StoredVerdict] = field(default_factory=list)
    sent: list[StoredVerdict] = field(default_factory=list)
    committed: int = 0
    stood_s: float = 0.0

    def __post_init__(self) -> None:
        self.queue: deque[StoredVerdict] = deque()
        self.publisher = RecordingPublisher()
        self.publisher.publish_verdict = self._publish  # type: ignore[method-assign]
        self.courier = Courier(self.outbox, self.publisher, nudge=lambda: None, clock_s=lambda: self.now_s)

    def _publish(self, verdict: StoredVerdict, *, newest: bool) -> None:
        self.sent.append(verdict)
        self.queue.append(verdict)

    def commit(self, count: int) -> None:
        for _ in range(count):
            self.outbox.commit(sample_verdict(self.committed))
            self.committed += 1
        self.courier.committed()
        self.courier.step()

    def connect(self) -> None:
        self.connected = True
        self.courier.returned()
        self.courier.step()

    def lose(self, *, killed: bool, unanswered: int) -> None:
        """The last `unanswered` reach the broker, and their acknowledgements do not come back."""
        for verdict in list(self.queue)[:unanswered]:
            self._arrive(verdict)
        self.connected = False
        if killed:
            self.memory, self.saved_s = set(self.disk), self.now_s

    def wait(self, time_s: float) -> None:
        self.now_s += time_s
        if not self.connected:
            return
        self.stood_s += time_s
        if self.now_s >= self.saved_s + SAVES_EVERY_S:
            self.disk, self.saved_s = set(self.memory), self.now_s

    def serve(self) -> None:
        """The broker acknowledges all that is on its way, and what is sent on it."""
        while self.queue:
            verdict = self.queue.popleft()
            self._arrive(verdict)
            self.courier.delivered(verdict.position, None)
            self.courier.step()

    def _arrive(self, verdict: StoredVerdict) -> None:
        self.came.append(verdict)
        self.memory.add(verdict.position)

    def new_ones(self) -> int:
        return len(self.outbox.unacknowledged(1000, which=Waiting.NEW))


def plant(folder: str) -> Plant:
    now: list[Plant] = []
    outbox = Outbox(
        Path(folder),
        OutboxConfig(keep_free_mb=0, unsaved_s=UNSAVED_S),
        clock_ns=lambda: round(now[0].now_s * 1e9) if now else 0,
    )
    now.append(Plant(outbox))
    return now[0]


LOSSES = st.lists(
    st.tuples(
        st.floats(0.0, 45.0),  # how long the connection stands
        st.booleans(),  # whether the broker is killed
        st.integers(0, 31),  # how many messages of the last moment arrive
        st.integers(0, 30),  # new verdicts while there is no connection
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LOSSES)
def test_whenever_the_broker_is_killed_none_is_lost_and_the_repeats_have_an_end(
    losses: list[tuple[float, bool, int, int]],
) -> None:
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        line = plant(folder)
        for stands_s, killed, unanswered, meanwhile in losses:
            line.connect()
            line.serve()
            for _ in range(int(stands_s)):
                line.wait(1.0)
                line.commit(1)
                line.serve()
                assert line.new_ones() == 0
            line.commit(3)
            line.lose(killed=killed, unanswered=unanswered)
            line.wait(1.0)
            line.commit(meanwhile)
        line.connect()
        line.serve()
        assert line.new_ones() == 0
        ends_s = line.now_s + line.stood_s + 2 * UNSAVED_S  # as long as any can have to wait, and be saved
        while line.now_s <= ends_s:
            line.wait(1.0)
            line.courier.step()
            line.serve()
        assert line.outbox.waiting() == 0
        line.lose(killed=True, unanswered=0)
        assert line.memory == set(range(1, line.committed + 1))
        again = 1 + math.log2(1 + line.stood_s / UNSAVED_S)
        of_each = Counter(sent.position for sent in line.sent if sent.repeats)
        assert all(count <= again for count in of_each.values())
        repeats = len(line.came) - line.committed
        assert repeats <= of_each.total() + ON_THE_WAY_MAX * len(losses)
        line.outbox.close()


def test_a_connection_that_flaps_has_each_verdict_repeated_once_and_new_ones_first(tmp_path: Path) -> None:
    line = plant(str(tmp_path))
    for _ in range(40):
        line.commit(25)
        line.connect()
        first = len(line.came)
        line.serve()
        came = [verdict.repeats for verdict in line.came[first:]]
        assert came == [0] * 25 + [1] * (len(came) - 25)
        line.wait(UNSAVED_S / 2)  # half of what the broker may take to save
        line.commit(5)
        line.serve()
        line.lose(killed=False, unanswered=0)
    repeats = len(line.came) - line.committed
    assert repeats == line.committed - 30  # once each, but for those of the last connection
    assert line.outbox.waiting() > 0
    line.connect()
    line.serve()
    line.wait(UNSAVED_S)
    line.courier.step()
    line.serve()
    assert line.outbox.waiting() == 0
    assert max(verdict.repeats for verdict in line.came) == 2
    assert len(line.came) <= 3 * line.committed
    line.outbox.close()


def test_new_ones_find_the_way_free_while_others_are_repeated(tmp_path: Path) -> None:
    line = plant(str(tmp_path))
    line.commit(60)
    line.connect()
    line.serve()
    line.lose(killed=True, unanswered=0)
    line.connect()
    assert [sent.repeats for sent in line.sent[60:]] == [1] * 10  # so many at a time, however many there are
    line.commit(40)
    assert [sent.repeats for sent in line.sent[70:]] == [0] * 20  # all that may be under way
    line.serve()
    order = [sent.repeats for sent in line.sent[90:]]
    assert order == [0] * 20 + [1] * 50
    assert line.memory == set(range(1, 101))
    line.outbox.close()


def test_a_requeue_that_the_disk_refuses_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = plant(str(tmp_path))
    line.commit(3)
    line.connect()
    line.serve()
    line.lose(killed=True, unanswered=0)

    def refuse(window_s: float | None = None) -> int:
        raise OutboxUnwritable("read-only")

    with monkeypatch.context() as patched:
        patched.setattr(line.outbox, "requeue", refuse)
        for _ in range(2):
            with pytest.raises(OutboxUnwritable):
                line.connect()
    line.courier.step()
    line.serve()
    assert line.memory == {1, 2, 3}
    line.outbox.close()


def test_the_broker_is_told_its_last_verdict_again_and_no_older_one(tmp_path: Path) -> None:
    line = plant(str(tmp_path))
    told: list[tuple[int, bool]] = []

    def publish(verdict: StoredVerdict, *, newest: bool) -> None:
        told.append((verdict.position, newest))
        line.queue.append(verdict)

    line.publisher.publish_verdict = publish  # type: ignore[method-assign]
    line.commit(3)
    line.connect()
    line.serve()
    assert told == [(1, True), (2, True), (3, True)]
    line.courier = Courier(line.outbox, line.publisher, nudge=lambda: None, clock_s=lambda: line.now_s)
    line.connect()  # the next start's
    line.serve()
    assert told[3:] == [(1, False), (2, False), (3, True)]
    line.outbox.close()
