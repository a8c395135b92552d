"""A recording of the simulated rig, played back: the scores of the live run, twice."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edge.broker import LocalBroker
from edge.testing import Heard, Listener
from tests.line.commands import lines, needs_mosquitto, rig_yaml, run
from tests.tiny_bundle import make_tiny_bundle

PARTS = 4


def published_scores(rig: Path, broker: LocalBroker) -> list[float]:
    """The scores of the verdicts that the daemon made until its camera ended.

    It may send those of the start before again, as long as the broker might not have saved them.
    """
    started = time.time() * 1000
    with Listener(broker.host, broker.port) as listener:
        done = run("edge-daemon", rig, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["verdicts"] == PARTS
        heard = listener.wait_for("/verdict", lambda heard: len(of_now(heard, started)) == PARTS)
    return [verdict["score"] for verdict in of_now(heard, started)]


def of_now(heard: Sequence[Heard], started: float) -> list[dict[str, Any]]:
    """Those whose epoch began after this moment (milliseconds)."""
    return [verdict for verdict in (one.json() for one in heard) if verdict["epoch"] >= started]


@needs_mosquitto
def test_playback_gives_the_scores_of_the_live_run_twice(broker: LocalBroker, tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    path = tmp_path / "live.db3"
    camera = {"source": "simulated", "product": "plate", "seed": 51, "parts": PARTS, "record_to": str(path)}
    live = published_scores(rig_yaml(tmp_path, bundle, camera, broker.port), broker)
    assert len(set(live)) == PARTS  # else any order, and any part, would do
    played = published_scores(
        rig_yaml(tmp_path, bundle, {"source": "recording", "path": str(path)}, broker.port), broker
    )
    inspected = run("edge-inspect", bundle, path, "--json")
    assert inspected.returncode == 20, inspected.stderr
    assert played == pytest.approx(live, rel=0, abs=1e-6)
    assert [line["score"] for line in lines(inspected)] == pytest.approx(live, rel=0, abs=1e-6)
    assert sorted(file.suffix for file in tmp_path.glob("live.*")) == [".db3", ".json"]
