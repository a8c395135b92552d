"""A broker that is killed again and again, and a cable that is: what a consumer gets of a real mosquitto."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.backoff import Backoff
from edge.broker import LocalBroker, find_mosquitto
from edge.clock import Session
from edge.config import BrokerConfig
from edge.outbox_config import OutboxConfig
from edge.testing import CuttableProxy, Listener, ScratchOutbox, sample_verdict
from edge.topics import RigIdentity, Topics
from tests.outboxed import Outboxed

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)

RIG = RigIdentity(enterprise="acme", site="dresden", area="assembly", line="line-3", cell="cell-2")
VERDICT = Topics(RIG.root).verdict
SESSION = Session(epoch=7, boot_id="boot", software_version="0")
UNSAVED_S = 3.0
ON_THE_WAY_MAX = 20 + 10 + 1
EACH = 30
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost connection is there again at once: nothing here is about how long that takes."""
    monkeypatch.setattr("edge.connection._BACKOFF", Backoff(0.05, 0.1))


@contextmanager
def publishing(port: int, unsaved_s: float) -> Iterator[Outboxed]:
    publisher = Outboxed(
        BrokerConfig(port=port),
        RIG,
        SESSION,
        ScratchOutbox(OutboxConfig(keep_free_mb=0, unsaved_s=unsaved_s)),
    )
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.close()


def until(true: Callable[[], bool], publisher: Outboxed) -> None:
    """Have what waits sent, until so."""
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s
        publisher.flush(0.05)
        time.sleep(0.01)


class TestBrokerKilled:
    @pytest.fixture
    def start(self, tmp_path: Path) -> Iterator[Callable[..., LocalBroker]]:
        """Starts a broker that keeps what it has, in `tmp_path`, once it saves."""
        started: list[LocalBroker] = []

        def start(port: int | None = None, saves_every_s: int = 3600) -> LocalBroker:
            keeps = [
                "persistence true",
                f"persistence_location {tmp_path}/",
                f"autosave_interval {saves_every_s}",
            ]
            started.append(LocalBroker("mosquitto", extra=keeps, port=port))
            started[-1].start()
            return started[-1]

        yield start
        for broker in started:
            broker.stop()

    def consume(self, port: int, wanted: int) -> list[int]:
        """What a consumer with a session finds: `wanted` different ones, or nothing more for a while."""
        heard: list[int] = []
        news = threading.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2, "the-mes", protocol=MQTTProtocolVersion.MQTTv5)

        def on_message(_client: paho.Client, _user: object, message: paho.MQTTMessage) -> None:
            heard.append(json.loads(message.payload)["seq"])
            news.set()

        subscribed = threading.Event()
        client.on_connect = lambda *_: client.subscribe(VERDICT, qos=1)
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = on_message
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        client.loop_start()
        assert subscribed.wait(PATIENCE_S)
        while len(set(heard)) < wanted and news.wait(3.0):
            news.clear()
        client.disconnect()
        client.loop_stop()
        return heard

    def save(self, broker: LocalBroker, folder: Path) -> None:
        os.kill(broker.pid, signal.SIGUSR1)
        end_s = time.monotonic() + PATIENCE_S
        while not (folder / "mosquitto.db").exists():
            assert time.monotonic() < end_s
            time.sleep(0.01)

    @pytest.mark.parametrize("kills", [1, 2, 3])
    def test_however_often_before_it_saves_nothing_is_lost(
        self, tmp_path: Path, start: Callable[..., LocalBroker], kills: int
    ) -> None:
        broker = start()
        self.consume(broker.port, 0)
        with publishing(broker.port, UNSAVED_S) as publisher:
            self.save(broker, tmp_path)  # the sessions of both, and not one verdict
            for kill in range(kills):
                before = publisher.flush(0).acknowledged
                for seq in range(kill * EACH, (kill + 1) * EACH):
                    publisher.publish_verdict(sample_verdict(seq))
                # Those of before that one, too: all new ones, and the first repeat of those of the last.
                expected = before + EACH * min(2, kill + 1)
                until(lambda n=expected: publisher.flush(0).acknowledged >= n, publisher)  # type: ignore[misc]
                broker.kill()
                broker = start(broker.port, saves_every_s=1 if kill == kills - 1 else 3600)
            expected = publisher.flush(0).acknowledged + EACH * kills
            until(lambda: publisher.flush(0).acknowledged >= expected, publisher)
            assert publisher.flush(0).waiting == 0
            time.sleep(UNSAVED_S)  # what the broker may take to save
            broker.kill()
        heard = self.consume(start(broker.port).port, kills * EACH)
        assert set(heard) == set(range(kills * EACH))

    def test_it_was_lost(self, tmp_path: Path, start: Callable[..., LocalBroker]) -> None:
        """What the test above rests on."""
        broker = start()
        self.consume(broker.port, 0)
        with publishing(broker.port, UNSAVED_S) as publisher:
            self.save(broker, tmp_path)
            for seq in range(EACH):
                publisher.publish_verdict(sample_verdict(seq))
            until(lambda: publisher.flush(0).waiting == 0, publisher)
            broker.kill()
        assert self.consume(start(broker.port).port, EACH) == []


def test_a_cable_that_is_cut_again_and_again_brings_new_verdicts_first_and_each_of_them_once_more() -> None:
    cuts, each = 15, 40
    with (
        LocalBroker("mosquitto") as broker,
        CuttableProxy(broker.port) as cable,
        Listener(broker.host, broker.port, topics=VERDICT) as listener,
        publishing(cable.port, unsaved_s=600.0) as publisher,
    ):
        for cut in range(cuts):
            until(lambda n=cut: publisher.health().reconnects >= n, publisher)  # type: ignore[misc]
            for seq in range(cut * each, (cut + 1) * each):
                publisher.publish_verdict(sample_verdict(seq))
            newest = (cut + 1) * each - 1
            # Repeats go on meanwhile; the new ones are there although the repeats are not through.
            until(lambda n=newest: _heard(listener, n), publisher)  # type: ignore[misc]
            cable.cut()
        until(lambda: publisher.health().reconnects >= cuts, publisher)
        for _ in range(20):
            publisher.flush(0.1)
        seqs = [message.json()["seq"] for message in listener.heard("/verdict")]
        assert list(dict.fromkeys(seqs)) == list(range(cuts * each))
        reconnects = publisher.health().reconnects
        assert len(seqs) - cuts * each <= cuts * each + ON_THE_WAY_MAX * reconnects
        # Those that were repeated in vain wait for a connection that stands long enough.
        assert publisher.flush(0).waiting > 0


def _heard(listener: Listener, seq: int) -> bool:
    return any(message.json()["seq"] == seq for message in listener.heard("/verdict"))
