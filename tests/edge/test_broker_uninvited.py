"""The plant's broker as docs/examples/mosquitto sets it up: who has no business there gets nowhere."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from edge.broker import find_mosquitto
from edge.clock import Session
from edge.config import BrokerConfig
from edge.errors import BrokerRefused
from edge.messages import PictureKind
from edge.mqtt_orders import MqttOrders
from edge.order_messages import TriggerOrder
from edge.orders import Letter, Reply, Respond, handler
from edge.publisher import Picture
from edge.testing import Heard, sample_verdict
from edge.topics import RigIdentity
from tests.outboxed import Outboxed
from tests.plant import HOST, Guest, Keys, Plant, name_of

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)

A = RigIdentity(enterprise="acme", site="dresden", area="assembly", line="line-3", cell="cell-2")
B = A.model_copy(update={"cell": "cell-3"})
SESSION = Session(epoch=7, boot_id="boot", software_version="0")
NOT_AUTHORISED = 135
ORDER = b'{"request_id": "1", "issued_by": "hmi-3"}'


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def rogue(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """An authority that calls itself as ours does, and is not."""
    return Keys(tmp_path_factory.mktemp("rogue"))


@pytest.fixture
def plant(tmp_path: Path, keys: Keys) -> Iterator[Plant]:
    with Plant(tmp_path / "plant", keys) as running:
        yield running


@contextmanager
def publishing(config: BrokerConfig, rig: RigIdentity = A) -> Iterator[Outboxed]:
    publisher = Outboxed(config, rig, SESSION)
    try:
        publisher.start()
        yield publisher
    finally:
        publisher.close()


@contextmanager
def hearing(config: BrokerConfig, rig: RigIdentity = A) -> Iterator[list[Any]]:
    """A rig that notes what it is told to do."""
    carried_out: list[Any] = []

    def on_trigger(order: TriggerOrder, letter: Letter, respond: Respond) -> None:
        carried_out.append(order.request_id)
        respond(Reply("accepted", result_id="r"))

    orders = MqttOrders(config, rig, SESSION, [handler(TriggerOrder, on_trigger)])
    orders.start()
    try:
        until(lambda: orders.status.hears)
        yield carried_out
    finally:
        orders.close()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "not what was waited for"
        time.sleep(0.02)


def at_least(count: int) -> Callable[[list[Heard]], bool]:
    return lambda heard: len(heard) >= count


def expired(keys: Keys, name: str, *, host: bool = False) -> None:
    """Make the certificate of `name` one of the same key that ended yesterday."""
    path = keys.folder / f"{name.replace('/', '_')}.pem"
    old = x509.load_pem_x509_certificate(path.read_bytes())
    authority = x509.load_pem_x509_certificate(keys.ca.read_bytes())
    signer: Any = serialization.load_pem_private_key((keys.folder / "ca.key").read_bytes(), None)
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder(authority.subject, old.subject, old.public_key(), old.serial_number)
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now - timedelta(days=1))
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    path.write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


class TestTheDoor:
    def test_a_rig_with_its_certificate_comes_in(self, plant: Plant) -> None:
        with plant.listener("dashboard") as dashboard, publishing(plant.config(name_of(A))) as rig:
            rig.publish_verdict(sample_verdict())
            assert rig.flush(30).waiting == 0
            assert len(dashboard.wait_for("/verdict", at_least(1))) == 1

    @pytest.mark.parametrize("who", ["nobody", "stranger", "outdated"])
    def test_others_do_not_and_what_they_have_to_say_waits(
        self, plant: Plant, keys: Keys, rogue: Keys, who: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        config = plant.config(None)
        if who == "stranger":
            config = plant.config(name_of(A), rogue)
        elif who == "outdated":
            config = plant.config("acme/dresden/assembly/line-3/old")
            expired(keys, "acme/dresden/assembly/line-3/old")
        with plant.listener("dashboard") as dashboard, caplog.at_level(logging.WARNING):
            with publishing(config) as rig:
                rig.publish_verdict(sample_verdict())
                until(lambda: "next try" in caplog.text)
                assert rig.flush(0.5).waiting == 1
                assert rig.health().protocol is None
            assert dashboard.heard() == []

    def test_without_tls_there_is_nothing(self, plant: Plant) -> None:
        with publishing(BrokerConfig(host=HOST, port=plant.port, connect_timeout_s=1)) as rig:
            rig.publish_verdict(sample_verdict())
            assert rig.flush(1).waiting == 1

    def test_an_imposter_at_the_brokers_address_hears_nothing(
        self, plant: Plant, rogue: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with publishing(plant.config(name_of(A))) as rig:
            rig.publish_verdict(sample_verdict(0))
            assert rig.flush(30).waiting == 0
            plant.kill()
            rogue.make("broker", "localhost", HOST)
            plant.start(rogue)
            rig.publish_verdict(sample_verdict(1))
            until(lambda: "certificate is not accepted" in (rig.health().last_error or ""))
            assert rig.flush(0.5).waiting == 1
            assert "check broker.tls.ca_file" in caplog.text
            plant.kill()
            plant.start()
            assert rig.flush(60).waiting == 0
        with plant.listener("dashboard") as dashboard:
            (last,) = dashboard.wait_for("/last_verdict", at_least(1))
            assert last.json()["seq"] == 1

    def test_a_broker_whose_certificate_has_ended_is_refused(self, tmp_path: Path) -> None:
        own = Keys(tmp_path / "own")
        own.make("broker", "localhost", HOST)
        expired(own, "broker")
        with (
            Plant(tmp_path / "plant", own) as plant,
            pytest.raises(BrokerRefused, match=r"certificate has expired.*this machine's clock"),
            publishing(plant.config(name_of(A))),
        ):
            pass

    def test_a_clients_certificate_is_no_brokers(self, tmp_path: Path) -> None:
        """A stolen rig can't pass itself off as the broker."""
        own = Keys(tmp_path / "own")
        for file, end in zip(own.of("localhost"), ("pem", "key"), strict=True):
            file.replace(own.folder / f"broker.{end}")
        with (
            Plant(tmp_path / "plant", own) as plant,
            pytest.raises(BrokerRefused, match="certificate is not accepted"),
            publishing(plant.config(name_of(A))),
        ):
            pass

    def test_passwords_instead_of_certificates(self, tmp_path: Path, keys: Keys) -> None:
        changes = [
            ("require_certificate true\nuse_identity_as_username true\n", ""),
            ("#require_certificate false", "require_certificate false"),
            ("#password_file", "password_file"),
        ]
        plant = Plant(tmp_path, keys, changes=changes)
        passwords = tmp_path / "passwords"
        subprocess.run(
            ["mosquitto_passwd", "-b", "-c", str(passwords), name_of(A), "right"],
            check=True,
            capture_output=True,
        )
        (tmp_path / "right").write_text("right\n")
        (tmp_path / "wrong").write_text("wrong\n")
        with plant:
            tls = {"ca_file": keys.ca}
            as_a = {"port": plant.port, "tls": tls, "username": name_of(A)}
            with publishing(
                BrokerConfig.model_validate({**as_a, "password_file": tmp_path / "right"})
            ) as rig:
                rig.publish_verdict(sample_verdict())
                assert rig.flush(30).waiting == 0
            for config in ({**as_a, "password_file": tmp_path / "wrong"}, {"port": plant.port, "tls": tls}):
                with (
                    pytest.raises(BrokerRefused, match=r"broker\.username"),
                    publishing(BrokerConfig.model_validate(config)),
                ):
                    pass


