"""Commands: what is read, what is refused, and that each gets one answer, whatever it holds."""

from __future__ import annotations

import json
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.clock import Session
from edge.errors import TriggerRefused
from edge.letters import MAX_ORDER_BYTES
from edge.order_messages import ORDERS, Answer, RecipeOrder, ReloadOrder, TriggerOrder
from edge.orders import Letter, OrderDesk, Reply, Respond, handler
from edge.topics import Topics

NOW = datetime(2030, 1, 31, 12, tzinfo=timezone.utc)
TOPICS = Topics("acme/dresden/assembly/line-3/cell-2/inspection")
RESP = TOPICS.response("hmi")


class Desk:
    """A desk whose handlers note what they are given; triggers are accepted, recipes wait."""

    def __init__(self, synced: bool | None = True) -> None:
        self.carried_out: list[Any] = []
        self.answers: list[tuple[Answer, str, bytes | None]] = []
        self.waiting: list[Respond] = []
        self.error: TriggerRefused | None = None
        self.desk = OrderDesk(
            (
                handler(TriggerOrder, self._trigger),
                handler(RecipeOrder, self._recipe),
                handler(ReloadOrder, self._reload),
            ),
            TOPICS,
            Session(epoch=3, boot_id="boot", software_version="0"),
            lambda answer, topic, correlation: self.answers.append((answer, topic, correlation)),
            now=lambda: NOW,
            synced=lambda: synced,
        )

    def _trigger(self, order: TriggerOrder, letter: Letter, respond: Respond) -> None:
        self.carried_out.append(order)
        if self.error is not None:
            raise self.error
        respond(Reply("accepted", result_id="r"))

    def _recipe(self, order: RecipeOrder, letter: Letter, respond: Respond) -> None:
        self.carried_out.append(order)
        self.waiting.append(respond)

    def _reload(self, order: ReloadOrder, letter: Letter, respond: Respond) -> None:
        self.carried_out.append(order)
        respond(Reply("done", applied=("trigger.kind",), needs_restart=("broker.host",)))
        respond(Reply("refused", "again"))

    def give(self, command: str, payload: bytes | dict[str, object], **letter: Any) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.desk.receive(Letter(command, data, **letter))

    @property
    def said(self) -> list[tuple[str, str | None]]:
        return [(answer.status, answer.reason) for answer, _, _ in self.answers]


def order(**fields: object) -> dict[str, object]:
    said = {"request_id": str(uuid.uuid4()), "issued_by": "hmi", "reply_to": RESP} | fields
    return {key: value for key, value in said.items() if value is not None}


def test_a_command_is_carried_out_and_answered_where_it_asked_for() -> None:
    desk = Desk()
    desk.give("trigger", order(request_id="7", part_serial="A-1"), correlation=b"\x00\xff")
    [(answer, topic, correlation)] = desk.answers
    assert (answer.command, answer.request_id, answer.issued_by) == ("trigger", "7", "hmi")
    assert (answer.status, answer.result_id, answer.creation_time, answer.epoch) == ("accepted", "r", NOW, 3)
    assert (topic, correlation) == (RESP, b"\x00\xff")
    assert desk.carried_out[0].part_serial == "A-1"


def test_an_answer_may_come_later_and_comes_once() -> None:
    desk = Desk()
    desk.give("recipe", order(recipe="gland"))
    assert desk.answers == []
    desk.waiting[0](Reply("done", recipe="gland"))
    desk.waiting[0](Reply("refused", "late"))
    desk.give("reload", order())
    assert desk.said == [("done", None), ("done", None)]
    assert desk.answers[1][0].applied == ("trigger.kind",)
    assert desk.answers[1][0].needs_restart == ("broker.host",)


def test_without_a_topic_in_json_that_of_mqtt_5_is_taken_and_without_any_a_known_one() -> None:
    desk = Desk()
    desk.give("trigger", order(reply_to=None), response_topic=TOPICS.response("plc"))
    desk.give("trigger", order(reply_to=None))
    desk.give("trigger", order(), response_topic=TOPICS.response("plc"))
    assert [topic for _, topic, _ in desk.answers] == [
        TOPICS.response("plc"),
        TOPICS.response("unaddressed"),
        RESP,
    ]


