"""A rig at work over a real broker: a part that failed is labelled, and its very frame becomes a capture."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.broker import LocalBroker, find_mosquitto
from edge.captures import list_captures, read_note
from edge.outbox_ledger import Ledger
from edge.simulation.rig import RigScene
from tests.edge.small_disk import fill, mounted
from tests.rig_cell import Cell, at_work, write_rig
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)

CAMERA = {"source": "simulated", "product": "plate", "seed": 31, "defective_share": 0.0}


def rig_in(folder: Path, port: int, **sections: object) -> Path:
    recipes = {"plate": {"bundle": "plate", "trigger": {"kind": "command", "timeout_s": 60}}}
    return write_rig(folder, port, camera=CAMERA, recipes=recipes, **sections)


def inspected(cell: Cell, serial: str) -> Any:
    """The verdict of one more part."""
    accepted = cell.ask("trigger", part_serial=serial)
    return cell.wait("/verdict", lambda verdict: verdict["result_id"] == accepted["result_id"])


def test_the_frame_that_was_judged_becomes_a_capture(tmp_path: Path) -> None:
    make_tiny_bundle(tmp_path / "plate", product="plate", threshold=0.0)
    scene = RigScene("plate", 31, defective_share=0.0)
    with LocalBroker("mosquitto") as broker:
        path = rig_in(tmp_path, broker.port)
        with at_work(broker, path) as cell:
            verdicts = [inspected(cell, f"A-{number}") for number in range(3)]
            assert [verdict["outcome"] for verdict in verdicts] == ["fail"] * 3

            said = cell.ask("label", result_id=verdicts[1]["result_id"], label="good", note="dust")
            assert (said["status"], said["reason"], said["detail"]) == ("done", None, None)
            image = Path(said["file"])
            lot = image.parents[1]
            assert lot.parent == tmp_path / "state" / "captures" / "plate"
            assert lot.name == f"{verdicts[1]['captured_time'][:10]}-labelled"
            [sample] = list_captures(lot)
            shot, frame = scene.shot(verdicts[1]["frame_seq"]), sample.frame()
            assert shot is not None
            assert (sample.rgb_path, sample.part_id) == (image, "good/000")
            np.testing.assert_array_equal(frame.rgb, shot.rgb)
            np.testing.assert_array_equal(frame.depth_m, shot.depth_m)
            note = read_note(sample)
            assert note is not None
            assert (note.result_id, note.part_serial) == (verdicts[1]["result_id"], "A-1")
            assert (note.outcome, note.score) == ("fail", verdicts[1]["score"])
            assert (note.model_sha256, note.recipe) == (verdicts[1]["model_sha256"], "plate")
            assert [(one.labelled_by, one.note) for one in note.labels] == [("hmi", "dust")]

            said = cell.ask("label", result_id=verdicts[1]["result_id"], label="scratch")
            assert said["file"] == str(lot / "scratch" / "000.rgb.png")
            assert [sample.part_id for sample in list_captures(lot)] == ["scratch/000"]
            health = cell.wait("/health", lambda health: health["recent_frames"]["labelled"] == 2)
            assert health["recent_frames"]["frames"] == 2
        with at_work(broker, path) as cell:  # what was kept before a restart is there after it
            said = cell.ask("label", result_id=verdicts[2]["result_id"], label="good")
            assert said["file"] == str(lot / "good" / "000.rgb.png")
        with at_work(broker, rig_in(tmp_path, broker.port, captures={"recent_parts": 0})) as cell:
            said = cell.ask("label", result_id=verdicts[0]["result_id"], label="good")
            assert (said["status"], said["reason"], said["file"]) == ("done", "frame_gone", None)
            assert "the label is kept, no capture is made" in said["detail"]
            with Ledger(tmp_path / "state" / "outbox") as ledger:
                assert [label.label for label in ledger.labels_of(verdicts[0]["result_id"])] == ["good"]
    assert not [thread for thread in threading.enumerate() if thread.name == "recent-frames"]


def test_a_full_disk_keeps_no_frames_and_loses_no_verdict(tmp_path: Path) -> None:
    make_tiny_bundle(tmp_path / "plate", product="plate", threshold=0.0)
    with LocalBroker("mosquitto") as broker, mounted(tmp_path / "state", size_mb=128) as state:
        outbox = {"keep_free_mb": 30, "ballast_mb": 32}
        with at_work(
            broker, rig_in(tmp_path, broker.port, outbox=outbox, health={"interval_s": 0.5})
        ) as cell:
            inspected(cell, "A-0")
            cell.wait("/health", lambda one: one["recent_frames"]["frames"] == 1)
            fill(state)
            verdicts = [inspected(cell, f"A-{number}") for number in range(1, 6)]
            assert {verdict["outcome"] for verdict in verdicts} <= {"fail", "error"}
            health = cell.wait("/health", lambda one: one["recent_frames"]["refused"] == 5)
            assert (health["recent_frames"]["frames"], health["recent_frames"]["reason"]) == (0, "disk_full")
            (state / "hog").unlink()
            last = inspected(cell, "A-6")
            assert cell.ask("label", result_id=last["result_id"], label="good")["file"] is not None
        numbers = [message.json()["seq"] for message in cell.listener.heard("/verdict")]
        assert numbers == list(range(7))
