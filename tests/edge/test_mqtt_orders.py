"""Commands over a real broker: heard, answered where they asked for it, and none from before."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from edge.broker import LocalBroker, find_mosquitto
from edge.clock import Session
from edge.config import BrokerConfig
from edge.letters import MAX_ORDER_BYTES
from edge.mqtt_orders import MqttOrders
from edge.order_messages import RecipeState, RunningRecipe, TriggerOrder
from edge.orders import Letter, Reply, Respond, handler
from edge.testing import Heard, Listener
from edge.topics import RigIdentity, Topics
from tests.asker import Asker

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)

RIG = RigIdentity(enterprise="acme", site="dresden", area="assembly", line="line-3", cell="cell-2")
TOPICS = Topics(RIG.root)
RESP = TOPICS.response("hmi")
TRIGGER = f"{RIG.root}/cmd/trigger"
NOON = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)


def order(**fields: object) -> dict[str, object]:
    return {"request_id": str(uuid.uuid4()), "issued_by": "hmi", "reply_to": RESP} | fields


@contextmanager
def hearing(config: BrokerConfig) -> Iterator[tuple[MqttOrders, list[Any]]]:
    """Commands that are heard: each trigger is accepted, and noted."""
    carried_out: list[Any] = []

    def on_trigger(order: TriggerOrder, letter: Letter, respond: Respond) -> None:
        carried_out.append(order.part_serial)
        respond(Reply("accepted", result_id="r"))

    session = Session(epoch=1, boot_id="boot", software_version="0")
    orders = MqttOrders(config, RIG, session, [handler(TriggerOrder, on_trigger)])
    orders.start()
    try:
        wait_until_heard(orders)
        yield orders, carried_out
    finally:
        orders.close()


def wait_until_heard(orders: MqttOrders) -> None:
    pause = threading.Event()
    for _ in range(2000):
        if orders.status.hears:
            return
        pause.wait(0.05)
    raise AssertionError(orders.status)


@pytest.fixture
def broker() -> Iterator[LocalBroker]:
    with LocalBroker("mosquitto") as running:
        yield running


@pytest.fixture
def asker(broker: LocalBroker) -> Iterator[Asker]:
    made = Asker(broker)
    yield made
    made.close()


def answers(listener: Listener, count: int) -> list[tuple[str, str, str | None]]:
    """(the last level of the topic, status, reason) of so many answers."""

    def done(heard: list[Heard]) -> bool:
        return sum("/resp/" in message.topic for message in heard) >= count

    heard = [message for message in listener.wait_for("", done, 120.0) if "/resp/" in message.topic]
    return [
        (message.topic.rpartition("/")[2], message.json()["status"], message.json()["reason"])
        for message in heard
    ]


def test_commands_are_answered_each_once_whatever_they_hold(broker: LocalBroker, asker: Asker) -> None:
    again = order(part_serial="A-2")
    with (
        Listener(broker.host, broker.port, topics=f"{RIG.root}/resp/+") as listener,
        hearing(broker.client_config()) as (_, carried_out),
    ):
        asker.ask(TRIGGER, order(part_serial="A-1"))
        asker.ask(
            TRIGGER,
            {"request_id": "1", "issued_by": "plc"},
            ResponseTopic=TOPICS.response("plc"),
            CorrelationData=b"\x01\x02",
        )
        asker.ask(TRIGGER, again)
        asker.ask(TRIGGER, again)
        asker.ask(TRIGGER, b"\xff not JSON")
        asker.ask(TRIGGER, b" " * (MAX_ORDER_BYTES + 1), ResponseTopic=RESP)
        asker.ask(f"{RIG.root}/cmd/explode", order())
        # Sent while the rig hears it, so not one of before: it counts.
        asker.ask(TRIGGER, order(part_serial="A-3"), retain=True)
        said = answers(listener, 8)
        assert said == [
            ("hmi", "accepted", None),
            ("plc", "accepted", None),
            ("hmi", "accepted", None),
            ("hmi", "accepted", None),
            ("unaddressed", "refused", "malformed"),
            ("hmi", "refused", "too_large"),
            ("hmi", "refused", "unknown_command"),
            ("hmi", "accepted", None),
        ]
        assert carried_out == ["A-1", None, "A-2", "A-3"]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_nothing_from_before_is_carried_out(broker: LocalBroker, asker: Asker, protocol: str) -> None:
    config = broker.client_config().model_copy(update={"protocol": protocol})
    with Listener(broker.host, broker.port, topics=f"{RIG.root}/resp/+") as listener:
        with hearing(config) as (_, before):
            asker.ask(TRIGGER, order(part_serial="A-1"))
            answers(listener, 1)
        # The rig is away: what is said now must not be done when it comes back, retained or not.
        asker.ask(TRIGGER, order(part_serial="A-2"))
        asker.ask(TRIGGER, order(part_serial="A-3"), retain=True)
        with hearing(config) as (_, after):
            asker.ask(TRIGGER, order(part_serial="A-4"))
            assert len(answers(listener, 2)) == 2
        assert (before, after) == (["A-1"], ["A-4"])


def test_after_the_broker_was_away_it_hears_again_and_says_what_runs(tmp_path: Path) -> None:
    state = RecipeState(
        running=RunningRecipe(
            name="plate",
            product="plate",
            method="msd",
            model_sha256="a" * 64,
            calibration_id=None,
            threshold=None,
            trigger="command",
            since=NOON,
        ),
        loading=None,
        refused=None,
        next_name=None,
        next_at=None,
        names=("plate",),
        creation_time=NOON,
        epoch=1,
        boot_id="boot",
    )
    with LocalBroker("mosquitto") as broker:
        port = broker.port
        with hearing(broker.client_config()) as (orders, carried_out):
            orders.publish_recipe(state)
            with Listener(broker.host, port, topics=TOPICS.recipe_state) as listener:
                listener.wait_for("state/recipe", bool)
            broker.kill()
            with LocalBroker("mosquitto", port=port) as second:
                pause = threading.Event()
                while orders.status.connects < 2 or not orders.status.hears:
                    pause.wait(0.05)
                asker = Asker(second)
                with Listener(second.host, port) as listener:
                    [heard] = listener.wait_for("state/recipe", bool)
                    assert heard.retained
                    assert RecipeState.model_validate_json(heard.payload) == state
                    asker.ask(TRIGGER, order(part_serial="A-1"))
                    answers(listener, 1)
                asker.close()
            assert carried_out == ["A-1"]


def test_everything_open_is_answered_at_the_end(broker: LocalBroker, asker: Asker) -> None:
    def never(order: TriggerOrder, letter: Letter, respond: Respond) -> None:
        taken.set()

    taken = threading.Event()
    session = Session(epoch=1, boot_id="boot", software_version="0")
    orders = MqttOrders(broker.client_config(), RIG, session, [handler(TriggerOrder, never)])
    orders.start()
    with Listener(broker.host, broker.port, topics=f"{RIG.root}/resp/+") as listener:
        wait_until_heard(orders)
        asker.ask(TRIGGER, order())
        assert taken.wait(120)
        orders.close()
        orders.close()
        assert answers(listener, 1) == [("hmi", "refused", "stopping")]
