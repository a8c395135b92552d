"""`edge-calibrate apply` and `rollback` as a person calls them: a real broker, the real daemon."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.asking import rig_at
from edge.broker import LocalBroker, find_mosquitto
from edge.bundle import load_bundle
from edge.calibration import Calibration
from edge.calibration_file import calibration_text
from edge.commands.calibrate import app
from edge.errors import ConfigError
from tests.asker import Asker
from tests.rig_cell import TOPICS, Cell, at_work, write_rig
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)

RUN = CliRunner().invoke
RECIPE: dict[str, object] = {"bundle": "plate", "trigger": {"kind": "command", "timeout_s": 60}}


def inspected(cell: Cell) -> dict[str, object]:
    """The verdict of the next part."""
    accepted = cell.ask("trigger")
    found: dict[str, object] = cell.wait(
        "/verdict", lambda verdict: verdict["result_id"] == accepted["result_id"]
    )
    return found


def written(path: Path, calibration: Calibration) -> str:
    path.write_text(calibration_text(calibration), encoding="utf-8")
    return str(path)


def test_a_calibration_is_applied_to_a_rig_at_work_and_taken_back(tmp_path: Path) -> None:
    made = make_tiny_bundle(tmp_path / "plate", product="plate")
    before = load_bundle(made).calibration
    assert before is not None
    found = before.model_copy(update={"calibration_id": "of-today", "threshold": 700.0})
    file = written(tmp_path / "of-today.yaml", found)
    with LocalBroker("mosquitto") as broker:
        path = write_rig(tmp_path, broker.port, recipes={"plate": RECIPE}, recipe="plate")
        rig = ["--port", str(broker.port), "--rig", "acme/d/a/l/c"]
        with at_work(broker, path) as cell:
            overtaken = RUN(app, ["apply", file, *rig, "--expected-version", "7"])
            assert overtaken.exit_code == 19, overtaken.output
            assert "version_mismatch" in overtaken.stderr
            other_recipe = RUN(app, ["apply", file, *rig, "--recipe", "gland"])
            assert (other_recipe.exit_code, "recipe_overtaken" in other_recipe.stderr) == (19, True)
            foreign = written(tmp_path / "foreign.yaml", found.model_copy(update={"model_sha256": "0" * 64}))
            refused = RUN(app, ["apply", foreign, *rig])
            assert (refused.exit_code, "calibrate this one" in refused.stderr) == (11, True)
            assert inspected(cell)["calibration_version"] == 1

            done = RUN(app, ["apply", file, *rig, "--client", "hmi-3", "--json"])
            assert done.exit_code == 0, done.output
            said = json.loads(done.stdout)
            assert (said["calibration_id"], said["threshold"]) == ("of-today", 700.0)
            assert (said["calibration_version"], said["version_before"]) == (2, 1)
            assert (said["rig"], said["recipe"]) == ("acme/d/a/l/c", "plate")
            verdict = inspected(cell)
            assert (verdict["calibration_id"], verdict["calibration_version"]) == ("of-today", 2)

            unknown = RUN(app, ["rollback", "--to-version", "9", *rig])
            assert (unknown.exit_code, "version_unknown" in unknown.stderr) == (19, True)
            back = RUN(app, ["rollback", "--to-version", "1", *rig])
            assert back.exit_code == 0, back.output
            assert "calibration tiny, version 3 (before: 2), threshold 0.5" in back.stdout
            assert inspected(cell)["calibration_id"] == "tiny"

        offline = RUN(app, ["apply", file, *rig, "--timeout", "5"])
        assert (offline.exit_code, "offline (stopped)" in offline.stderr) == (18, True)
        nobody = RUN(app, ["apply", file, *rig[:2], "--rig", "acme/d/a/l/x", "--timeout", "0.5"])
        assert (nobody.exit_code, "no rig has said" in nobody.stderr) == (18, True)

        asker = Asker(broker)  # a rig that says it is there, and hears nothing
        online = {"state": "online", "reason": "started"}
        asker.ask(TOPICS.availability, online, retain=True)
        silent = RUN(app, ["apply", file, *rig, "--timeout", "0.5"])
        assert (silent.exit_code, "has not answered cmd/calibration" in silent.stderr) == (18, True)
        asker.ask(TOPICS.recipe_state, b'{"running": 5}', retain=True)
        garbled = RUN(app, ["apply", file, *rig, "--timeout", "0.5"])
        assert (garbled.exit_code, "state/recipe: running:" in garbled.stderr) == (18, True)
        asker.close()
    gone = RUN(app, ["apply", file, *rig])
    assert gone.exit_code == 7, gone.output


def test_a_name_that_the_broker_proves_is_needed_where_the_rig_lists_who_may(tmp_path: Path) -> None:
    made = make_tiny_bundle(tmp_path / "plate", product="plate")
    file = str(made)
    with LocalBroker("mosquitto") as broker:
        allow = {"allow": {"calibration": ["hmi-3"]}}
        path = write_rig(tmp_path, broker.port, recipes={"plate": RECIPE}, recipe="plate", commands=allow)
        rig = ["--port", str(broker.port), "--rig", "acme/d/a/l/c"]
        with at_work(broker, path):
            # Who is not named has no topic of its own, and who has one must be listed.
            for client in (["--client", "somebody"], []):
                refused = RUN(app, ["apply", file, *rig, *client, "--timeout", "20"])
                assert (refused.exit_code, "not_allowed" in refused.stderr) == (19, True), refused.output
            done = RUN(app, ["apply", file, *rig, "--username", "hmi-3", "--json"])
            assert done.exit_code == 0, done.output
            assert json.loads(done.stdout)["calibration_version"] == 2


@pytest.mark.parametrize("place", ["acme/d/a/l", "acme/d/a/l/c/x", "acme/+/a/l/c", "#", ""])
def test_a_rig_is_one_place(place: str) -> None:
    with pytest.raises(ConfigError, match="five levels"):
        rig_at(place)
    assert rig_at("acme/d/a/l/c/inspection/").root == TOPICS.root
