"""Who may give which command: judged by the topic that only its owner may write, on a real broker."""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.authority import Authority
from edge.broker import LocalBroker, find_mosquitto
from edge.clock import Session
from edge.config import load_rig_config
from edge.errors import ConfigError
from edge.letters import Letter
from edge.mqtt_orders import MqttOrders
from edge.order_messages import Answer, TriggerOrder
from edge.orders import OrderDesk, Reply, Respond, handler
from edge.testing import Heard, Listener
from edge.topics import RigIdentity, Topics
from tests.asker import Asker

RIG = RigIdentity(enterprise="acme", site="dresden", area="assembly", line="line-3", cell="cell-2")
TOPICS = Topics(RIG.root)
SESSION = Session(epoch=1, boot_id="boot", software_version="0")
NOT_AUTHORIZED = 135

ACL = f"""
user cell-2
topic readwrite {RIG.root}/#

pattern write +/+/+/+/+/inspection/cmd/+/%u
pattern read +/+/+/+/+/inspection/resp/%u
"""
"""The lines of docs/mqtt.md, and one for who listens in the test."""


def order(issued_by: str, **fields: object) -> dict[str, object]:
    said = {"request_id": str(uuid.uuid4()), "issued_by": issued_by, "reply_to": TOPICS.response(issued_by)}
    return said | fields


class TestJudged:
    def judge(self, allow: Mapping[str, tuple[str, ...]] | None, letter: Letter) -> str | None:
        answers: list[Answer] = []
        desk = OrderDesk(
            (handler(TriggerOrder, lambda order, letter, respond: respond(Reply("accepted"))),),
            TOPICS,
            SESSION,
            lambda answer, topic, correlation: answers.append(answer),
            authority=Authority(allow),
        )
        desk.receive(letter)
        [answer] = answers
        return answer.reason

    def letter(self, client: str | None, issued_by: str = "hmi", payload: bytes | None = None) -> Letter:
        said = json.dumps(order(issued_by)).encode()
        return Letter("trigger", said if payload is None else payload, client=client)

    def test_without_a_section_everybody_may_by_either_topic(self) -> None:
        assert self.judge(None, self.letter(None)) is None
        assert self.judge(None, self.letter("hmi")) is None
        assert self.judge(None, self.letter("plc")) is None

    def test_only_who_is_listed_may_and_only_on_its_own_topic(self) -> None:
        allow = {"trigger": ("hmi", "plc")}
        assert self.judge(allow, self.letter("hmi")) is None
        assert self.judge(allow, self.letter(None)) == "not_allowed"
        assert self.judge(allow, self.letter("stranger", "stranger")) == "not_allowed"
        assert self.judge(allow, self.letter("stranger", "hmi")) == "not_allowed"
        assert self.judge(allow, self.letter("plc", "hmi")) == "issuer_mismatch"
        assert self.judge({"recipe": ("hmi",)}, self.letter("hmi")) == "not_allowed"
        assert self.judge({"trigger": ()}, self.letter("hmi")) == "not_allowed"
        assert self.judge({}, self.letter("hmi")) == "not_allowed"

    def test_everybody_still_has_to_have_a_topic(self) -> None:
        allow = {"trigger": ("*",)}
        assert self.judge(allow, self.letter("anybody", "anybody")) is None
        assert self.judge(allow, self.letter("anybody", "hmi")) == "issuer_mismatch"
        assert self.judge(allow, self.letter(None)) == "not_allowed"

    def test_a_stranger_learns_nothing_of_what_is_wrong_with_its_command(self) -> None:
        assert self.judge({"trigger": ("hmi",)}, self.letter("x", payload=b"{")) == "not_allowed"
        assert self.judge({"trigger": ("hmi",)}, self.letter("hmi", payload=b"{")) == "malformed"

    @pytest.mark.parametrize("own", ["dashboard", "sparkplug"])
    def test_the_rigs_own_doors_are_names_that_nobody_has_at_the_broker(self, own: str) -> None:
        allow = {"trigger": (own, "*")}
        desk = OrderDesk(
            (handler(TriggerOrder, lambda order, letter, respond: respond(Reply("accepted"))),),
            TOPICS,
            SESSION,
            lambda answer, topic, correlation: None,
            authority=Authority(allow),
        )
        said = json.dumps(order(own)).encode()
        assert desk.ask("trigger", said, client=own).result(0).status == "accepted"
        other = json.dumps(order("hmi")).encode()
        assert desk.ask("trigger", other, client=own).result(0).reason == "issuer_mismatch"
        assert self.judge(allow, self.letter(own, own)) == "not_allowed"

    def test_an_answer_goes_to_the_client_whose_topic_it_came_by(self) -> None:
        sent: list[tuple[str, str | None]] = []
        desk = OrderDesk(
            (handler(TriggerOrder, lambda order, letter, respond: respond(Reply("accepted"))),),
            TOPICS,
            SESSION,
            lambda answer, topic, correlation: sent.append((topic.rpartition("/")[2], answer.reason)),
            authority=Authority({"trigger": ("hmi",)}),
        )
        for client, reply_to in [
            ("hmi", "hmi"),
            ("hmi", None),
            ("hmi", "plc"),
            ("x", "hmi"),
            ("y" * 65, None),
        ]:
            topic = None if reply_to is None else TOPICS.response(reply_to)
            said = order("hmi", reply_to=topic)
            desk.receive(Letter("trigger", json.dumps(said).encode(), client=client))
        assert sent == [
            ("hmi", None),
            ("hmi", None),
            ("hmi", "reply_to_forbidden"),
            ("x", "not_allowed"),
            ("unaddressed", "not_allowed"),
        ]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (None, "commands: is empty"),
        ({"allow": None}, "commands.allow: is empty"),
        ({}, "commands.allow"),
        ({"allow": {"explode": ["hmi"]}}, "there is no command 'explode'"),
        ({"allow": {"trigger": "hmi"}}, "commands.allow.trigger"),
        ({"allow": {"trigger": None}}, "commands.allow.trigger"),
        ({"allow": {"trigger": ["a/b"]}}, "separates levels"),
        ({"allow": {"trigger": ["#"]}}, "wildcard"),
        ({"alow": {}}, "commands.alow"),
    ],
)
def test_what_would_open_the_rig_by_mistake_is_an_error(tmp_path: Path, section: Any, said: str) -> None:
    data = {
        "rig": RIG.model_dump(),
        "camera": {"source": "simulated", "product": "plate"},
        "bundle": "b",
        "commands": section,
    }
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(ConfigError, match="commands") as caught:
        load_rig_config(tmp_path / "rig.yaml")
    assert said in str(caught.value)


