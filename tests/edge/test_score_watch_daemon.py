"""The score watch in the daemon: from the bundle's calibration to the health message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from edge.bundle import load_bundle
from edge.calibration_file import write_calibration
from edge.camera.source import FrameSource
from edge.clock import Session
from edge.config import RigConfig
from edge.daemon import Daemon
from edge.frame import Frame
from edge.messages import TriggerKind
from edge.recipe_loading import RecipeLoader
from edge.score_watch import ScoreWatch
from edge.testing import RecordingPublisher, ReplayCamera, ScratchOutbox, ScriptedInspector, flat_frame
from edge.trigger import Trigger
from edge.verdict import Provenance
from edge.work.model import Model
from edge.work.settings import DaemonSettings
from tests.tiny_bundle import make_tiny_bundle

SESSION = Session(epoch=5, boot_id="boot", software_version="0")
RIG = {
    "rig": {"enterprise": "acme", "site": "dresden", "area": "assembly", "line": "line-3", "cell": "cell-2"},
    "camera": {"source": "simulated", "product": "plate"},
}
PROVENANCE = Provenance(SESSION, "plate", "ast", "a" * 64, "c1", True, None, True)


class EachFrameAPart(Trigger):
    kind = TriggerKind.PART_PRESENT

    def due(self, frame: Frame) -> bool:
        return True


def test_health_tells_of_a_drift_of_the_parts_scores() -> None:
    chance = np.random.default_rng(0)
    good = tuple(float(score) for score in chance.normal(0.5, 0.1, 50))
    drifted = [float(score) for score in chance.normal(0.7, 0.1, 60)]
    publisher = RecordingPublisher()
    source: FrameSource = ReplayCamera([flat_frame(seq) for seq in range(60)], restamp=True)
    Daemon(
        source=source,
        model=Model(
            inspector=ScriptedInspector(drifted),
            trigger=EachFrameAPart(),
            pictures=lambda _: (),
            provenance=PROVENANCE,
            close=lambda: None,
            good_scores=good,
        ),
        publisher=publisher,
        outbox=ScratchOutbox(),
        settings=DaemonSettings(max_frame_age_s=1e6, hang_timeout_s=1e6, health_interval_s=60),
        synced=lambda: None,
    ).run()
    score = publisher.healths[-1].score
    assert score is not None
    assert score.reference == "set_up"
    assert score.tested + score.fails == 60
    assert score.warning == "scores_drifted_up"


def test_a_recipe_brings_the_scores_of_its_calibration(tmp_path: Path) -> None:
    folder = make_tiny_bundle(tmp_path / "b")
    calibration = load_bundle(folder).calibration
    assert calibration is not None
    write_calibration(folder, calibration.model_copy(update={"good_scores": (0.25,)}))
    loader = RecipeLoader(RigConfig.model_validate({**RIG, "bundle": folder}), SESSION)
    model = loader.load(loader.verify("main")).model
    model.close()
    assert model.good_scores == (0.25,)


def test_the_rig_decides_whether_and_how() -> None:
    given = {"enabled": True, "level": 0.001, "learn_parts": 50, "max_fail_share": 0.2}
    config = RigConfig.model_validate({**RIG, "bundle": "b", "score_watch": given}).score_watch
    assert config.model_dump() == given
    assert ScoreWatch(config).health() is None
    for wrong in ({"enabled": "on"}, {"level": 0}, {"learn_parts": 5}, {"max_fail_share": 1}):
        with pytest.raises(ValidationError):
            RigConfig.model_validate({**RIG, "bundle": "b", "score_watch": wrong})
