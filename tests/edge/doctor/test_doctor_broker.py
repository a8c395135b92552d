"""The doctor before real brokers: there, gone, with another password, silent, and with certificates."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.broker import LocalBroker, find_mosquitto
from edge.camera.config import SimulatedCamera
from edge.clock import Session, utc_now
from edge.config import BrokerConfig, RigConfig
from edge.doctor.broker import broker
from edge.doctor.machine import Machine
from edge.doctor.report import Finding, Level
from edge.testing import Listener, sample_verdict
from edge.topics import RigIdentity
from tests.outboxed import Outboxed

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)

IDENTITY = RigIdentity(enterprise="acme", site="dresden", area="assembly", line="line-3", cell="cell-2")


def rig(port: int, **settings: Any) -> RigConfig:
    return RigConfig(
        rig=IDENTITY,
        camera=SimulatedCamera(product="plate"),
        bundle=Path("bundle"),
        broker=BrokerConfig.model_validate({"port": port, "connect_timeout_s": 5, **settings}),
    )


def found(config: RigConfig | None, machine: Machine | None = None) -> dict[str, Finding]:
    return {finding.check: finding for finding in broker(machine or Machine(), config)}


@pytest.fixture(scope="module")
def guarded() -> Iterator[LocalBroker]:
    with LocalBroker("mosquitto", username="cell-2", password="right") as running:
        yield running


def test_no_rig_no_broker() -> None:
    assert found(None)["config"].level is Level.NOTE


def test_a_broker_that_takes_the_rig() -> None:
    with LocalBroker("mosquitto") as running:
        findings = found(rig(running.port))
    assert {name: finding.level for name, finding in findings.items()} == {
        "name": Level.OK,
        "login": Level.OK,
    }
    assert findings["login"].details["protocol"] == "5"


def test_a_broker_that_is_gone() -> None:
    with LocalBroker("mosquitto") as running:
        config = rig(running.port)
    findings = found(config)
    assert findings["port"].level is Level.ERROR
    assert f":{config.broker.port}" in findings["port"].what
    assert "login" not in findings


def test_the_rigs_own_password(guarded: LocalBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("right\n", encoding="utf-8")
    right = found(rig(guarded.port, username="cell-2", password_file=tmp_path / "password"))
    assert right["login"].level is Level.OK
    assert right["tls"].level is Level.WARNING  # in clear text

    monkeypatch.setenv("MQTT_PASSWORD", "wrong")
    wrong = found(rig(guarded.port, username="cell-2", password_env="MQTT_PASSWORD"))["login"]
    assert wrong.level is Level.ERROR
    assert "refused the user 'cell-2'" in wrong.what
    assert wrong.remedy is not None
    assert "broker.username" in wrong.remedy
    assert "wrong" not in wrong.model_dump_json()

    missing = found(rig(guarded.port, username="cell-2", password_file=tmp_path / "none"))["login"]
    assert missing.level is Level.ERROR
    assert "none can't be read" in missing.what


def test_a_running_daemon_keeps_its_connection_and_nobody_hears_of_it() -> None:
    with LocalBroker("mosquitto") as running:
        config = rig(running.port)
        daemon = Outboxed(config.broker, IDENTITY, Session(epoch=7, boot_id="boot", software_version="0"))
        try:
            daemon.start()
            with Listener(running.host, running.port) as listener:
                listener.wait_for("availability", lambda heard: len(heard) >= 1)  # the daemon's own, retained
                before = listener.heard()
                assert found(config)["login"].level is Level.OK
                daemon.publish_verdict(sample_verdict())
                assert daemon.flush(20).waiting == 0
                listener.wait_for("/verdict", lambda heard: len(heard) >= 1)
                assert daemon.health().reconnects == 0
                after = [heard.topic for heard in listener.heard()[len(before) :]]
            assert all(topic.endswith("verdict") for topic in after)
        finally:
            daemon.close()


def test_something_else_at_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        findings = found(rig(silent.getsockname()[1], connect_timeout_s=0.3))
    assert findings["login"].level is Level.ERROR
    assert "no answer within 0.3 s" in findings["login"].what


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    for name in ("broker", "other"):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "90", "-subj"]
        command += [f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def secured(pki: Path) -> Iterator[LocalBroker]:
    with LocalBroker(
        "mosquitto", extra=[f"certfile {pki}/broker.pem", f"keyfile {pki}/broker.key"]
    ) as running:
        yield running


@pytest.mark.parametrize(("days", "level"), [(0, Level.OK), (70, Level.WARNING), (100, Level.ERROR)])
def test_certificates_that_end(secured: LocalBroker, pki: Path, days: int, level: Level) -> None:
    later = replace(Machine(), now=lambda: utc_now() + timedelta(days=days))
    findings = found(rig(secured.port, tls={"ca_file": pki / "broker.pem"}), later)
    assert findings["tls"].level is level
    assert findings["ca_file"].level is level
    assert findings["login"].level is Level.OK  # openssl goes by the real clock


def test_a_certificate_of_somebody_else(secured: LocalBroker, pki: Path) -> None:
    findings = found(rig(secured.port, tls={"ca_file": pki / "other.pem"}))
    assert findings["tls"].level is Level.ERROR
    assert findings["login"].level is Level.ERROR


def test_a_certificate_file_that_is_none(secured: LocalBroker, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate", encoding="utf-8")
    findings = found(rig(secured.port, tls={"ca_file": tmp_path / "ca.pem"}))
    assert findings["ca_file"].level is Level.ERROR
    assert findings["login"].level is Level.ERROR


def test_a_port_without_tls() -> None:
    with LocalBroker("mosquitto") as plain:
        findings = found(rig(plain.port, tls={}))
    assert findings["tls"].level is Level.ERROR
    assert "broker.port" in (findings["tls"].remedy or "")
