"""The daemon over a simulated rig whose lamp has grown weak: health warns, verdicts and states stay."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest

from edge.bundle import load_bundle
from edge.camera.config import SimulatedCamera
from edge.camera.simulated import SimulatedSource
from edge.config import load_rig_config
from edge.daemon import Daemon, DaemonSettings, Model
from edge.demo.rig import packaged_bundle
from edge.errors import ConfigError
from edge.inspection import Outcome
from edge.inspector import Inspector
from edge.messages import MachineStateName
from edge.rig import check_rig
from edge.scene.config import SceneConfig
from edge.scene.health import SceneReason
from edge.scene.tray import write_tray
from edge.scene.watch import SceneWatch, watch_from_file
from edge.simulation import RigScene
from edge.testing import FakeRunner, RecordingPublisher, ScratchOutbox
from edge.trigger import EveryFrame
from tests.edge.scene.scenes import AS_LEARNT, simulated_tray
from tests.provenance import PROVENANCE

PARTS = 4


def run(light: float, watch: SceneWatch) -> RecordingPublisher:
    """The daemon until the rig has shown its parts."""
    appearance = replace(AS_LEARNT, light=(light, light, light))
    scene = RigScene("plate", 7, PARTS, defective_share=0.0, appearance=appearance)
    bundle = load_bundle(packaged_bundle())
    runner, publisher = FakeRunner(bundle), RecordingPublisher()
    Daemon(
        source=SimulatedSource(SimulatedCamera(product="plate", seed=7, parts=PARTS), scene),
        model=Model(Inspector(bundle, runner), EveryFrame(), lambda _: (), PROVENANCE, runner.close),
        publisher=publisher,
        outbox=ScratchOutbox(),
        scene=watch,
        settings=DaemonSettings(max_frame_age_s=1e6, hang_timeout_s=1e6, stop_timeout_s=1e6),
    ).run()
    return publisher


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    write_tray(simulated_tray(), folder / "tray.yaml")
    return folder


def test_a_weak_lamp_warns_in_health_and_changes_nothing_else(
    state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = SceneConfig(interval_s=0, window=3)
    with caplog.at_level(logging.WARNING, "edge.scene.watch"):
        weak = run(0.5, watch_from_file(config, state_dir))
    even = run(1.0, watch_from_file(config, state_dir))
    scene, fine = weak.healths[-1].scene, even.healths[-1].scene
    assert scene is not None
    assert fine is not None
    assert [warning.reason.value for warning in scene.warnings] == ["light_low"]
    assert [record.message.partition(" the tray")[0] for record in caplog.records] == ["scene: light_low:"]
    assert fine.warnings == ()
    assert (fine.tray, fine.looks) == ("learnt", 3)
    for publisher in (weak, even):
        assert [verdict.outcome for verdict in publisher.verdicts] == [Outcome.PASS] * PARTS
        assert {state.state for state in publisher.machine_states} == {
            MachineStateName.PREOPERATIONAL,
            MachineStateName.CONTINUOUS_EXECUTION,
            MachineStateName.HALTED,
        }


def test_without_a_tray_health_says_so(tmp_path: Path) -> None:
    scene = run(0.5, watch_from_file(SceneConfig(interval_s=0), tmp_path)).healths[-1].scene
    assert scene is not None
    assert (scene.tray, scene.warnings) == ("not_learnt", ())
    assert scene.now is not None
    assert scene.now.light.luma < 80


RIG = f"""
rig: {{enterprise: e, site: s, area: a, line: l, cell: c}}
camera: {{source: simulated, product: plate}}
bundle: {packaged_bundle()}
"""


def test_the_check_finds_a_tray_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text(RIG + "scene: {tray: set-up/tray.yaml, limits: {tilt_deg: 0.8}}\n", encoding="utf-8")
    config = load_rig_config(path)
    assert config.scene.limits.tilt_deg == 0.8
    assert [mistake for mistake in check_rig(config) if "set-up/tray.yaml" in mistake and "learn" in mistake]


def test_a_limit_that_can_not_be_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text(RIG + "scene:\n  limits:\n    tilt_deg: 0\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"rig\.yaml:7: scene\.limits\.tilt_deg: .* greater than 0"):
        load_rig_config(path)


def test_the_page_names_each_reason() -> None:
    page = (Path(__file__).parents[3] / "docs" / "scene.md").read_text(encoding="utf-8")
    rows = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    assert {reason.value for reason in SceneReason} <= set(re.findall(r"`(\w+)`", rows))
