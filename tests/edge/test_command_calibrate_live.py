"""`edge-calibrate live` as a person calls it: a real broker, the real daemon, a real terminal."""

from __future__ import annotations

import csv
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.broker import LocalBroker, find_mosquitto
from edge.bundle import load_bundle
from edge.calibration_file import calibration_text, read_calibration
from edge.commands.calibrate import app
from edge.region_rules import RegionRules
from tests.asker import Asker
from tests.rig_cell import TOPICS, Cell, at_work, write_rig
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)

RUN = CliRunner().invoke
COMMAND = [sys.executable, "-m", "edge.commands.calibrate", "live"]
PATIENCE_S = 120.0
PROMISE = ["--alpha", "0.4", "--delta", "0.3"]  # of three good parts
TRIGGER = {"kind": "command", "timeout_s": 60}


def inspected(cell: Cell) -> dict[str, object]:
    """The verdict of the next part."""
    accepted = cell.ask("trigger")
    found: dict[str, object] = cell.wait(
        "/verdict", lambda verdict: verdict["result_id"] == accepted["result_id"]
    )
    return found


def rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def until(process: subprocess.Popen[str], path: Path, count: int) -> None:
    """Wait until so many parts are kept."""
    end_s = time.monotonic() + PATIENCE_S
    while not path.exists() or len(rows(path)) < count:
        assert time.monotonic() < end_s
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@contextmanager
def collecting(folder: Path, port: int, *more: str) -> Iterator[subprocess.Popen[str]]:
    """`live --auto` without a terminal, once it listens."""
    arguments = ["--auto", "--rig", "acme/d/a/l/c", "--port", str(port), *PROMISE, "--json", *more]
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        assert "parts to collect" in process.stderr.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


class Terminal:
    """A terminal with `edge-calibrate live` in it."""

    def __init__(self, folder: Path, port: int, *more: str) -> None:
        self._master, slave = os.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, "--rig", "acme/d/a/l/c", "--port", str(port), *PROMISE, "--out", "out", *more],
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
        )
        os.close(slave)
        self._unread = ""
        self._end_s = time.monotonic() + PATIENCE_S

    def until(self, text: str) -> str:
        """What is shown until `text`."""
        while text not in self._plain() and self._read():
            pass
        shown, found, self._unread = self._plain().partition(text)
        assert found, f"{text!r} was never shown, but:\n{shown[-3000:]}"
        return shown

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def answer(self, cell: Cell, keys: str) -> None:
        """Lay a part down, and answer what is asked of it."""
        inspected(cell)
        self.until("q quit?")
        self.press(keys)

    def end(self) -> tuple[int, str]:
        while self._read():
            pass
        return self.process.wait(PATIENCE_S), self._plain()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _plain(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._unread)

    def _read(self) -> bool:
        assert time.monotonic() < self._end_s, self._unread[-3000:]
        if not select.select([self._master], [], [], 1.0)[0]:
            return True
        try:
            self._unread += os.read(self._master, 65536).decode("utf-8", "replace")
        except OSError:  # EIO: the other side is closed
            return False
        return True


@contextmanager
def terminal(folder: Path, port: int, *more: str) -> Iterator[Terminal]:
    shown = Terminal(folder, port, *more)
    try:
        yield shown
    finally:
        shown.close()


