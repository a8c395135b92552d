"""TLS against a real broker that shows a certificate and asks for ours; openssl makes them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.broker import LocalBroker, find_mosquitto
from edge.clock import Session
from edge.config import BrokerConfig
from edge.errors import BrokerRefused, ConfigError
from edge.mqtt import MqttPublisher
from edge.testing import CuttableProxy, sample_verdict
from edge.topics import RigIdentity
from tests.outboxed import Outboxed

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)

RIG = RigIdentity(enterprise="acme", site="dresden", area="assembly", line="line-3", cell="cell-2")
SESSION = Session(epoch=7, boot_id="boot", software_version="0")


@contextmanager
def publishing(config: BrokerConfig) -> Iterator[Outboxed]:
    publisher = Outboxed(config, RIG, SESSION)
    try:
        publisher.start()
        yield publisher
    finally:
        publisher.close()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for ca in ("ca", "rogue"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={ca}",
                "-keyout", f"{ca}.key", "-out", f"{ca}.pem",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name, ca in (("broker", "ca"), ("rig", "ca"), ("stranger", "rogue")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key",
                "-CAcreateserial", "-days", "2", "-extfile", "san", "-out", f"{name}.pem")  # fmt: skip
    return folder


@pytest.fixture
def guarded(pki: Path) -> Iterator[LocalBroker]:
    lines = ["cafile ca.pem", "certfile broker.pem", "keyfile broker.key"]
    extra = [line.replace(" ", f" {pki}/") for line in lines] + ["require_certificate true"]
    with LocalBroker("mosquitto", extra=extra) as running:
        yield running


def config_of(guarded: LocalBroker, pki: Path, **files: str) -> BrokerConfig:
    tls = {key: pki / name for key, name in files.items()}
    return BrokerConfig.model_validate({"port": guarded.port, "tls": tls})


def test_both_sides_know_each_other(guarded: LocalBroker, pki: Path) -> None:
    config = config_of(guarded, pki, ca_file="ca.pem", cert_file="rig.pem", key_file="rig.key")
    with publishing(config) as publisher:
        publisher.publish_verdict(sample_verdict())
        assert publisher.flush(30).waiting == 0


def test_a_broker_of_another_authority_is_refused(guarded: LocalBroker, pki: Path) -> None:
    config = config_of(guarded, pki, ca_file="rogue.pem", cert_file="rig.pem", key_file="rig.key")
    with pytest.raises(BrokerRefused, match="certificate is not accepted"), publishing(config):
        pass


def test_a_broker_under_another_name_is_refused(guarded: LocalBroker, pki: Path) -> None:
    config = config_of(guarded, pki, ca_file="ca.pem", cert_file="rig.pem", key_file="rig.key")
    elsewhere = config.model_copy(update={"host": "127.0.0.2"})
    with CuttableProxy(guarded.port, host="127.0.0.2") as proxy:
        moved = elsewhere.model_copy(update={"port": proxy.port})
        with pytest.raises(BrokerRefused, match="certificate is not accepted"), publishing(moved):
            pass


@pytest.mark.parametrize("own", [{}, {"cert_file": "stranger.pem", "key_file": "stranger.key"}])
def test_a_stranger_does_not_get_in(guarded: LocalBroker, pki: Path, own: dict[str, str]) -> None:
    with publishing(config_of(guarded, pki, ca_file="ca.pem", **own)) as publisher:
        publisher.publish_verdict(sample_verdict())
        assert publisher.flush(1).waiting == 1
        assert publisher.health().protocol is None
        assert publisher.health().last_error is not None


def test_a_key_of_another_certificate_is_told(guarded: LocalBroker, pki: Path) -> None:
    config = config_of(guarded, pki, ca_file="ca.pem", cert_file="rig.pem", key_file="stranger.key")
    with pytest.raises(ConfigError, match=r"broker\.tls"):
        MqttPublisher(config, RIG, SESSION)
