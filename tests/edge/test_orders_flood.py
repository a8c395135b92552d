"""Ten thousand broken commands through a real broker: each answered and written down, and no harm done."""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import threading
from collections import Counter
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.audit import AuditLine, AuditLog
from edge.broker import LocalBroker, find_mosquitto
from edge.clock import Session
from edge.letters import MAX_ORDER_BYTES
from edge.mqtt_orders import MqttOrders
from edge.order_messages import ORDERS, Answer, Order
from edge.orders import Letter, Reply, Respond, handler
from edge.testing import Heard, Listener
from edge.topics import RigIdentity, Topics

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)

RIG = RigIdentity(enterprise="acme", site="dresden", area="assembly", line="line-3", cell="cell-2")
TOPICS = Topics(RIG.root)
RESP = TOPICS.response("hmi")
COUNT, BATCH, WARM_UP = 10_000, 250, 2_000
PATIENCE_S = 120.0

TABLE_BYTES = 4096 * 4096
"""What the remembered answers may take."""


class Counted:
    """How many answers came, and of what kind; keeps none but the last."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.count = 0
        self.reasons: Counter[str | None] = Counter()
        self.elsewhere = 0

    def __call__(self, heard: Heard) -> None:
        with self._changed:
            if TOPICS.is_response(heard.topic):
                self.reasons[Answer.model_validate_json(heard.payload).reason] += 1
                self.count += 1
            else:
                self.elsewhere += not heard.topic.startswith(f"{RIG.root}/cmd/")
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, PATIENCE_S), (self.count, count)


def broken(rng: random.Random) -> tuple[str, bytes, Properties]:
    """A topic, a payload, and what MQTT 5 says beside it."""
    kind = rng.choice(ORDERS)
    whole = {
        "request_id": str(rng.random()),
        "issued_by": "hmi",
        "reply_to": rng.choice([RESP, TOPICS.verdict, TOPICS.response("a/b"), "#", "$SYS/x", ""]),
        "issued_utc": "2030-01-31T12:00:00Z",
        "recipe": "gland",
        "label": "../x",
    }
    data = bytearray(json.dumps(dict(rng.sample(sorted(whole.items()), rng.randint(0, len(whole))))).encode())
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[at : at + rng.randint(1, 20)]
            case 2:
                data[at:at] = data[: rng.randint(1, 40)]
            case 3:
                data[at:at] = rng.choice(
                    [b"[" * 3000, b'{"a":' * 1000, b"9" * 5000, b"\\ud800", b"\x00", b"NaN"]
                )
            case _:
                data[at:at] = rng.randbytes(rng.choice([1, 30, MAX_ORDER_BYTES]))
    client = rng.choice(["", "", "/hmi", "/Ä\N{SNOWMAN}", "/x" * 1, "/" + "y" * 200])
    topic = f"{RIG.root}/cmd/{rng.choice([kind.command, kind.command, 'explode', ' ', 'z' * 300])}{client}"
    said = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it bare
    if rng.random() < 0.3:
        said.ResponseTopic = rng.choice([RESP, TOPICS.verdict, TOPICS.last_verdict, TOPICS.machine_state])
    if rng.random() < 0.3:
        said.CorrelationData = rng.randbytes(rng.randint(1, 300))
    if rng.random() < 0.1:
        said.MessageExpiryInterval = rng.choice([3600, 2**32 - 1])  # a broker drops what expires
    # What is larger than the rig takes, the broker keeps to itself: nobody answers it.
    return topic, bytes(data[: MAX_ORDER_BYTES + 4096]), said


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_ten_thousand_broken_commands_do_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "edge.orders")  # pytest would keep 10,000 warnings, and they count

    def carry_out(order: Order, letter: Letter, respond: Respond) -> None:
        respond(Reply("done"))

    session = Session(epoch=1, boot_id="boot", software_version="0")
    handlers = [handler(order, carry_out) for order in ORDERS]
    rng, counted = random.Random(11), Counted()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    with (
        LocalBroker(
            "mosquitto", extra=["max_queued_messages 100000", "max_inflight_messages 1000"]
        ) as broker,
        Listener(broker.host, broker.port, on_message=counted, keep=False),
    ):
        orders = MqttOrders(broker.client_config(), RIG, session, handlers, audit=AuditLog(tmp_path))
        orders.start()
        pause = threading.Event()
        while not orders.status.hears:
            pause.wait(0.02)
        client.max_inflight_messages_set(1000)
        client.max_queued_messages_set(0)
        client.connect(broker.host, broker.port)
        client.loop_start()
        before = 0
        for sent in range(0, COUNT, BATCH):
            for _ in range(BATCH):
                topic, payload, said = broken(rng)
                client.publish(topic, payload, 1, properties=said)
            counted.wait_for(sent + BATCH)
            if sent + BATCH == WARM_UP:
                before = resident_bytes()
        grown = resident_bytes() - before
        # More than the broker is to pass on: the rig never hears of it, nor does the connection suffer.
        client.publish(f"{RIG.root}/cmd/trigger", bytes(200_000), 1)
        good = {"request_id": "good", "issued_by": "hmi", "reply_to": RESP}
        client.publish(f"{RIG.root}/cmd/trigger", json.dumps(good), 1)
        counted.wait_for(COUNT + 1)
        assert orders.status.connects == 1
        orders.close()
        client.disconnect()
        client.loop_stop()
    assert counted.count == COUNT + 1
    assert counted.elsewhere == 0
    assert grown < TABLE_BYTES
    assert counted.reasons[None] >= 1
    assert {"malformed", "too_large", "unknown_command", "reply_to_forbidden"} <= set(counted.reasons)
    lines = [
        AuditLine.model_validate_json(text)
        for path in (tmp_path / "audit.1.jsonl", tmp_path / "audit.jsonl")
        if path.exists()
        for text in path.read_bytes().splitlines()
    ]
    assert len(lines) == COUNT + 1
    assert (lines[-1].request_id, lines[-1].status) == ("good", "done")
