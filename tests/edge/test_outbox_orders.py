"""Commands about verdicts: which are sent again, at whose cost, and what people say of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from edge.clerk import Clerk
from edge.clock import Session
from edge.errors import OutboxFull
from edge.labelling.filing import Filed
from edge.order_messages import Answer
from edge.orders import OrderDesk
from edge.outbox import Outbox
from edge.outbox_ledger import Ledger
from edge.outbox_orders import outbox_handlers
from edge.outbox_records import StoredVerdict
from edge.testing import RecordingPublisher, ScratchOutbox, sample_verdict
from edge.topics import Topics
from edge.work.delivering import Courier
from edge.work.errands import Errands

EPOCH = sample_verdict().epoch
SESSION = Session(epoch=1, boot_id="boot", software_version="0")


def no_frame(result_id: str, position: int, then: Callable[[Filed], None]) -> None:
    """A rig that keeps no frames."""
    then(Filed(reason="frame_gone", detail="none are kept"))


class Told:
    """A desk over an outbox whose errands are done when the test says so."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.errands = Errands(nudge=lambda: None)
        self.desk = OrderDesk(
            outbox_handlers(self.errands.ask, lambda work: work(), no_frame),
            Topics("r"),
            SESSION,
            lambda *_: None,
        )
        self._asked = 0

    def ask(self, command: str, **fields: object) -> Future[Answer]:
        self._asked += 1
        said = {"request_id": str(self._asked), "issued_by": "dashboard"} | fields
        return self.desk.ask(command, json.dumps(said).encode())

    def answer(self, command: str, **fields: object) -> Answer:
        future = self.ask(command, **fields)
        self.errands.do_one(self.outbox)
        return future.result(0)


@pytest.fixture
def told() -> Iterator[Told]:
    outbox = ScratchOutbox()
    yield Told(outbox)
    outbox.close()


def fill(outbox: Outbox, count: int) -> list[StoredVerdict]:
    """So many acknowledged verdicts."""
    stored = [outbox.commit(sample_verdict(seq)) for seq in range(count)]
    outbox.acknowledge(outbox.unacknowledged(count))
    return stored


class TestReplay:
    def test_it_says_how_many_and_where_to_go_on(self, told: Told) -> None:
        fill(told.outbox, 5)
        told.outbox.commit(sample_verdict(5))
        said = told.answer("replay", from_epoch=EPOCH, from_seq=1, to_epoch=EPOCH, to_seq=5, limit=3)
        assert (said.status, said.reason, said.count) == ("accepted", None, 3)
        assert said.detail == f"the limit left out what comes after; go on from epoch {EPOCH}, seq 4"
        said = told.answer("replay", from_epoch=EPOCH, from_seq=4)
        assert (said.count, said.detail) == (1, "1 more wait for the broker anyway")
        assert told.answer("replay", from_epoch=EPOCH + 1, from_seq=0).count == 0

    def test_by_time(self, told: Told) -> None:
        fill(told.outbox, 3)
        now = datetime.now(timezone.utc)

        def utc(hours: int) -> str:
            return (now + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")

        assert told.answer("replay", from_time=utc(-1)).count == 3
        told.outbox.acknowledge(told.outbox.unacknowledged(3))
        assert told.answer("replay", from_time=utc(-2), to_time=utc(-1)).count == 0
        assert told.answer("replay", from_time=utc(-2), to_time=utc(1)).count == 3

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"from_epoch": 1},
            {"from_seq": 1},
            {"from_epoch": 1, "from_seq": 1, "to_epoch": 2},
            {"from_epoch": 1, "from_seq": 1, "to_seq": 2},
            {"from_epoch": 1, "from_seq": 1, "to_time": "2030-01-31T12:00:00Z"},
            {"from_epoch": 1, "from_seq": 1, "from_time": "2030-01-31T12:00:00Z"},
            {"from_time": "2030-01-31T12:00:00Z", "to_epoch": 2, "to_seq": 2},
            {"to_epoch": 2, "to_seq": 2},
            {"from_epoch": -1, "from_seq": 1},
            {"from_epoch": 2**63, "from_seq": 1},
            {"from_epoch": 1, "from_seq": 1.5},
            {"from_epoch": 1, "from_seq": 1, "limit": 0},
            {"from_epoch": 1, "from_seq": 1, "limit": 10_001},
            {"from_time": 0},
            {"from_time": "yesterday"},
        ],
    )
    def test_what_is_no_range_is_refused(self, told: Told, fields: dict[str, object]) -> None:
        assert told.ask("replay", **fields).result(0).reason == "malformed"


