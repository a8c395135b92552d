"""A whole rig that is told over MQTT what to do: the real daemon, a real broker, bundles on disk."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from edge.broker import LocalBroker, find_mosquitto
from edge.captures import list_captures
from edge.config import load_rig_config
from edge.outbox_ledger import Ledger
from edge.rig import check_rig
from tests.rig_cell import TIMEOUT_S, at_work, write_rig
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)


def test_it_goes_over_refuses_and_remembers(tmp_path: Path) -> None:
    make_tiny_bundle(tmp_path / "plate", product="plate", golden=1)
    make_tiny_bundle(tmp_path / "gland", product="gland", golden=1, colour=(0.2, 0.1, 0.0))
    make_tiny_bundle(tmp_path / "nut", product="nut", threshold=None)
    with LocalBroker("mosquitto") as broker:
        path = write_rig(tmp_path, broker.port)
        assert check_rig(load_rig_config(path)) == []
        with at_work(broker, path) as cell:
            cell.wait("/verdict", lambda verdict: verdict["recipe_id"] == "plate")
            assert cell.ask("trigger")["reason"] == "not_by_command"
            assert cell.ask("recipe", recipe="nut")["reason"] == "recipe_unfit"
            refused = cell.wait("state/recipe", lambda state: state["refused"] is not None)
            assert (refused["running"]["name"], refused["refused"]["name"]) == ("plate", "nut")

            kept = cell.ask("capture", label="scratch", note="left edge")
            assert kept["status"] == "done"
            lot = Path(kept["file"]).parents[1]
            assert lot.parents[1] == tmp_path / "state" / "captures"
            assert [sample.part_id for sample in list_captures(lot)] == ["scratch/000"]

            done = cell.ask("recipe", recipe="gland")
            assert (done["status"], done["recipe"]) == ("done", "gland")
            accepted = cell.ask("trigger", part_serial="A-7")
            assert accepted["status"] == "accepted"
            verdict = cell.wait("/verdict", lambda v: v["result_id"] == accepted["result_id"])
            assert (verdict["recipe_id"], verdict["part_id"]) == ("gland", "A-7")
            assert verdict["request_id"] == accepted["request_id"]

            shutil.rmtree(tmp_path / "nut")
            assert cell.ask("reload")["reason"] == "bundle_corrupt"
            write_rig(
                tmp_path,
                broker.port,
                recipes={"gland": {"bundle": "gland", "trigger": {"kind": "command"}, "threshold": 9.0}},
                recipe="gland",
                health={"interval_s": 7},
            )
            reloaded = cell.ask("reload")
            assert (reloaded["status"], reloaded["needs_restart"]) == ("done", ["health.interval_s"])
            accepted = cell.ask("trigger")
            verdict = cell.wait("/verdict", lambda v: v["result_id"] == accepted["result_id"])
            assert (verdict["threshold"], verdict["threshold_provisional"]) == (9.0, True)

            told = cell.ask("label", result_id=verdict["result_id"], label="good")
            assert (told["status"], told["result_id"]) == ("done", verdict["result_id"])
            assert cell.ask("label", result_id="nobody", label="good")["reason"] == "result_unknown"
            with Ledger(tmp_path / "state" / "outbox") as ledger:
                [label] = ledger.labels_since(0)
            assert (label.issued_by, label.label, label.score) == ("hmi", "good", verdict["score"])

            numbers = [message.json()["seq"] for message in cell.listener.heard("/verdict")]
            assert numbers == list(range(len(numbers)))
            newest = cell.listener.heard("state/last_verdict")[-1]
            again = cell.ask("replay", from_epoch=verdict["epoch"], from_seq=0, limit=3)
            assert (again["status"], again["count"]) == ("accepted", 3)
            cell.listener.wait_for("/verdict", lambda heard: len(heard) == len(numbers) + 3, TIMEOUT_S)
            replayed = [
                message
                for message in cell.listener.heard("/verdict")
                if ("replayed", "true") in message.user_properties
            ]
            assert [message.json()["seq"] for message in replayed] == [0, 1, 2]
            assert cell.listener.heard("state/last_verdict")[-1] == newest
        with at_work(broker, path) as cell:
            running = cell.wait("state/recipe", lambda state: True)["running"]
            assert (running["name"], running["product"]) == ("gland", "gland")
    assert not [thread for thread in threading.enumerate() if thread.name in ("recipes", "clerk")]
    audited = [json.loads(line) for line in (tmp_path / "state" / "audit.jsonl").read_bytes().splitlines()]
    assert [(line["command"], line["status"]) for line in audited] == [
        ("trigger", "refused"),
        ("recipe", "refused"),
        ("capture", "done"),
        ("recipe", "done"),
        ("trigger", "accepted"),
        ("reload", "refused"),
        ("reload", "done"),
        ("trigger", "accepted"),
        ("label", "done"),
        ("label", "refused"),
        ("replay", "accepted"),
    ]
    assert {(line["door"].partition("/")[0], line["issued_by"]) for line in audited} == {("cmd", "hmi")}