class TestForgery:
    def test_a_rig_that_publishes_as_another_is_refused_and_nobody_hears_it(self, plant: Plant) -> None:
        topics = [
            f"{B.root}/{end}"
            for end in ("verdict", "state/last_verdict", "availability", "health", "heatmap", "resp/hmi-3")
        ]
        with plant.listener("dashboard") as dashboard, Guest(plant, name_of(A)) as forger:
            for topic in topics:
                for retain in (False, True):
                    assert forger.publish(topic, b'{"outcome": "pass"}', retain=retain) == NOT_AUTHORISED
            assert forger.publish(f"{A.root}/verdict", b"the last") == 0
            heard = dashboard.wait_for("", at_least(1))
        assert [message.payload for message in heard] == [b"the last"]
        with plant.listener("dashboard") as late, Guest(plant, name_of(A)) as marks:
            marks.publish(f"{A.root}/verdict", b"now")
            assert [message.payload for message in late.wait_for("", at_least(1))] == [b"now"]

    def test_a_rig_configured_as_another_keeps_its_verdicts_and_says_so(
        self, plant: Plant, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Certificate of A, `rig:` of B: somebody copied the wrong file."""
        with plant.listener("dashboard") as dashboard:
            with publishing(plant.config(name_of(A)), B) as rig:
                rig.publish_verdict(sample_verdict())
                report = rig.flush(30)
                assert (report.acknowledged, report.refused, report.waiting) == (0, 1, 1)
                assert rig.health().verdicts_refused == 1
            assert "access rules for this rig" in caplog.text
            assert dashboard.heard() == []

    def test_the_will_of_a_forger_is_not_published(self, plant: Plant) -> None:
        with plant.listener("dashboard") as dashboard:
            forger = Guest(plant, name_of(A), will=f"{B.root}/availability")
            forger.vanish()
            with Guest(plant, name_of(A)) as marks:
                marks.publish(f"{A.root}/verdict", b"now")
            assert [m.payload for m in dashboard.wait_for("", at_least(1))] == [b"now"]


class TestCommands:
    def test_who_only_listens_commands_nothing(self, plant: Plant) -> None:
        with hearing(plant.config(name_of(A))) as carried_out:
            for name in ("dashboard", "historian", name_of(B)):
                with Guest(plant, name) as guest:
                    for command in ("trigger", "recipe", "reload", "threshold"):
                        assert guest.publish(f"{A.root}/cmd/{command}", ORDER) == NOT_AUTHORISED
                        assert guest.publish(f"{A.root}/cmd/{command}/{name}", ORDER) == NOT_AUTHORISED
                        assert guest.publish(f"{A.root}/cmd/{command}/hmi-3", ORDER) == NOT_AUTHORISED
            assert carried_out == []

    def test_who_commands_does_so_under_its_own_name_and_on_its_own_line(self, plant: Plant) -> None:
        elsewhere = A.model_copy(update={"line": "line-4"})
        with hearing(plant.config(name_of(A))) as carried_out, Guest(plant, "hmi-3") as hmi:
            hmi.subscribe(f"{A.root}/resp/#")
            assert hmi.publish(f"{A.root}/cmd/trigger", ORDER) == NOT_AUTHORISED
            assert hmi.publish(f"{A.root}/cmd/trigger/hmi-4", ORDER) == NOT_AUTHORISED
            assert hmi.publish(f"{elsewhere.root}/cmd/trigger/hmi-3", ORDER) == NOT_AUTHORISED
            assert hmi.publish(f"{A.root}/verdict", b"{}") == NOT_AUTHORISED
            assert hmi.publish(f"{A.root}/cmd/trigger/hmi-3", ORDER) == 0
            until(lambda: carried_out == ["1"])
            order = {"request_id": "2", "issued_by": "hmi-3", "reply_to": f"{A.root}/resp/hmi-3"}
            assert hmi.publish(f"{A.root}/cmd/trigger/hmi-3", json.dumps(order).encode()) == 0
            (answer,) = hmi.wait_for(1)
        assert (answer.json()["request_id"], answer.json()["status"]) == ("2", "accepted")

    def test_a_command_that_the_broker_kept_is_not_carried_out(self, plant: Plant) -> None:
        with Guest(plant, "hmi-3") as hmi:
            hmi.publish(f"{A.root}/cmd/trigger/hmi-3", ORDER, retain=True)
            with hearing(plant.config(name_of(A))) as carried_out:
                later = ORDER.replace(b'"1"', b'"2"')
                hmi.publish(f"{A.root}/cmd/trigger/hmi-3", later)
                until(lambda: "2" in carried_out)
                assert carried_out == ["2"]


class TestWhoHearsWhat:
    def test_a_subscription_to_everything_brings_what_one_has_a_right_to(self, plant: Plant) -> None:
        with (
            Guest(plant, "dashboard") as dashboard,
            Guest(plant, "historian") as historian,
            Guest(plant, name_of(B)) as other,
            Guest(plant, "unknown") as unknown,
            Guest(plant, name_of(A)) as rig,
            Guest(plant, "hmi-3") as hmi,
        ):
            for guest in (dashboard, historian, other, unknown):
                guest.subscribe("#", "$SYS/#")
            rig.publish(f"{A.root}/heatmap", b"picture")
            rig.publish(f"{A.root}/resp/hmi-3", b"answer")
            hmi.publish(f"{A.root}/cmd/trigger/hmi-3", ORDER)
            for root in (A, B):
                with Guest(plant, name_of(root)) as last:
                    last.publish(f"{root.root}/verdict", b"last")
            ends = [f"{root.root}/verdict" for root in (A, B)]
            assert {m.topic for m in dashboard.wait_for(3)} == {*ends, f"{A.root}/heatmap"}
            assert {m.topic for m in historian.wait_for(2)} == set(ends)
            assert (other.heard, unknown.heard) == ([], [])


class TestTooMuch:
    def test_what_is_too_large_ends_its_senders_connection_and_no_others(self, plant: Plant) -> None:
        with publishing(plant.config(name_of(A))) as rig, Guest(plant, name_of(B)) as loud:
            loud.throw(f"{B.root}/heatmap", bytes(4_194_304))
            rig.publish_verdict(sample_verdict())
            assert rig.flush(30).waiting == 0
            assert rig.health().reconnects == 0

    def test_the_broker_takes_what_a_rig_sends_at_most(self, plant: Plant) -> None:
        config = plant.config(name_of(A))
        assert config.max_packet_bytes == BrokerConfig().max_packet_bytes
        large = Picture(
            PictureKind.HEATMAP,
            bytes(config.max_packet_bytes - 2048),
            "image/jpeg",
            64,
            48,
            0.0,
            2.0,
            "turbo",
        )
        with plant.listener("dashboard") as dashboard, publishing(config) as rig:
            rig.publish_picture(large, sample_verdict())
            dashboard.wait_for("/heatmap", at_least(1))


class TestARigThatWasStolen:
    def test_a_line_in_the_access_rules_shuts_it_out_at_once(self, plant: Plant) -> None:
        with publishing(plant.config(name_of(A))) as rig, plant.listener("dashboard") as dashboard:
            rig.publish_verdict(sample_verdict(0))
            assert rig.flush(30).waiting == 0
            with (plant.folder / "acl").open("a", encoding="utf-8") as acl:
                acl.write(f"\nuser {name_of(A)}\ntopic deny #\n")
            plant.reload()
            with Guest(plant, name_of(A)) as thief:
                until(lambda: thief.publish(f"{A.root}/verdict", b"{}") == NOT_AUTHORISED)
            count = len(dashboard.heard("/verdict"))
            rig.publish_verdict(sample_verdict(1))
            assert rig.flush(5).refused >= 1
            assert len(dashboard.heard("/verdict")) == count


def seqs(guest: Guest) -> set[int]:
    return {message.json()["seq"] for message in list(guest.heard)}


class TestWhatIsKept:
    def test_what_waits_for_a_consumer_outlives_a_power_cut(self, tmp_path: Path, keys: Keys) -> None:
        """What mosquitto acknowledged and had not saved yet, the rig sends again."""
        away = {"client_id": "historian-1", "session_s": 3600}
        saved = tmp_path / "data" / "mosquitto.db"
        with (
            Plant(tmp_path, keys, changes=[("autosave_interval 5", "autosave_interval 1")]) as plant,
            publishing(plant.config(name_of(A))) as rig,
        ):
            with Guest(plant, "historian", **away) as historian:
                historian.subscribe("+/+/+/+/+/inspection/verdict")
            known = time.time()
            until(lambda: saved.exists() and saved.stat().st_mtime > known)
            for seq in range(100):
                rig.publish_verdict(sample_verdict(seq))
            assert rig.flush(60).waiting == 0
            plant.kill()
            plant.start()
            with Guest(plant, "historian", **away) as historian:
                until(lambda: bool(rig.flush(0.05)) and len(seqs(historian)) == 100)