class Sent(RecordingPublisher):
    """A broker that answers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[int, bool, bool]] = []

    def publish_verdict(self, verdict: StoredVerdict, *, newest: bool) -> None:
        self.sent.append((verdict.position, verdict.replayed, newest))


def test_a_new_verdict_never_waits_for_a_replay_and_none_is_the_newest(told: Told) -> None:
    publisher = Sent()
    courier = Courier(told.outbox, publisher, nudge=lambda: None)
    fill(told.outbox, 30)
    assert told.answer("replay", from_epoch=EPOCH, from_seq=0).count == 30
    courier.committed()
    courier.step()
    assert publisher.sent == [(1, True, False)]  # one on its way, however many there are
    for seq in range(30, 50):
        told.outbox.commit(sample_verdict(seq))
    courier.committed()
    courier.step()
    # All twenty at once, before the replayed one has arrived.
    assert publisher.sent[1:] == [(position, False, True) for position in range(31, 51)]
    courier.delivered(1, None)
    courier.step()
    assert len(publisher.sent) == 21  # the window is full of new ones: no replay
    for position in range(31, 51):
        courier.delivered(position, None)
    courier.step()
    assert publisher.sent[21:] == [(2, True, False)]
    for position in range(2, 31):
        courier.delivered(position, None)
        courier.step()
    assert [position for position, replayed, _ in publisher.sent if replayed] == list(range(1, 31))
    assert told.outbox.waiting() == 0


class TestLabel:
    def test_it_is_kept_with_who_said_so(self, told: Told) -> None:
        verdict = fill(told.outbox, 1)[0]
        said = told.answer("label", result_id=verdict.result_id, label="scratch", note="left edge")
        assert (said.status, said.result_id, said.file) == ("done", verdict.result_id, None)
        assert (said.reason, said.detail) == (
            "frame_gone",
            "the label is kept, no capture is made: none are kept",
        )
        with Ledger(told.outbox._folder) as ledger:
            [label] = ledger.labels_since(0)
        assert (label.issued_by, label.label, label.note) == ("dashboard", "scratch", "left edge")

    def test_of_an_unknown_result_it_is_refused(self, told: Told) -> None:
        said = told.answer("label", result_id="nobody", label="good")
        assert (said.status, said.reason) == ("refused", "result_unknown")
        assert "ledger_days" in str(said.detail)

    @pytest.mark.parametrize("label", ["", "Good", "a b", "../x", "x" * 65, 7, None])
    def test_what_is_no_label_is_refused(self, told: Told, label: object) -> None:
        assert told.ask("label", result_id="x", label=label).result(0).reason == "malformed"

    def test_a_repeat_is_not_kept_twice(self, told: Told) -> None:
        verdict = fill(told.outbox, 1)[0]
        for _ in range(2):
            said = told.answer("label", result_id=verdict.result_id, label="good", request_id="same")
            assert said.status == "done"
        with Ledger(told.outbox._folder) as ledger:
            assert len(ledger.labels_since(0)) == 1


class TestErrands:
    def test_too_many_are_refused_and_what_inspects_comes_first(self, told: Told) -> None:
        verdict = fill(told.outbox, 1)[0]
        asked = [told.ask("label", result_id=verdict.result_id, label="good") for _ in range(9)]
        assert [future.done() for future in asked] == [False] * 8 + [True]
        assert asked[8].result(0).reason == "outbox_busy"
        assert told.errands.do_one(told.outbox)
        assert [future.done() for future in asked[:8]] == [True] + [False] * 7  # one at a time
        while told.errands.do_one(told.outbox):
            continue
        assert {future.result(0).status for future in asked[:8]} == {"done"}

    def test_what_the_disk_refuses_is_told(self, told: Told) -> None:
        def full(outbox: Outbox) -> None:
            raise OutboxFull("no room")

        future = told.errands.ask(full)
        assert told.errands.do_one(told.outbox)
        with pytest.raises(OutboxFull):
            future.result(0)


def test_the_clerk_does_things_in_order_and_what_is_left_at_the_end() -> None:
    done: list[int] = []
    first = threading.Event()
    works: list[Callable[[], Any]] = [
        lambda: first.wait(10),
        *(lambda n=n: done.append(n) for n in range(20)),
    ]
    with Clerk() as clerk:
        for work in works:
            clerk.do(work)
        first.set()
    assert done == list(range(20))
