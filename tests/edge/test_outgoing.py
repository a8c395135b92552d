"""The queue of a connection: whatever is asked of it, no message vanishes and the order stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.outgoing import Outgoing, QueueLimit, SendQueue


def message(number: int, key: str | None = None) -> Outgoing:
    return Outgoing("t", b"%d" % number, 1, False, key=key or str(number))


@given(
    st.lists(st.sampled_from(["add", "send", "settle", "lose"]), max_size=60),
    st.integers(1, 8),
    st.booleans(),
)
def test_each_message_is_waiting_in_flight_settled_or_dropped(
    steps: list[str], room: int, drop_oldest: bool
) -> None:
    queue = SendQueue(QueueLimit(room, 1000, drop_oldest))
    added = packet_id = settled = dropped = 0
    flying: dict[int, Outgoing] = {}
    for step in steps:
        if step == "add":
            dropped += len(queue.add(message(added)))
            added += 1
        elif step == "send" and queue.waiting:
            packet_id += 1
            flying[packet_id] = queue.take()
            queue.sent(packet_id, flying[packet_id])
        elif step == "settle" and flying:
            first = min(flying)
            assert queue.settled(first) == flying.pop(first)
            settled += 1
        elif step == "lose":
            queue.take_back()
            flying.clear()
    assert len(queue) == queue.waiting + queue.in_flight
    assert added == len(queue) + settled + dropped
    queue.take_back()
    rest = [int(queue.take().payload) for _ in range(queue.waiting)]
    assert rest == sorted(rest)
    with pytest.raises(KeyError):
        queue.take()


def test_drops_the_oldest_or_the_newest() -> None:
    for drop_oldest, gone in ((True, b"0"), (False, b"2")):
        queue = SendQueue(QueueLimit(2, 1000, drop_oldest))
        assert queue.add(message(0)) == queue.add(message(1)) == []
        assert [lost.payload for lost in queue.add(message(2))] == [gone]
        assert queue.add(message(3), always=True) == []
        assert queue.waiting == 3


def test_drops_as_many_as_their_bytes_ask_for() -> None:
    queue = SendQueue(QueueLimit(1000, 10, drop_oldest=True))
    small = [Outgoing("t", b"..", 0, True, key=str(i)) for i in range(5)]
    assert [queue.add(one) for one in small] == [[]] * 5
    assert queue.add(Outgoing("t", b".....", 0, True, key="large")) == small[:3]
    assert queue.add(Outgoing("t", b".." * 9, 0, True, key="3")) == [], "it takes the place of its key"
    assert queue.waiting == 3
    assert len(queue.add(Outgoing("t", b".", 0, True, key="last"))) == 3
    assert queue.waiting == 1


def test_a_newer_one_of_its_key_wins_over_one_that_comes_back() -> None:
    queue = SendQueue(QueueLimit(9, 1000, drop_oldest=False))
    queue.add(message(0, key="state"))
    queue.add(message(1))
    queue.sent(1, queue.take())
    queue.add(message(2, key="state"))
    queue.take_back()
    assert [queue.take().payload for _ in range(queue.waiting)] == [b"1", b"2"]


def test_an_unknown_packet_id_settles_nothing() -> None:
    assert SendQueue(QueueLimit(1, 1, drop_oldest=False)).settled(7) is None