@pytest.mark.parametrize(
    "topic",
    [
        TOPICS.verdict,
        TOPICS.response("a/b"),
        TOPICS.response("+"),
        TOPICS.response("#"),
        TOPICS.response(""),
        TOPICS.response("x" * 65),
        "resp/hmi",
        "$SYS/x",
        f"{TOPICS.root}/resp",
    ],
)
@pytest.mark.parametrize("by_json", [True, False])
def test_no_answer_goes_where_it_could_forge_something(topic: str, by_json: bool) -> None:
    desk = Desk()
    if by_json:
        desk.give("trigger", order(reply_to=topic))
    else:
        desk.give("trigger", order(reply_to=None), response_topic=topic)
    assert desk.carried_out == []
    assert desk.said in ([("refused", "reply_to_forbidden")], [("refused", "malformed")])
    assert desk.answers[0][1] == TOPICS.response("unaddressed")


def test_a_retained_command_is_ignored_and_not_answered() -> None:
    desk = Desk()
    desk.give("trigger", order(), retained=True)
    desk.give("nonsense", b"x", retained=True)
    assert (desk.carried_out, desk.answers) == ([], [])


@pytest.mark.parametrize(
    ("seconds", "synced", "said"),
    [
        (4.9, True, ("accepted", None)),
        (5.1, True, ("refused", "expired")),
        (5.1, False, ("accepted", None)),
        (5.1, None, ("accepted", None)),
        (-4.9, True, ("accepted", None)),
        (-5.1, True, ("refused", "issued_in_future")),
    ],
)
def test_age_counts_where_the_clock_is_right(
    seconds: float, synced: bool | None, said: tuple[str, str | None]
) -> None:
    desk = Desk(synced)
    issued = (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    desk.give("trigger", order(issued_utc=issued))
    assert desk.said == [said]


def test_what_waited_longer_than_its_expiry_is_not_carried_out() -> None:
    desk = Desk(synced=None)
    desk.give("trigger", order(), expiry_s=1, received_ns=time.monotonic_ns() - 2_000_000_000)
    desk.give("trigger", order(), expiry_s=1)
    assert desk.said == [("refused", "expired"), ("accepted", None)]


class TestRepeats:
    def test_a_repeat_is_not_carried_out_and_gets_the_same_answer(self) -> None:
        desk = Desk()
        again = order(issued_utc="2030-01-31T12:00:00Z")
        for _ in range(3):
            desk.give("trigger", again)
        assert len(desk.carried_out) == 1
        assert desk.said == [("accepted", None)] * 3
        assert len({answer.to_json() for answer, _, _ in desk.answers}) == 1

    def test_one_that_comes_too_late_is_told_what_became_of_it(self) -> None:
        desk = Desk()
        again = order()
        desk.give("trigger", again)
        desk.give("trigger", again | {"issued_utc": "2030-01-31T11:00:00Z"})
        assert desk.said == [("accepted", None)] * 2

    def test_while_it_is_carried_out_a_repeat_waits_for_the_one_answer(self) -> None:
        desk = Desk()
        again = order(recipe="gland")
        desk.give("recipe", again)
        desk.give("recipe", again)
        assert desk.answers == []
        desk.waiting[0](Reply("done"))
        assert desk.said == [("done", None)]

    def test_two_askers_may_count_alike(self) -> None:
        desk = Desk()
        desk.give("trigger", order(request_id="1", issued_by="a"))
        desk.give("trigger", order(request_id="1", issued_by="b"))
        assert len(desk.carried_out) == 2

    def test_memory_of_them_is_bounded_but_keeps_what_is_open(self) -> None:
        desk = Desk()
        desk.give("recipe", order(request_id="open", recipe="gland"))
        for number in range(5000):
            desk.give("trigger", order(request_id=str(number)))
        desk.give("recipe", order(request_id="open", recipe="gland"))
        desk.give("trigger", order(request_id="4999"))
        assert len(desk.carried_out) == 5001
        desk.give("trigger", order(request_id=str(5000 - 4096)))
        assert len(desk.carried_out) == 5001
        desk.give("trigger", order(request_id="0"))
        assert len(desk.carried_out) == 5002

    def test_who_counts_anew_after_an_hour_is_taken_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        desk = Desk()
        desk.give("trigger", order(request_id="1"))
        now_ns = time.monotonic_ns()
        monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns + 3_599 * 10**9)
        desk.give("trigger", order(request_id="1"))
        assert len(desk.carried_out) == 1
        monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns + 3_601 * 10**9)
        desk.give("trigger", order(request_id="1"))
        assert len(desk.carried_out) == 2


