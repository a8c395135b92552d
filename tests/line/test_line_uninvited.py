"""A daemon at the plant's broker while others knock: its verdicts arrive, once each, and nobody else's."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.line.commands import gone, needs_mosquitto, refused, rig_yaml, run
from tests.plant import HOST, Guest, Keys, Plant
from tests.tiny_bundle import make_tiny_bundle

pytestmark = [needs_mosquitto, pytest.mark.slow]

NAME = "acme/dresden/assembly/line-3/cell-2"
ROOT = f"{NAME}/inspection"
PARTS = 6
CAMERA = {"source": "simulated", "product": "plate", "seed": 5, "parts": PARTS}


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with Plant(tmp_path / "plant", Keys(tmp_path / "keys")) as running:
        yield running


def rig_at(plant: Plant, folder: Path, certificate: str) -> Path:
    cert, key = plant.keys.of(certificate)
    tls = json.dumps({"ca_file": str(plant.keys.ca), "cert_file": str(cert), "key_file": str(key)})
    bundle = make_tiny_bundle(folder / "bundle", threshold=1e6)
    return rig_yaml(folder, bundle, CAMERA, plant.port, f", tls: {tls}")


class Knocker(threading.Thread):
    """Comes without TLS, with garbage, with TLS and no certificate, and forges, again and again."""

    def __init__(self, plant: Plant) -> None:
        super().__init__(name="knocker")
        self._plant = plant
        self._ended = threading.Event()
        self.refusals: list[int] = []
        plant.keys.of(f"{NAME}0")  # before the clock of the test runs

    def run(self) -> None:
        with Guest(self._plant, f"{NAME}0") as forger:
            while not self._ended.wait(0.05):
                for noise in (b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", b"\xff" * 4096):
                    with suppress(OSError), socket.create_connection((HOST, self._plant.port), 5) as sock:
                        sock.sendall(noise)
                with suppress(OSError), socket.create_connection((HOST, self._plant.port), 5) as sock:
                    self._plant.context(None).wrap_socket(sock, server_hostname=HOST).close()
                self.refusals.append(forger.publish(f"{ROOT}/verdict", b'{"outcome": "pass"}'))

    def end(self) -> None:
        self._ended.set()
        self.join()


def test_a_daemon_goes_on_while_others_knock(plant: Plant, tmp_path: Path) -> None:
    rig = rig_at(plant, tmp_path, NAME)
    knocker = Knocker(plant)
    with plant.listener("dashboard") as dashboard:
        knocker.start()
        try:
            done = run("edge-daemon", rig, "--json")
        finally:
            knocker.end()
        assert done.returncode == 0, done.stderr
        dashboard.wait_for("/availability", gone)
        verdicts = [heard.json() for heard in dashboard.heard("/verdict")]
    assert set(knocker.refusals) == {135}
    assert [verdict["seq"] for verdict in verdicts] == list(range(PARTS))
    assert len({verdict["result_id"] for verdict in verdicts}) == PARTS


def test_a_daemon_with_anothers_certificate_says_so_and_keeps_its_verdicts(
    plant: Plant, tmp_path: Path
) -> None:
    rig = rig_at(plant, tmp_path, f"{NAME}0")
    rig.write_text(re.sub(r"flush_timeout_s: \d+", "flush_timeout_s: 2", rig.read_text(encoding="utf-8")))
    with plant.listener("dashboard") as dashboard:
        refused(run("edge-daemon", rig), 7, "access rules", f"of {PARTS} verdicts")
        assert dashboard.heard() == []
        cert, key = plant.keys.of(NAME)
        mended = rig.read_text(encoding="utf-8").replace("cell-20.", "cell-2.")
        assert str(cert) in mended
        assert str(key) in mended
        rig.write_text(mended, encoding="utf-8")
        done = run("edge-daemon", rig, "--json")
        assert done.returncode == 0, done.stderr
        verdicts = dashboard.wait_for("/verdict", lambda heard: len(heard) >= 2 * PARTS)
    assert len({heard.json()["result_id"] for heard in verdicts}) == 2 * PARTS