def test_a_section_says_who(tmp_path: Path) -> None:
    text = yaml.safe_dump(
        {
            "rig": RIG.model_dump(),
            "camera": {"source": "simulated", "product": "plate"},
            "bundle": "b",
            "commands": {"allow": {"trigger": ["plc-3"], "reload": ["*"], "recipe": []}},
        }
    )
    (tmp_path / "rig.yaml").write_text(text, encoding="utf-8")
    commands = load_rig_config(tmp_path / "rig.yaml").commands
    assert commands is not None
    assert commands.allow == {"trigger": ("plc-3",), "reload": ("*",), "recipe": ()}


@contextmanager
def hearing(broker: LocalBroker, password: Path, authority: Authority) -> Iterator[list[Any]]:
    carried_out: list[Any] = []

    def on_trigger(order: TriggerOrder, letter: Letter, respond: Respond) -> None:
        carried_out.append((letter.client, order.part_serial))
        respond(Reply("accepted", result_id="r"))

    config = broker.client_config().model_copy(update={"username": "cell-2", "password_file": password})
    orders = MqttOrders(config, RIG, SESSION, [handler(TriggerOrder, on_trigger)], authority=authority)
    orders.start()
    try:
        pause = threading.Event()
        for _ in range(1200):
            if orders.status.hears:
                break
            pause.wait(0.05)
        assert orders.status.hears, orders.status
        yield carried_out
    finally:
        orders.close()


@pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)
def test_nobody_commands_in_anothers_name(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text(ACL, encoding="utf-8")
    (tmp_path / "acl").chmod(0o600)
    (tmp_path / "password").write_text("of the rig\n", encoding="utf-8")
    users = {"cell-2": "of the rig", "hmi": "of hmi", "guest": "of guest"}
    with (
        LocalBroker("mosquitto", users=users, extra=[f"acl_file {tmp_path / 'acl'}"]) as broker,
        Listener(
            broker.host,
            broker.port,
            topics=f"{RIG.root}/resp/+",
            username="cell-2",
            password="of the rig",
        ) as listener,
        hearing(broker, tmp_path / "password", Authority({"trigger": ("hmi",)})) as carried_out,
    ):
        hmi, guest = Asker(broker, "hmi", "of hmi"), Asker(broker, "guest", "of guest")
        mine, theirs, bare = (f"{RIG.root}/cmd/trigger{end}" for end in ("/hmi", "/guest", ""))
        # What the broker lets nobody do.
        assert guest.ask(mine, order("hmi", part_serial="forged")) == NOT_AUTHORIZED
        assert hmi.ask(theirs, order("guest", part_serial="forged")) == NOT_AUTHORIZED
        assert guest.ask(bare, order("hmi", part_serial="forged")) == NOT_AUTHORIZED
        assert guest.ask(TOPICS.response("hmi"), b"{}") == NOT_AUTHORIZED
        assert guest.ask(f"{mine}/deeper", order("hmi")) == NOT_AUTHORIZED
        # What the rig itself refuses, were the broker ever so open: its own account may write anything.
        rig = Asker(broker, "cell-2", "of the rig")
        assert rig.ask(bare, order("hmi", part_serial="bare")) < 128
        assert guest.ask(theirs, order("guest")) < 128
        assert guest.ask(theirs, order("hmi", part_serial="in the name of hmi")) < 128
        assert hmi.ask(mine, order("guest", reply_to=TOPICS.response("hmi"))) < 128
        assert hmi.ask(mine, order("hmi", part_serial="A-1")) < 128
        heard = listener.wait_for("", lambda heard: len(heard) >= 5, 120.0)
        assert [said_in(message) for message in heard] == [
            ("hmi", "not_allowed"),
            ("guest", "not_allowed"),
            ("guest", "not_allowed"),
            ("hmi", "issuer_mismatch"),
            ("hmi", None),
        ]
        assert carried_out == [("hmi", "A-1")]
        for asker in (hmi, guest, rig):
            asker.close()


def said_in(message: Heard) -> tuple[str, str | None]:
    """(the last level of the topic, the reason) of an answer."""
    return message.topic.rpartition("/")[2], message.json()["reason"]
