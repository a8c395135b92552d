"""A whole rig whose YAML asks for Sparkplug: a host sees what its daemon finds, and triggers it."""

from __future__ import annotations

import math
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from edge.broker import LocalBroker, find_mosquitto
from edge.config import load_rig_config
from edge.daemon import Daemon, RunSummary
from edge.errors import ConfigError
from edge.rig import run_rig
from edge.sparkplug.config import SparkplugConfig
from tests.edge.sparkplug.scada import PATIENCE_S, RIG, Scada, Told
from tests.tiny_bundle import make_tiny_bundle

NO_THRESHOLDS = (math.nan, math.inf, -math.inf, "high", "0.5", True, 1, (1 << 64) - 1, None)
"""The last whole number is how -1 travels."""


def write_rig(folder: Path, port: int, sparkplug: object) -> Path:
    data = {
        "rig": RIG.model_dump(),
        "camera": {"source": "simulated", "product": "plate", "interval_s": 0.2},
        "runtime": {"backend": "onnx", "threads": 1},
        "broker": {"port": port},
        "pictures": {"heatmap": False, "image": False, "map": False},
        "health": {"interval_s": 0.5},
        "daemon": {"state_dir": "state", "max_frame_age_s": 60},
        "recipes": {
            "plate": {"bundle": "plate", "trigger": {"kind": "command", "timeout_s": 60}},
            "gland": {"bundle": "gland", "trigger": {"kind": "command", "timeout_s": 60}},
        },
        "recipe": "plate",
        "commands": {
            "allow": {"trigger": ["sparkplug"], "recipe": ["sparkplug"], "threshold": ["sparkplug"]}
        },
        "sparkplug": sparkplug,
    }
    (folder / "rig.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    return folder / "rig.yaml"


def running(said: list[Told]) -> list[str]:
    return [name for each in said if (name := each.values.get("Recipe/Running"))]


def in_force(said: list[Told]) -> list[tuple[float, int]]:
    """The thresholds that were told, each with its calibration's version; both come in one message."""
    told = [
        (each.values.get("Recipe/Threshold"), each.values.get("Recipe/Calibration Version")) for each in said
    ]
    return [
        (threshold, version) for threshold, version in told if threshold is not None and version is not None
    ]


def answers(said: list[Told]) -> list[str]:
    return [text for each in said if (text := each.values.get("Command/Answer"))]


@pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)
def test_a_host_sees_the_rig_triggers_it_and_goes_over_to_another_recipe(tmp_path: Path) -> None:
    make_tiny_bundle(tmp_path / "plate", product="plate", golden=1)
    make_tiny_bundle(tmp_path / "gland", product="gland", golden=1)
    daemons: Future[Daemon] = Future()
    with LocalBroker("mosquitto") as broker, Scada(broker) as scada, ThreadPoolExecutor(1) as pool:
        path = write_rig(tmp_path, broker.port, {})
        ended: Future[RunSummary] = pool.submit(
            run_rig, load_rig_config(path), path=path, on_ready=daemons.set_result
        )
        try:
            scada.wait(lambda told: any(each.values.get("Machine/State") == "Ready" for each in told))
            scada.write(Command__Part_ID="A-7", Command__Trigger=True)
            said = scada.wait(
                lambda told: any(
                    each.values.get("Counts/Passed", 0) or each.values.get("Counts/Failed", 0)
                    for each in told
                )
            )
            for value in NO_THRESHOLDS:
                scada.write(Command__Threshold=value)
            refused = scada.wait(lambda told: len(answers(told)) > len(NO_THRESHOLDS))
            scada.write(Command__Threshold=0.125)
            changed = scada.wait(lambda told: "threshold done: plate" in answers(told))
            scada.write(Command__Threshold=0.25, Command__Part_ID="A-8")  # of the version that is new now
            scada.wait(lambda told: answers(told).count("threshold done: plate") == 2)
            scada.write(Command__Trigger=True)
            judged = scada.wait(
                lambda told: any(each.values.get("Inspection/Part ID") == "A-8" for each in told)
            )
            scada.write(Command__Recipe="nut")
            scada.wait(lambda told: any("recipe_unknown" in answer for answer in answers(told)))
            scada.write(Command__Recipe="gland")
            switched = scada.wait(
                lambda told: "recipe done: gland" in answers(told) and running(told)[-1:] == ["gland"]
            )
        finally:
            daemons.result(PATIENCE_S).stop()
        summary = ended.result(PATIENCE_S)
        all_said = scada.wait(lambda told: told[-1].kind == "NDEATH")
    assert summary.verdicts == 2
    [verdict] = [each for each in said if each.values.get("Inspection/Part ID") == "A-7"]
    assert verdict.values["Inspection/Product"] == "plate"
    assert running(switched)[0] == "plate"
    [answer] = answers(said)
    assert answer == f"trigger accepted: {verdict.values['Inspection/Result ID']}"
    assert {text.rpartition(": ")[0] for text in answers(refused)[1:]} == {
        "threshold refused: malformed: threshold"
    }
    assert (verdict.values["Inspection/Threshold"], verdict.values["Inspection/Calibration Version"]) == (
        0.5,
        1,
    )
    assert in_force(refused) == [(0.5, 1)]
    assert in_force(changed) == [(0.5, 1), (0.125, 2)]
    [next_verdict] = [each for each in judged if each.values.get("Inspection/Part ID") == "A-8"]
    assert in_force(judged)[-1] == (0.25, 3)
    assert next_verdict.values["Inspection/Threshold"] == 0.25
    assert next_verdict.values["Inspection/Calibration Version"] == 3
    assert [each.values["Machine/State"] for each in all_said if "Machine/State" in each.values][
        -1
    ] == "Halted"
    assert (tmp_path / "state" / "sparkplug_bdseq").read_text(encoding="ascii") == "0\n"


def test_a_mistake_is_named_and_a_section_can_be_switched_off(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"group_id.*is a wildcard"):
        load_rig_config(write_rig(tmp_path, 1, {"group_id": "a+b"}))
    off = load_rig_config(write_rig(tmp_path, 1, {"enabled": False}))
    assert off.sparkplug == SparkplugConfig(enabled=False)


def test_group_and_node_are_the_rig_s_if_not_given() -> None:
    assert (SparkplugConfig().group_of(RIG), SparkplugConfig().node_of(RIG)) == (
        "acme:dresden:assembly",
        "line-3:cell-2",
    )
    given = SparkplugConfig(group_id="g", edge_node_id="n")
    assert (given.group_of(RIG), given.node_of(RIG)) == ("g", "n")