def test_parts_of_a_rig_at_work_become_its_calibration(tmp_path: Path) -> None:
    made = make_tiny_bundle(tmp_path / "plate", product="plate")
    model = load_bundle(made).model_sha256
    make_tiny_bundle(tmp_path / "nut", product="nut", colour=(0.5, 0.5, 0.5))
    recipes = {name: {"bundle": name, "trigger": TRIGGER} for name in ("plate", "nut")}
    kept = tmp_path / "out-live.csv"
    with LocalBroker("mosquitto") as broker:
        path = write_rig(tmp_path, broker.port, recipes=recipes, recipe="plate")
        rig = ["--rig", "acme/d/a/l/c", "--port", str(broker.port), *PROMISE, "--auto"]
        out = [*rig, "--out", str(tmp_path / "out")]
        with at_work(broker, path) as cell:
            before = inspected(cell)  # nobody confirmed this one
            with collecting(tmp_path, broker.port, "--out", "out") as process:
                found = [inspected(cell), inspected(cell)]
                until(process, kept, 2)
                assert cell.ask("recipe", recipe="nut")["status"] == "done"
                inspected(cell)
                _, said = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 11, said
            assert "scores of two models can't be compared" in said
            assert "2 good parts are kept in out-live.csv" in said
            assert "so far at most" in said
            assert [row["result_id"] for row in rows(kept)] == [verdict["result_id"] for verdict in found]
            assert before["result_id"] not in kept.read_text(encoding="utf-8")
            assert not (tmp_path / "out").exists()

            other = RUN(app, ["live", *out])
            assert (other.exit_code, "another model" in other.stderr) == (11, True), other.output
            assert cell.ask("recipe", recipe="plate")["status"] == "done"
            whole = kept.read_text(encoding="utf-8")
            for damage, complaint in {
                "0.5,good": "last line is cut off",
                "0.5,good\n": "line 4: has 2 values",
                whole.splitlines()[1].replace(rows(kept)[0]["score"], "x", 1)
                + "\n": "line 4: score 'x' is not a number",
            }.items():
                kept.write_text(whole + damage, encoding="utf-8")
                damaged = RUN(app, ["live", *out])
                assert (damaged.exit_code, complaint in damaged.stderr) == (11, True), damaged.output
            kept.write_text("score\n0.5\n", encoding="utf-8")
            foreign = RUN(app, ["live", *out])
            assert (foreign.exit_code, "no file of edge-calibrate live" in foreign.stderr) == (11, True)
            kept.write_text(whole, encoding="utf-8")

            with collecting(tmp_path, broker.port, "--out", "out", "--count", "3", "--apply") as process:
                found.append(inspected(cell))
                stdout, said = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, said
            report = json.loads(stdout)
            assert report["in_force"]["calibration_version"] == 2
            scores = [float(str(verdict["score"])) for verdict in found]
            assert [float(row["score"]) for row in rows(kept)] == scores
            calibration = read_calibration(tmp_path / "out", model)
            assert calibration is not None
            assert (calibration.threshold, calibration.good_parts) == (max(scores), 3)
            assert (calibration.provisional, calibration.replaces) == (False, "tiny")
            verdict = inspected(cell)
            assert verdict["calibration_id"] == calibration.calibration_id
            assert (verdict["calibration_version"], verdict["threshold"]) == (2, calibration.threshold)
            again = RUN(app, ["fit", "--scores", str(kept), *PROMISE, "--out", str(tmp_path / "again")])
            assert again.exit_code == 0, again.output

            # Region rules are part of the scores: parts scored by others are not added to these.
            rules = RegionRules(min_area_mm2=1.0)
            bundled = load_bundle(made).calibration
            assert bundled is not None
            ruled = bundled.model_copy(update={"calibration_id": "ruled", "region_rules": rules})
            (tmp_path / "ruled.yaml").write_text(calibration_text(ruled), encoding="utf-8")
            with collecting(tmp_path, broker.port, "--out", "b", "--count", "5") as process:
                inspected(cell)
                until(process, tmp_path / "b-live.csv", 1)
                applied = RUN(app, ["apply", str(tmp_path / "ruled.yaml"), *rig[:4]])
                assert applied.exit_code == 0, applied.output
                inspected(cell)
                _, said = process.communicate(timeout=PATIENCE_S)
            assert (process.returncode, "other region rules" in said) == (11, True), said
            with collecting(tmp_path, broker.port, "--out", "c", "--scores-out", "d/e.csv") as process:
                for _ in range(3):
                    inspected(cell)
                _, said = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, said
            ruled_now = read_calibration(tmp_path / "c", model)
            assert ruled_now is not None
            assert (ruled_now.region_rules, ruled_now.replaces) == (rules, "ruled")
            assert len(rows(tmp_path / "d" / "e.csv")) == 3

        offline = RUN(app, ["live", *rig, "--out", str(tmp_path / "f"), "--timeout", "2"])
        assert (offline.exit_code, "offline (stopped)" in offline.stderr) == (18, True)
        asker = Asker(broker)  # a rig of before, which does not say its rules
        asker.ask(TOPICS.availability, {"state": "online", "reason": "started"}, retain=True)
        running = {"name": "plate", "model_sha256": "0" * 64, "calibration_id": None, "threshold": None}
        asker.ask(TOPICS.recipe_state, {"running": running}, retain=True)
        old = RUN(app, ["live", *rig, "--out", str(tmp_path / "f")])
        assert (old.exit_code, "bring it to this version" in old.stderr) == (11, True), old.output
        zone = {"name": "a", "corners": [[0, 0], [1, 0], [1, 1]], "threshold": 2.0}
        asker.ask(
            TOPICS.recipe_state, {"running": running | {"region_rules": {"zones": [zone]}}}, retain=True
        )
        scaled = RUN(app, ["live", *rig, "--out", str(tmp_path / "f")])
        assert (scaled.exit_code, "zone with a threshold" in scaled.stderr) == (11, True), scaled.output
        asker.close()