class TestFromWithin:
    """Commands that come from the rig's own page, not over MQTT."""

    def test_the_answer_goes_to_who_asked_alone(self) -> None:
        desk = Desk()
        future = desk.desk.ask("trigger", json.dumps(order(request_id="7", issued_by="dashboard")).encode())
        assert (future.result(0).status, future.result(0).request_id) == ("accepted", "7")
        assert desk.desk.ask("trigger", b"{}").result(0).reason == "malformed"
        assert desk.desk.ask("explode", b"{}").result(0).reason == "unknown_command"
        assert desk.answers == []

    def test_an_answer_may_come_later(self) -> None:
        desk = Desk()
        said = json.dumps(order(recipe="gland")).encode()
        first, again = desk.desk.ask("recipe", said), desk.desk.ask("recipe", said)
        assert not first.done()
        assert not again.done()
        desk.waiting[0](Reply("done", recipe="gland"))
        later = desk.desk.ask("recipe", said)
        assert first.result(0) == again.result(0) == later.result(0)
        assert first.result(0).recipe == "gland"
        assert len(desk.carried_out) == 1
        assert desk.answers == []

    def test_a_repeat_by_the_other_door_is_answered_there(self) -> None:
        desk = Desk()
        said = order()
        desk.desk.ask("trigger", json.dumps(said).encode())
        desk.give("trigger", said)
        assert desk.said == [("accepted", None)]
        assert len(desk.carried_out) == 1

    def test_it_is_told_when_the_rig_stops(self) -> None:
        desk = Desk()
        open_still = desk.desk.ask("recipe", json.dumps(order(recipe="gland")).encode())
        desk.desk.close()
        assert open_still.result(0).reason == "stopping"
        assert desk.desk.ask("reload", json.dumps(order()).encode()).result(0).reason == "stopping"

    def test_many_may_ask_at_once(self) -> None:
        desk = Desk()
        said = [json.dumps(order(request_id=str(number % 50))).encode() for number in range(400)]
        with ThreadPoolExecutor(8) as pool:
            answers = [
                future.result(10) for future in pool.map(lambda one: desk.desk.ask("trigger", one), said)
            ]
        assert {answer.status for answer in answers} == {"accepted"}
        assert sorted(made.request_id for made in desk.carried_out) == sorted(str(n) for n in range(50))


def test_no_text_of_a_command_is_kept_for_the_next_one_of_its_kind() -> None:
    payload = json.dumps(order(request_id="a-request-that-comes-once")).encode()
    read = [TriggerOrder.model_validate_json(payload) for _ in range(2)]
    assert read[0] == read[1]
    assert read[0].request_id is not read[1].request_id


def test_an_error_of_the_handler_is_its_reason() -> None:
    desk = Desk()
    desk.error = TriggerRefused("too many wait")
    desk.give("trigger", order())
    assert desk.said == [("refused", "trigger_refused")]
    assert desk.answers[0][0].detail == "too many wait"


def test_at_the_end_what_is_open_is_answered_and_nothing_more_is_taken() -> None:
    desk = Desk()
    desk.give("recipe", order(recipe="gland"))
    desk.desk.close()
    desk.waiting[0](Reply("done"))
    desk.give("trigger", order())
    assert desk.said == [("refused", "stopping")] * 2
    assert len(desk.carried_out) == 1


@pytest.mark.parametrize(
    ("command", "payload", "reason"),
    [
        ("trigger", b"", "malformed"),
        ("trigger", b"trigger", "malformed"),
        ("trigger", b"[]", "malformed"),
        ("trigger", b"\xff\xfe", "malformed"),
        ("trigger", b"{}", "malformed"),
        ("trigger", b"[" * 10_000, "malformed"),
        ("trigger", b'{"a":' * 3_000, "malformed"),
        ("trigger", b'{"request_id":' + b"9" * 5_000 + b"}", "malformed"),
        ("trigger", json.dumps(order(request_id=7)).encode(), "malformed"),
        ("trigger", json.dumps(order(extra=1)).encode(), "malformed"),
        ("trigger", json.dumps(order(schema_version=2)).encode(), "malformed"),
        ("trigger", json.dumps(order(part_serial="")).encode(), "malformed"),
        ("trigger", json.dumps(order(part_serial="a\nb")).encode(), "malformed"),
        ("trigger", json.dumps(order(issued_utc=5)).encode(), "malformed"),
        ("trigger", json.dumps(order(issued_utc="2030-01-31T12:00:00")).encode(), "malformed"),
        ("trigger", json.dumps(order(issued_utc="2030-01-31T12:00:00+02:00")).encode(), "malformed"),
        ("recipe", json.dumps(order()).encode(), "malformed"),
        ("reload", json.dumps(order(part_serial="1")).encode(), "malformed"),
        ("trigger", b" " * (MAX_ORDER_BYTES + 1), "too_large"),
        ("treshold", json.dumps(order()).encode(), "unknown_command"),
        ("", b"", "unknown_command"),
        ("\ud800\n", b"", "unknown_command"),
    ],
)
def test_what_is_no_command_is_answered_with_why(command: str, payload: bytes, reason: str) -> None:
    desk = Desk()
    desk.give(command, payload)
    assert desk.said == [("refused", reason)]
    assert desk.carried_out == []
    assert desk.answers[0][0].detail


