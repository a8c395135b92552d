"""The calibration of a rig at work is changed by command: the real daemon, a real broker, real kills."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import edge.recipe_loading
from edge.broker import LocalBroker, find_mosquitto
from edge.bundle import load_bundle
from edge.calibration import MAX_CAPTURES, Calibration
from edge.calibration_file import calibration_text
from edge.calibration_store import CalibrationStore
from edge.config import load_rig_config
from edge.rig import check_rig
from edge.testing import Listener
from tests.asker import Asker
from tests.rig_cell import Cell, at_work, write_rig
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)

RECIPE: dict[str, object] = {"bundle": "plate", "trigger": {"kind": "command", "timeout_s": 60}}


def rig_of(folder: Path, broker: LocalBroker, **recipe: object) -> Path:
    return write_rig(folder, broker.port, recipes={"plate": RECIPE | recipe}, recipe="plate")


def inspected(cell: Cell) -> Any:
    """The verdict of the next part."""
    accepted = cell.ask("trigger")
    assert accepted["status"] == "accepted"
    return cell.wait("/verdict", lambda verdict: verdict["result_id"] == accepted["result_id"])


def said_of(answer: Any) -> tuple[str, str | None, int | None]:
    return answer["status"], answer["reason"], answer["calibration_version"]


def found_on_the_workstation(bundle: Path) -> Calibration:
    """The largest that there is: what a message must have room for."""
    before = load_bundle(bundle).calibration
    assert before is not None
    return Calibration.model_validate(
        before.model_dump()
        | {
            "calibration_id": "20300101T000000Z-conformal",
            "threshold": 700.0,
            "method": "conformal",
            "confidence": 0.95,
            "provisional": False,
            "good_parts": 1000,
            "good_scores": tuple(500 + number / 7 for number in range(1000)),
            "captures": tuple(f"{number:064x}" for number in range(MAX_CAPTURES)),
        }
    )


def test_the_threshold_is_set_replaced_and_rolled_back_while_the_engine_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_tiny_bundle(tmp_path / "plate", product="plate", golden=1)
    model = load_bundle(made).model_sha256
    loads: list[object] = []
    load = edge.recipe_loading.runner_for
    monkeypatch.setattr(
        edge.recipe_loading, "runner_for", lambda *args, **more: loads.append(args) or load(*args, **more)
    )
    with LocalBroker("mosquitto") as broker:
        path = rig_of(tmp_path, broker)
        with at_work(broker, path) as cell:
            first = inspected(cell)
            assert (first["calibration_version"], first["calibration_id"]) == (1, "tiny")
            assert first["review_threshold"] is None

            wish = {"threshold": 900.0, "review_threshold": 800.0, "note": "after the new lamp"}
            assert said_of(cell.ask("threshold", **wish, expected_version=1)) == ("done", None, 2)
            second = inspected(cell)
            assert (second["threshold"], second["review_threshold"]) == (900.0, 800.0)
            assert (second["calibration_version"], second["threshold_provisional"]) == (2, True)
            state = cell.wait("state/recipe", lambda said: said["running"]["calibration_version"] == 2)
            assert (state["running"]["threshold"], state["running"]["review_threshold"]) == (900.0, 800.0)
            stored = CalibrationStore(tmp_path / "state").in_force(model)
            assert stored is not None
            kept = stored.calibration
            assert (kept.method, kept.created_by, kept.note) == ("manual", "hmi", "after the new lamp")
            assert kept.replaces == "tiny"

            assert said_of(cell.ask("threshold", threshold=5.0, expected_version=1)) == (
                "refused",
                "version_mismatch",
                2,
            )
            for fields, reason in (
                ({"threshold": float("nan")}, "malformed"),
                ({"threshold": float("-inf")}, "malformed"),
                ({"threshold": "5"}, "malformed"),
                ({"threshold": 5.0, "review_threshold": 5.0}, "calibration_error"),
                ({"threshold": 5.0, "recipe": "gland"}, "recipe_overtaken"),
            ):
                assert cell.ask("threshold", **fields, expected_version=2)["reason"] == reason

            found = found_on_the_workstation(made)
            text = calibration_text(found)
            assert len(text) > 80 * 1024
            foreign = calibration_text(found.model_copy(update={"model_sha256": "0" * 64}))
            for sent, reason in (
                (foreign, "calibration_foreign"),
                (text.replace("threshold: 700.0", "threshold: 7.0"), "file_changed"),
                ("threshold: 5", "file_changed"),
            ):
                answer = cell.ask("calibration", calibration=sent, expected_version=2)
                assert said_of(answer) == ("refused", reason, 2)
            cell.say("calibration", calibration="x" * 170_000, expected_version=2)
            cell.wait("resp/unaddressed", lambda answer: answer["reason"] == "too_large")
            assert said_of(cell.ask("calibration", calibration=text, expected_version=2)) == ("done", None, 3)
            third = inspected(cell)
            assert (third["threshold"], third["threshold_provisional"]) == (700.0, False)
            assert (third["calibration_id"], third["review_threshold"]) == (found.calibration_id, None)

            unknown = cell.ask("rollback", to_version=9, expected_version=3)
            assert said_of(unknown) == ("refused", "version_unknown", 3)
            assert said_of(cell.ask("rollback", to_version=1, expected_version=3)) == ("done", None, 4)
            fourth = inspected(cell)
            assert (fourth["threshold"], fourth["calibration_version"]) == (first["threshold"], 4)
            assert fourth["calibration_id"] == "tiny"

            rig_of(tmp_path, broker, threshold=3.0)
            assert cell.ask("reload")["status"] == "done"
            assert inspected(cell)["threshold"] == 3.0
            fixed = cell.ask("threshold", threshold=5.0, expected_version=4)
            assert said_of(fixed) == ("refused", "calibration_fixed", 4)
            assert "take `threshold` out of it" in fixed["detail"]
            rig_of(tmp_path, broker)
            assert cell.ask("reload")["status"] == "done"
            assert inspected(cell)["threshold"] == first["threshold"]
            assert said_of(cell.ask("threshold", threshold=5.0, expected_version=4)) == ("done", None, 5)
            assert cell.ask("recipe", recipe="plate")["reason"] == "already_running"
        assert len(loads) == 1
        with at_work(broker, path) as cell:
            running = cell.wait("state/recipe", lambda state: True)["running"]
            assert (running["calibration_version"], running["threshold"]) == (5, 5.0)
            assert inspected(cell)["threshold"] == 5.0
        assert CalibrationStore(tmp_path / "state").versions(model) == (1, 2, 3, 4, 5)

        file = tmp_path / "state" / "calibrations" / model / "000005.yaml"
        file.write_text(file.read_text().replace("threshold: 5.0", "threshold: 50.0"))
        [mistake] = check_rig(load_rig_config(path))
        assert "move it out of its folder: version 4 is in force then" in mistake
        ended = subprocess.run(
            [sys.executable, "-m", "edge.commands.daemon", path], capture_output=True, check=False
        )
        assert ended.returncode == 11
        assert b"000005.yaml" in ended.stderr


@contextmanager
def killed(broker: LocalBroker, path: Path) -> Iterator[tuple[Cell, subprocess.Popen[bytes]]]:
    """A rig in a process of its own, which ends by SIGKILL."""
    log = path.with_name("daemon.log").open("ab")
    with log, Listener(broker.host, broker.port) as listener:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "edge.commands.daemon", path], stderr=log, stdout=log
        )
        asker = Asker(broker)
        try:
            cell = Cell(listener, asker)
            yield cell, daemon
        finally:
            asker.close()
            daemon.kill()
            daemon.wait(60)


def newer_than(epoch: int) -> Callable[[Any], bool]:
    return lambda said: bool(said["epoch"] > epoch)


def test_a_kill_while_it_is_changed_leaves_the_old_one_or_the_new_one_and_what_was_answered_stays(
    tmp_path: Path,
) -> None:
    made = make_tiny_bundle(tmp_path / "plate", product="plate")
    model = load_bundle(made).model_sha256
    store, chosen = CalibrationStore(tmp_path / "state"), random.Random(3)
    in_force, epoch = 1, 0
    with LocalBroker("mosquitto") as broker:
        path = rig_of(tmp_path, broker)
        for _ in range(2):
            with killed(broker, path) as (cell, daemon):
                state = cell.wait("state/recipe", newer_than(epoch))
                epoch = state["epoch"]  # that of the one before is retained
                assert state["running"]["calibration_version"] == in_force
                assert inspected(cell)["calibration_version"] == in_force
                answer = cell.ask("threshold", threshold=float(in_force + 1), expected_version=in_force)
                assert said_of(answer) == ("done", None, in_force + 1)
                cell.say("threshold", threshold=float(in_force + 2), expected_version=in_force + 1)
                time.sleep(chosen.uniform(0, 0.05))
                daemon.kill()
            stored = store.in_force(model)
            assert stored is not None
            version = stored.calibration.version
            assert version - in_force in (1, 2)
            assert stored.calibration.threshold == float(version)
            in_force = version
