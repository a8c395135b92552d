"""Fifty rigs at one broker, each with a certificate of its own, and consumers who share the work."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edge.broker import LocalBroker, find_mosquitto
from edge.clock import Session
from edge.config import BrokerConfig
from edge.messages import Verdict
from edge.mqtt import MqttPublisher
from edge.outbox_records import StoredVerdict
from edge.testing import Listener, sample_verdict
from edge.topics import RigIdentity
from tests.plant import EXAMPLE, HOST, Guest, Keys, Plant, name_of

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)

RIGS = [
    RigIdentity(enterprise="acme", site="dresden", area="assembly", line="line-3", cell=f"cell-{number}")
    for number in range(50)
]
EACH = 4
SESSION = Session(epoch=7, boot_id="boot", software_version="0")
VERDICTS = "+/+/+/+/+/inspection/verdict"
NOT_AUTHORISED = 135


class Rig:
    """A publisher with prepared verdicts instead of an outbox, a camera and a model."""

    def __init__(self, config: BrokerConfig, identity: RigIdentity) -> None:
        self.publisher = MqttPublisher(config, identity, SESSION)
        self.ids: list[str] = []
        self._done: dict[int, str | None] = {}
        self._lock = threading.Lock()

    def delivered(self, position: int, refusal: str | None) -> None:
        with self._lock:
            self._done[position] = refusal

    def forgotten(self) -> None:
        """Nothing to send again: the test's broker is not killed before it has saved."""

    returned = forgotten

    def publish(self, verdict: Verdict) -> None:
        position = len(self.ids)
        self.ids.append(verdict.result_id)
        stored = StoredVerdict(
            position=position,
            result_id=verdict.result_id,
            trigger_id=None,
            epoch=7,
            seq=position,
            outcome=verdict.outcome,
            payload=verdict.to_json(),
            replayed=False,
            repeats=0,
            acknowledged=None,
        )
        self.publisher.publish_verdict(stored, newest=True)

    @property
    def acknowledged(self) -> int:
        with self._lock:
            return sum(refusal is None for refusal in self._done.values())


@contextmanager
def running(config: BrokerConfig, identity: RigIdentity) -> Iterator[Rig]:
    rig = Rig(config, identity)
    rig.publisher.start(rig)
    try:
        yield rig
    finally:
        rig.publisher.close()


def until(done: Callable[[], bool], patience_s: float = 120) -> None:
    deadline = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < deadline, "not what was waited for"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    made = Keys(tmp_path_factory.mktemp("keys"))
    made.many(name_of(rig) for rig in RIGS)
    return made


def ids_of(members: list[Guest]) -> list[Counter[str]]:
    return [Counter(heard.json()["result_id"] for heard in list(member.heard)) for member in members]


def test_fifty_rigs_and_two_groups_of_consumers(tmp_path: Path, keys: Keys) -> None:
    with Plant(tmp_path, keys) as plant, ExitStack() as stack:
        groups = {
            name: [stack.enter_context(Guest(plant, "historian")) for _ in range(count)]
            for name, count in (("archive", 3), ("board", 2))
        }
        for name, members in groups.items():
            for member in members:
                member.subscribe(f"$share/{name}/{VERDICTS}")
        rigs = [stack.enter_context(running(plant.config(name_of(rig)), rig)) for rig in RIGS]
        for seq in range(EACH):
            for rig in rigs:
                rig.publish(sample_verdict(seq))
        with Guest(plant, name_of(RIGS[0])) as forger:
            forged = sample_verdict().to_json()
            assert forger.publish(f"{RIGS[1].root}/verdict", forged) == NOT_AUTHORISED
        until(lambda: all(rig.acknowledged == EACH for rig in rigs))
        sent = {result_id for rig in rigs for result_id in rig.ids}
        assert len(sent) == EACH * len(RIGS)
        for members in groups.values():
            until(lambda members=members: set().union(*ids_of(members)) == sent)
            assert sum(ids_of(members), Counter()) == Counter(sent), "one came twice, and none was lost"
            assert all(member.heard for member in members), "one member had nothing to do"
        for member in groups["archive"]:
            for heard in member.heard:
                number = RIGS.index(next(rig for rig in RIGS if heard.topic.startswith(rig.root)))
                assert heard.json()["result_id"] in rigs[number].ids

        plant.kill()
        plant.start()
        with plant.listener("dashboard") as dashboard:
            for rig in rigs:
                rig.publish(sample_verdict(EACH))
            until(lambda: all(rig.acknowledged == EACH + 1 for rig in rigs))
            heard = dashboard.wait_for("/verdict", lambda heard: len({h.topic for h in heard}) == len(RIGS))
        assert {message.json()["seq"] for message in heard} >= {EACH}


def test_two_rigs_with_one_identity_both_notice(
    tmp_path: Path, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    rig = RIGS[0]
    with (
        Plant(tmp_path, keys) as plant,
        running(plant.config(name_of(rig)), rig) as first,
        running(plant.config(name_of(rig)), rig) as second,
    ):
        noticed: set[int] = set()

        def both() -> bool:
            for number, one in enumerate((first, second)):
                if "another rig" in (one.publisher.health().last_error or ""):
                    noticed.add(number)
            return noticed == {0, 1}

        until(both)
    assert "look for another rig with the same identity" in caplog.text


def test_a_lines_broker_passes_on_what_the_plant_is_to_see(tmp_path: Path, keys: Keys) -> None:
    certificate, key = keys.of("line-3-bridge")
    rig = RIGS[0]
    with Plant(tmp_path, keys) as plant:
        lines = (EXAMPLE / "bridge.conf").read_text(encoding="utf-8")
        for old, new in (
            ("mqtt.plant.example:8883", f"{HOST}:{plant.port}"),
            ("/etc/mosquitto/certs/plant-ca.pem", str(keys.ca)),
            ("/etc/mosquitto/certs/line-3-bridge.pem", str(certificate)),
            ("/etc/mosquitto/certs/line-3-bridge.key", str(key)),
        ):
            assert old in lines
            lines = lines.replace(old, new)
        with (
            LocalBroker("mosquitto", extra=lines.splitlines()) as line,
            Listener(line.host, line.port) as here,
            plant.listener("dashboard") as there,
            running(line.client_config(), rig) as publisher,
        ):
            publisher.publish(sample_verdict())
            there.wait_for(f"{rig.root}/verdict", lambda heard: len(heard) == 1)
            there.wait_for(f"{rig.root}/availability", bool)
            with Guest(plant, name_of(rig)) as at_the_plant:
                at_the_plant.publish(f"{rig.root}/verdict", b"of the plant")
            there.wait_for(f"{rig.root}/verdict", lambda heard: len(heard) == 2)
            assert len(here.heard("/verdict")) == 1