def test_a_sender_that_made_a_mistake_hears_of_it() -> None:
    desk = Desk()
    desk.give("recipe", order(request_id="9", recipe=7))
    answer, topic, _ = desk.answers[0]
    assert (topic, answer.request_id, answer.issued_by) == (RESP, "9", "hmi")
    assert "recipe" in str(answer.detail)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "request_id": st.text(max_size=140) | _JSON,
        "issued_by": st.sampled_from(["hmi", "plc"]) | _JSON,
        "reply_to": st.sampled_from([RESP, TOPICS.verdict, "#", ""]) | _JSON,
        "issued_utc": st.datetimes().map(lambda d: d.isoformat() + "Z") | _JSON,
        "schema_version": st.just(1) | _JSON,
        "part_serial": st.text(max_size=20) | _JSON,
        "recipe": st.sampled_from(["gland", "../x"]) | _JSON,
        "extra": _JSON,
    },
)


def _damaged(data: bytes, cut: int, at: int, byte: int) -> bytes:
    whole = bytearray(data[: len(data) - cut % (len(data) + 1)])
    if whole:
        whole[at % len(whole)] = byte
    return bytes(whole)


_PAYLOADS = (
    st.binary(max_size=200)
    | _JSON.map(lambda value: json.dumps(value).encode())
    | _FIELDS.map(lambda fields: json.dumps(fields).encode())
    | st.builds(
        lambda fields, cut, at, byte: _damaged(json.dumps(order(**fields)).encode(), cut, at, byte),
        _FIELDS,
        st.integers(0, 30),
        st.integers(0, 500),
        st.integers(0, 255),
    )
    | _FIELDS.map(lambda fields: json.dumps(order(**fields)).encode())
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(["trigger", "recipe", "reload", "replay", "\n"]),
    _PAYLOADS,
    st.none() | st.text(max_size=30) | st.just(RESP),
    st.none() | st.binary(max_size=8),
    st.none() | st.integers(0, 10),
)
def test_whatever_comes_there_is_one_answer_and_no_harm(
    command: str, payload: bytes, response_topic: str | None, correlation: bytes | None, expiry_s: int | None
) -> None:
    check_one_answer(command, payload, response_topic, correlation, expiry_s)


def test_thousands_of_damaged_commands() -> None:
    rng = random.Random(5)
    whole = json.dumps(order(part_serial="Ä-1", issued_utc="2030-01-31T12:00:00Z", recipe="gland")).encode()
    for _ in range(4000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    del data[at : at + rng.randint(1, 20)]
                case 2:
                    data[at:at] = data[: rng.randint(1, 40)]
                case _:
                    data[at:at] = rng.choice(
                        [b'"', b"{", b"}", b"\x00", b"\\ud800", b"9" * 400, b"null", b"[["]
                    )
            data = data or bytearray(b"{")
        command = rng.choice(["trigger", "recipe", "reload"])
        check_one_answer(command, bytes(data), RESP, None, None)


def check_one_answer(
    command: str, payload: bytes, response_topic: str | None, correlation: bytes | None, expiry_s: int | None
) -> None:
    desk = Desk()
    letter: dict[str, Any] = {
        "response_topic": response_topic,
        "correlation": correlation,
        "expiry_s": expiry_s,
    }
    desk.give(command, payload, **letter)
    for respond in desk.waiting:
        respond(Reply("done"))
    [(answer, topic, given_back)] = desk.answers
    assert len(desk.carried_out) == (answer.status != "refused")
    assert TOPICS.is_response(topic)
    assert given_back == correlation
    assert Answer.model_validate_json(answer.to_json()) == answer
    assert len(answer.to_json()) < 8192


def test_every_command_is_known() -> None:
    named = [kind.command for kind in ORDERS]
    assert len(set(named)) == len(named)
    assert {"trigger", "recipe", "reload", "replay", "capture", "label"} <= set(named)
    assert {"threshold", "calibration", "rollback"} <= set(named)
    assert [kind.command for kind in ORDERS if not kind.changes] == ["trigger"]
    assert {kind.command for kind in ORDERS if not kind.decides} == {"trigger", "replay", "capture", "label"}
