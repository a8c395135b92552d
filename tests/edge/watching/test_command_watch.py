"""`edge-watch` as a person runs it: a real broker, real publishers, a real terminal."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge.broker import LocalBroker, find_mosquitto
from edge.commands.watch import NEEDS_A_LOOK
from edge.testing import sample_verdict
from tests.asker import Asker
from tests.edge.watching.rigs import ROOT, example
from tests.plant import Guest, Keys, Plant

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)

DOCS = Path(__file__).parents[3] / "docs"
PATIENCE_S = 60
COMMAND = [sys.executable, "-m", "edge.commands.watch"]


def edge_watch(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())


@pytest.fixture
def broker() -> Iterator[LocalBroker]:
    with LocalBroker("mosquitto") as running:
        yield running


def say_all(broker: LocalBroker, root: str = ROOT, **health: Any) -> None:
    asker = Asker(broker)
    for topic in ("availability", "state/machine", "state/recipe"):
        asker.ask(f"{root}/{topic}", example(topic), retain=True)
    asker.ask(f"{root}/health", example("health", creation_time=now(), **health), retain=True)
    asker.ask(f"{root}/state/last_verdict", sample_verdict().to_json(), retain=True)
    asker.close()


class TestOnce:
    def test_a_table_of_what_the_broker_keeps(self, broker: LocalBroker) -> None:
        say_all(broker)
        done = edge_watch("--port", broker.port, "--once", 2)
        assert done.returncode == 0, done.stderr + done.stdout
        line = next(line for line in done.stdout.splitlines() if "cell-2" in line)
        counts = json.loads(example("health"))["inspections"]
        passed = f"{counts['passed'] / sum(counts.values()):.1%}"
        for word in ("online", "ContinuousExecution", "plate", "pass 0.5 of 1", passed):
            assert word in line

    def test_one_document_for_a_program(self, broker: LocalBroker) -> None:
        say_all(broker)
        say_all(broker, "acme/leipzig/assembly/line-1/cell-1/inspection", clock_synced=False)
        Asker(broker).ask(f"{ROOT}/health", b"\x1b[2J", retain=False)
        done = edge_watch("--port", broker.port, "--once", 2, "--json", "--root", "acme/#")
        assert done.returncode == NEEDS_A_LOOK
        report = json.loads(done.stdout)
        jsonschema.validate(report, json.loads((DOCS / "schemas/watch.schema.json").read_text("utf-8")))
        assert [rig["warnings"] for rig in report["rigs"]] == [[], ["clock_not_synced"]]
        only = edge_watch("--port", broker.port, "--once", 2, "--json", "--root", "acme/dresden/#")
        assert only.returncode == 0
        assert [rig["root"] for rig in json.loads(only.stdout)["rigs"]] == [ROOT]

    def test_no_rig_is_no_good_news(self, broker: LocalBroker) -> None:
        assert edge_watch("--port", broker.port, "--once", 0.5).returncode == NEEDS_A_LOOK

    def test_without_a_broker(self) -> None:
        done = edge_watch("--port", 1, "--once", 0.5)
        assert done.returncode == 7
        assert "nothing was heard" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_wrong_command_line(self, tmp_path: Path) -> None:
        assert edge_watch("--root", "a/b/c/d/e/f", "--once", 1).returncode == 3
        assert edge_watch("--password-file", tmp_path / "none", "--once", 1).returncode == 3
        assert edge_watch("--ca-file", tmp_path / "none", "--once", 1).returncode == 3
        assert edge_watch().returncode == 2
        assert "Example" in edge_watch("--help").stdout

    def test_at_the_plants_broker(self, tmp_path: Path) -> None:
        keys = Keys(tmp_path / "keys")
        with Plant(tmp_path / "plant", keys) as plant:
            with Guest(plant, ROOT.removesuffix("/inspection")) as rig:
                rig.publish(f"{ROOT}/availability", example("availability"), retain=True)
            certificate, key = keys.of("dashboard")
            common = ("--port", plant.port, "--ca-file", keys.ca, "--once", 1, "--json")
            done = edge_watch(*common, "--cert-file", certificate, "--key-file", key)
            assert [rig["presence"] for rig in json.loads(done.stdout)["rigs"]] == ["online"]
            assert edge_watch(*common).returncode == 7
            done = edge_watch("--port", plant.port, "--tls", "--once", 1)
            assert (done.returncode, "certificate is not accepted" in done.stderr) == (7, True)


def test_a_line_for_each_change_over_a_restart_of_the_broker(broker: LocalBroker) -> None:
    say_all(broker)
    with subprocess.Popen([*COMMAND, "--port", str(broker.port), "--json"], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            while (row := json.loads(child.stdout.readline()))["last_verdict"] is None:
                pass
            assert (row["root"], row["presence"]) == (ROOT, "online")
            broker.kill()
            with LocalBroker("mosquitto", port=broker.port) as second:
                asker = Asker(second)
                asker.ask(f"{ROOT}/state/machine", example("state/machine", state="Error"), retain=True)
                while json.loads(child.stdout.readline())["machine_state"] != "Error":
                    pass
                asker.ask(f"{ROOT}/verdict", b"no JSON")
                while json.loads(child.stdout.readline())["malformed"] != 1:
                    pass
                asker.close()
        finally:
            child.send_signal(signal.SIGINT)
        assert child.wait(PATIENCE_S) == 130


class Terminal:
    """`edge-watch` in a pseudo terminal, and what it has drawn."""

    def __init__(self, *arguments: object) -> None:
        self._master, slave = os.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "COLUMNS": "200", "LINES": "40", "TERM": "xterm-256color"},
        )
        os.close(slave)
        self.drawn = ""

    def until(self, *words: str) -> None:
        """Read until the newest drawing shows these."""
        deadline = time.monotonic() + PATIENCE_S
        while not all(word in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.drawn) for word in words):
            assert time.monotonic() < deadline, self.drawn[-3000:]
            if select.select([self._master], [], [], 1.0)[0]:
                self.drawn += os.read(self._master, 65536).decode(errors="replace")
        self.drawn = ""

    def close(self) -> int:
        self.process.send_signal(signal.SIGINT)
        while True:  # or it could not write its last
            if select.select([self._master], [], [], 0.1)[0]:
                try:
                    os.read(self._master, 65536)
                except OSError:
                    break
            elif self.process.poll() is not None:
                break
        os.close(self._master)
        return self.process.wait(PATIENCE_S)


def test_a_live_table_over_a_restart_of_the_broker(broker: LocalBroker) -> None:
    say_all(broker)
    terminal = Terminal("--port", broker.port)
    try:
        terminal.until("cell-2", "online", "pass 0.5 of 1")
        broker.kill()
        terminal.until("no connection", "cell-2")
        with LocalBroker("mosquitto", port=broker.port) as second:
            asker = Asker(second)
            asker.ask(f"{ROOT}/availability", example("availability", state="offline"), retain=True)
            terminal.until("1 rig at", "offline")
            asker.ask(f"{ROOT}/state/machine", b'{"state": "\\u001b[2J"', retain=True)
            terminal.until("1 malformed")
            asker.close()
    finally:
        assert terminal.close() == 130