def test_a_person_says_of_each_part_what_it_is(tmp_path: Path) -> None:
    model = load_bundle(make_tiny_bundle(tmp_path / "plate", product="plate")).model_sha256
    kept = tmp_path / "out-live.csv"
    with LocalBroker("mosquitto") as broker:
        recipes = {"plate": {"bundle": "plate", "trigger": TRIGGER}}
        path = write_rig(tmp_path, broker.port, recipes=recipes, recipe="plate")
        with at_work(broker, path) as cell:
            with terminal(tmp_path, broker.port) as shown:
                shown.until("parts to collect")
                shown.press("g")  # before any part is there: of nothing
                shown.answer(cell, "xG")
                shown.until(": good; so far at most")
                shown.answer(cell, "b")
                shown.until(": bad")
                shown.answer(cell, "s")
                shown.until(": skip")
                assert [row["label"] for row in rows(kept)] == ["good", "bad"]
                shown.answer(cell, "q")
                code, rest = shown.end()
            assert code == 11, rest
            assert "1 good parts are kept in out-live.csv" in rest
            assert "1 good parts can't promise" in rest
            with terminal(tmp_path, broker.port, "--best-effort") as shown:
                shown.until("2 good parts to collect; 1 good parts are kept in out-live.csv, and count")
                shown.answer(cell, "g")
                shown.until(": good; so far at most")
                shown.press("q")
                code, rest = shown.end()
            assert code == 0, rest
            assert "Page, scores and calibration: out" in rest
        calibration = read_calibration(tmp_path / "out", model)
        assert calibration is not None
        assert (calibration.good_parts, calibration.bad_parts) == (2, 1)
        written = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert written == ["calibration.html", "calibration.yaml", "scores.csv"]


def test_what_can_not_end_well_is_refused_before_it_begins(tmp_path: Path) -> None:
    rig = ["live", "--rig", "acme/d/a/l/c", "--out", str(tmp_path / "out")]
    nobody = RUN(app, rig)
    assert nobody.exit_code == 2
    assert "--auto" in nobody.stderr
    few = RUN(app, [*rig, "--auto", "--count", "40"])
    assert (few.exit_code, "40 good parts can't promise" in few.stderr) == (11, True), few.output
    assert "that takes 299" in few.stderr
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    full = RUN(app, [*rig, "--auto"])
    assert (full.exit_code, "holds something already" in full.stderr) == (3, True)
