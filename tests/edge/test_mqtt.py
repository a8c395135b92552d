"""The publisher against a real broker: what arrives, what is kept, what is refused, and what comes back."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.broker import LocalBroker, find_mosquitto
from edge.clock import Session, utc_now
from edge.config import BrokerConfig
from edge.errors import BrokerRefused, BrokerUnreachable, ConfigError
from edge.messages import MachineState, MachineStateName, PictureKind
from edge.mqtt import MqttPublisher
from edge.publisher import Picture
from edge.schemas import TOPICS
from edge.testing import CuttableProxy, Heard, Listener, sample_verdict
from edge.topics import RigIdentity
from tests.outboxed import Outboxed

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)

RIG = RigIdentity(enterprise="acme", site="dresden", area="assembly", line="line-3", cell="cell-2")
ROOT = "acme/dresden/assembly/line-3/cell-2/inspection/"
SESSION = Session(epoch=7, boot_id="boot", software_version="0")


def picture(size: int = 1000, kind: PictureKind = PictureKind.HEATMAP) -> Picture:
    return Picture(kind, os.urandom(size), "image/jpeg", 64, 48, 0.0, 2.0, "turbo")


def machine_state(state: MachineStateName) -> MachineState:
    return MachineState(
        state=state, reason=None, detail=None, creation_time=utc_now(), epoch=7, boot_id="boot"
    )


@contextmanager
def publishing(config: BrokerConfig, rig: RigIdentity = RIG) -> Iterator[Outboxed]:
    publisher = Outboxed(config, rig, SESSION)
    try:
        publisher.start()
        yield publisher
    finally:
        publisher.close()


def at_least(count: int) -> Callable[[list[Heard]], bool]:
    return lambda heard: len(heard) >= count


def latest(key: str, value: object) -> Callable[[list[Heard]], bool]:
    """Whether the newest message says so."""
    return lambda heard: bool(heard) and heard[-1].json()[key] == value


@pytest.fixture
def broker() -> Iterator[LocalBroker]:
    with LocalBroker("mosquitto") as running:
        yield running


@contextmanager
def listening(broker: LocalBroker, **options: object) -> Iterator[Listener]:
    with Listener(broker.host, broker.port, **options) as listener:
        yield listener


def retained(broker: LocalBroker, ending: str) -> list[Heard]:
    """What the broker keeps on a topic, as one sees who comes late."""
    with listening(broker) as listener:
        return listener.wait_for(ending, lambda heard: any(h.retained for h in heard))


class TestWhatArrives:
    def test_topics_qos_and_retained_are_those_of_the_table(self, broker: LocalBroker) -> None:
        # Health comes from the daemon; commands, their answers and recipes have a connection of their own.
        others = ("health", "cmd/", "resp/", "state/recipe")
        table = {entry.topic: entry for entry in TOPICS if not entry.topic.startswith(others)}
        with listening(broker) as listener, publishing(broker.client_config()) as publisher:
            publisher.publish_machine_state(machine_state(MachineStateName.READY))
            first = sample_verdict()
            publisher.publish_verdict(first)
            for kind in PictureKind:
                publisher.publish_picture(picture(kind=kind), first)
            assert publisher.flush(30).waiting == 0
            live = listener.wait_for("", lambda heard: len({h.topic for h in heard}) >= len(table))
        qos = {h.topic.removeprefix(ROOT): h.qos for h in live}
        assert qos == {name: entry.qos for name, entry in table.items()}
        with listening(broker) as late:
            kept = late.wait_for("", at_least(len(table) - 1))
        assert {h.topic.removeprefix(ROOT) for h in kept} == {n for n, e in table.items() if e.retained}

    def test_five_hundred_verdicts_arrive_once_each_and_in_order(self, broker: LocalBroker) -> None:
        with listening(broker) as listener, publishing(broker.client_config()) as publisher:
            for seq in range(500):
                publisher.publish_verdict(sample_verdict(seq))
            report = publisher.flush(60)
            assert (report.acknowledged, report.waiting, report.error()) == (500, 0, None)
            heard = listener.wait_for("/verdict", at_least(500))
        assert [h.json()["seq"] for h in heard] == list(range(500))
        assert len({h.json()["result_id"] for h in heard}) == 500

    def test_a_picture_and_its_twin_are_a_pair(self, broker: LocalBroker) -> None:
        of, sent = sample_verdict(), picture()
        with listening(broker) as listener, publishing(broker.client_config()) as publisher:
            publisher.publish_picture(sent, of)
            (bytes_,) = listener.wait_for("/heatmap", at_least(1))
            (twin,) = listener.wait_for("/heatmap/info", at_least(1))
        assert bytes_.payload == sent.data
        assert twin.json()["sha256"] == hashlib.sha256(sent.data).hexdigest()
        assert twin.json()["result_id"] == of.result_id
        assert dict(bytes_.user_properties)["result_id"] == of.result_id
        assert dict(bytes_.user_properties)["high"] == "2.0"
        assert bytes_.expiry_s is not None
        assert bytes_.expiry_s <= 60

    def test_any_identity_that_is_accepted_reaches_the_broker(self, broker: LocalBroker) -> None:
        @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.text(min_size=1, max_size=12))
        def check(text: str) -> None:
            try:
                rig = RigIdentity(enterprise="fuzz", site=text, area=text, line=text, cell=text)
            except ValidationError:
                return
            with publishing(broker.client_config(), rig) as publisher:
                publisher.publish_verdict(sample_verdict())
                assert publisher.flush(30).waiting == 0

        check()


class TestBirthAndWill:
    def test_online_then_offline_on_a_clean_end(self, broker: LocalBroker) -> None:
        with publishing(broker.client_config()) as publisher:
            publisher.publish_verdict(sample_verdict())
            publisher.flush(30)
            (online,) = retained(broker, "/availability")
            assert (online.json()["state"], online.json()["reason"]) == ("online", "started")
        (offline,) = retained(broker, "/availability")
        assert (offline.json()["state"], offline.json()["reason"]) == ("offline", "stopped")

    @pytest.mark.parametrize("protocol", ["5", "3.1.1"])
    def test_a_killed_process_is_told_offline_by_the_broker(self, broker: LocalBroker, protocol: str) -> None:
        script = (
            "import sys, time\n"
            "from edge.config import BrokerConfig\nfrom edge.clock import Session\n"
            "from tests.outboxed import Outboxed\nfrom edge.topics import RigIdentity\n"
            f"config = BrokerConfig(port={broker.port}, protocol={protocol!r})\n"
            f"rig = RigIdentity.model_validate({RIG.model_dump()!r})\n"
            "publisher = Outboxed(config, rig, Session(7, 'boot', '0'))\n"
            "publisher.start()\nsys.stdout.write('up\\n')\nsys.stdout.flush()\ntime.sleep(600)\n"
        )
        with listening(broker) as listener:
            with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
                assert child.stdout is not None
                assert child.stdout.readline() == b"up\n"
                listener.wait_for("/availability", latest("state", "online"))
                child.send_signal(signal.SIGKILL)
            heard = listener.wait_for("/availability", latest("state", "offline"))
        assert heard[-1].json()["reason"] == "connection_lost"
        (kept,) = retained(broker, "/availability")
        assert kept.json()["state"] == "offline"

    def test_a_short_cut_does_not_flap_and_loses_nothing(self, broker: LocalBroker) -> None:
        with CuttableProxy(broker.port) as proxy, listening(broker) as listener:
            config = BrokerConfig(port=proxy.port)
            with publishing(config) as publisher:
                publisher.publish_machine_state(machine_state(MachineStateName.CONTINUOUS_EXECUTION))
                publisher.publish_verdict(sample_verdict(0))
                assert publisher.flush(30).waiting == 0
                proxy.cut()
                for seq in range(1, 50):
                    publisher.publish_verdict(sample_verdict(seq))
                assert publisher.flush(60).waiting == 0
                assert publisher.health().reconnects >= 1
                listener.wait_for("/availability", latest("reason", "reconnected"))
                states = [h.json()["state"] for h in listener.heard("/availability") if not h.retained]
                assert "offline" not in states
            heard = listener.wait_for("/verdict", lambda heard: len({_id(h) for h in heard}) >= 50)
        first_of_each = list(dict.fromkeys(h.json()["seq"] for h in heard))
        assert first_of_each == list(range(50))


class TestWhatGoesWrong:
    def test_wrong_password_is_refused_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "password").write_text("wrong\n")
        with LocalBroker("mosquitto", username="rig", password="right") as guarded:
            config = BrokerConfig(port=guarded.port, username="rig", password_file=tmp_path / "password")
            with (
                pytest.raises(
                    BrokerRefused, match=r"refused the user 'rig'.*check broker\.username"
                ) as caught,
                publishing(config),
            ):
                pass
            assert caught.value.exit_code == 7
            (tmp_path / "password").write_text("right\n")
            with publishing(config) as publisher:
                publisher.publish_verdict(sample_verdict())
                assert publisher.flush(30).waiting == 0

    def test_a_password_that_becomes_wrong_is_told_and_tried_again(self, tmp_path: Path) -> None:
        (tmp_path / "password").write_text("right")
        first = LocalBroker("mosquitto", username="rig", password="right")
        first.start()
        config = BrokerConfig(port=first.port, username="rig", password_file=tmp_path / "password")
        with publishing(config) as publisher:
            first.stop()
            publisher.publish_verdict(sample_verdict())
            with LocalBroker("mosquitto", username="rig", password="changed", port=first.port):
                while "refused the user" not in (publisher.health().last_error or ""):
                    assert publisher.flush(0.05).acknowledged == 0
            with LocalBroker("mosquitto", username="rig", password="right", port=first.port):
                assert publisher.flush(60).waiting == 0
                while not publisher.health().pictures_connected:
                    time.sleep(0.05)
                assert publisher.health().last_error is None

    def test_a_broker_that_is_down_comes_up(self) -> None:
        with LocalBroker("mosquitto") as gone:
            port = gone.port
        with publishing(BrokerConfig(port=port)) as publisher:
            publisher.publish_verdict(sample_verdict())
            report = publisher.flush(0.2)
            assert (report.waiting, report.error()) == (1, None)
            assert "refused" in (publisher.health().last_error or "").lower()
            with LocalBroker("mosquitto", port=port):
                assert publisher.flush(60).waiting == 0

    def test_a_denied_verdict_is_a_failure_with_its_reason(self, tmp_path: Path) -> None:
        rules = tmp_path / "acl"
        rules.write_text(f"topic write {ROOT}availability\ntopic read #\n")
        rules.chmod(0o644)
        with (
            LocalBroker("mosquitto", extra=[f"acl_file {rules}"]) as strict,
            publishing(strict.client_config()) as publisher,
        ):
            publisher.publish_verdict(sample_verdict())
            report = publisher.flush(30)
            assert (report.acknowledged, report.waiting, report.refused) == (0, 1, 1)
            assert "Not authorized" in report.reasons[0]
            assert isinstance(report.error(), BrokerRefused)
            assert publisher.health().verdicts_refused == 1

    def test_a_picture_that_is_too_large_blocks_no_verdict(self) -> None:
        with (
            LocalBroker("mosquitto", extra=["max_packet_size 8192"]) as narrow,
            listening(narrow) as listener,
            publishing(narrow.client_config()) as publisher,
        ):
            for seq in range(20):
                of = sample_verdict(seq)
                publisher.publish_verdict(of)
                publisher.publish_picture(picture(100_000), of)
            publisher.publish_picture(picture(100, PictureKind.IMAGE), of)
            assert publisher.flush(30).waiting == 0
            listener.wait_for("/image/rgb", at_least(1))
            assert len(listener.wait_for("/verdict", at_least(20))) == 20
            assert listener.heard("/heatmap") == []
            health = publisher.health()
            assert (health.pictures_dropped, health.reconnects) == (20, 0)

    def test_a_verdict_that_is_too_large_goes_without_its_regions(self) -> None:
        with (
            LocalBroker("mosquitto", extra=["max_packet_size 3000"]) as narrow,
            listening(narrow) as listener,
            publishing(narrow.client_config()) as publisher,
        ):
            publisher.publish_verdict(sample_verdict(regions=500))
            assert publisher.flush(30).waiting == 0
            (heard,) = listener.wait_for("/verdict", at_least(1))
        assert (heard.json()["regions"], heard.json()["regions_total"]) == ([], 500)

    def test_the_brokers_receive_maximum_is_kept(self) -> None:
        with (
            LocalBroker("mosquitto", extra=["max_inflight_messages 1"]) as slow,
            publishing(slow.client_config()) as publisher,
        ):
            for seq in range(200):
                publisher.publish_verdict(sample_verdict(seq))
            assert publisher.flush(60).waiting == 0
            assert publisher.health().reconnects == 0

    def test_a_refusal_that_is_mended_at_the_broker_lets_the_verdict_through(self, tmp_path: Path) -> None:
        rules = tmp_path / "acl"
        rules.write_text(f"topic write {ROOT}availability\ntopic read #\n")
        rules.chmod(0o644)
        first = LocalBroker("mosquitto", extra=[f"acl_file {rules}"])
        first.start()
        with publishing(first.client_config()) as publisher:
            publisher.publish_verdict(sample_verdict())
            assert publisher.flush(30).refused == 1
            first.stop()
            with LocalBroker("mosquitto", port=first.port) as mended, listening(mended) as listener:
                while publisher.flush(0.1).waiting:
                    pass
                assert len(listener.wait_for("/verdict", at_least(1))) == 1

    def test_more_than_is_ever_in_flight_waits_for_a_broker_that_is_away(self) -> None:
        with LocalBroker("mosquitto") as gone:
            port = gone.port
        with publishing(BrokerConfig(port=port)) as publisher:
            for seq in range(60):
                publisher.publish_verdict(sample_verdict(seq))
            assert publisher.health().verdicts_pending <= 20
            with LocalBroker("mosquitto", port=port) as back, listening(back) as listener:
                assert publisher.flush(60).waiting == 0
                heard = listener.wait_for("/verdict", at_least(60))
        assert [h.json()["seq"] for h in heard] == list(range(60))

    def test_a_broker_that_forgot_what_it_acknowledged_gets_it_again(self) -> None:
        first = LocalBroker("mosquitto")  # keeps nothing on disk
        first.start()
        with publishing(first.client_config()) as publisher:
            for seq in range(5):
                publisher.publish_verdict(sample_verdict(seq))
            assert publisher.flush(60).waiting == 0
            first.kill()
            with LocalBroker("mosquitto", port=first.port) as empty, listening(empty) as listener:
                while not listener.heard("/availability"):
                    publisher.flush(0.1)
                while len(listener.heard("/verdict")) < 5:
                    publisher.flush(0.1)
                assert publisher.flush(60).waiting == 0
                seqs = {h.json()["seq"] for h in listener.heard("/verdict")}
        assert seqs == set(range(5))

    def test_a_broker_that_is_killed_and_comes_back_gets_the_rest(self, tmp_path: Path) -> None:
        first = LocalBroker("mosquitto", persistence_dir=tmp_path)
        first.start()
        with publishing(first.client_config()) as publisher:
            for seq in range(20):
                publisher.publish_verdict(sample_verdict(seq))
            with listening(first) as listener:
                listener.wait_for("/last_verdict", latest("seq", 19))
            first.kill()
            for seq in range(20, 40):
                publisher.publish_verdict(sample_verdict(seq))
            with LocalBroker("mosquitto", persistence_dir=tmp_path, port=first.port):
                assert publisher.flush(60).waiting == 0
                assert publisher.health().reconnects == 1

    def test_what_our_broker_keeps_outlives_a_power_cut(self, tmp_path: Path) -> None:
        first = LocalBroker("mosquitto", persistence_dir=tmp_path)
        first.start()
        with publishing(first.client_config()) as publisher:
            for seq in range(20):
                publisher.publish_verdict(sample_verdict(seq))
            publisher.flush(60)
        first.kill()
        with LocalBroker("mosquitto", persistence_dir=tmp_path) as second:
            (last,) = retained(second, "/last_verdict")
            assert last.json()["seq"] == 19

    def test_falls_back_to_311_with_a_broker_that_knows_no_other(self) -> None:
        with LocalBroker("amqtt") as old:
            with listening(old, five=False) as listener, publishing(old.client_config()) as publisher:
                for seq in range(20):
                    publisher.publish_verdict(sample_verdict(seq))
                publisher.publish_picture(picture(), sample_verdict(20))
                assert publisher.flush(60).waiting == 0
                assert publisher.health().protocol == "3.1.1"
                heard = listener.wait_for("/verdict", at_least(20))
                listener.wait_for("/heatmap", at_least(1))
            assert {h.json()["seq"] for h in heard} == set(range(20))

    def test_who_insists_on_5_does_not_get_311(self) -> None:
        with LocalBroker("amqtt") as old:
            config = BrokerConfig(port=old.port, protocol="5", connect_timeout_s=1)
            with publishing(config) as publisher:
                publisher.publish_verdict(sample_verdict())
                assert publisher.flush(0.5).waiting == 1
                assert publisher.health().protocol is None

    def test_who_insists_on_311_gets_it(self, broker: LocalBroker) -> None:
        with publishing(BrokerConfig(port=broker.port, protocol="3.1.1")) as publisher:
            publisher.publish_verdict(sample_verdict())
            assert publisher.flush(30).waiting == 0
            assert publisher.health().protocol == "3.1.1"

    def test_wrong_certificates_are_told_before_anything_is_sent(self, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text("no certificate")
        config = BrokerConfig.model_validate({"tls": {"ca_file": tmp_path / "ca.pem"}})
        with pytest.raises(ConfigError, match=r"broker\.tls: .*ca\.pem"):
            MqttPublisher(config, RIG, SESSION)

    def test_two_rigs_of_one_identity_are_told_so(self, broker: LocalBroker) -> None:
        with publishing(broker.client_config()) as first:
            while not first.health().pictures_connected:
                time.sleep(0.05)
            with publishing(broker.client_config()):
                while "another rig" not in (first.health().last_error or ""):
                    time.sleep(0.05)

    def test_close_and_flush_without_start(self) -> None:
        publisher = Outboxed(BrokerConfig(), RIG, SESSION)
        assert publisher.flush(0).waiting == 0
        publisher.close()
        publisher.close()

    def test_sending_after_close_is_told(self, broker: LocalBroker) -> None:
        with publishing(broker.client_config()) as publisher:
            pass
        with pytest.raises(BrokerUnreachable, match="has ended"):
            publisher.publish_machine_state(machine_state(MachineStateName.READY))


def _id(heard: Heard) -> str:
    return str(heard.json()["result_id"])
