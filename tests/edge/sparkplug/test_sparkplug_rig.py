"""A whole rig whose YAML asks for Sparkplug: a host sees what its daemon finds, and triggers it."""

from __future__ import annotations

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
        "commands": {"allow": {"trigger": ["sparkplug"], "recipe": ["sparkplug"]}},
        "sparkplug": sparkplug,
    }
    (folder / "rig.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    return folder / "rig.yaml"


def running(said: list[Told]) -> list[str]:
    return [name for each in said if (name := each.values.get("Recipe/Running"))]


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
    assert summary.verdicts == 1
    [verdict] = [each for each in said if each.values.get("Inspection/Part ID") == "A-7"]
    assert verdict.values["Inspection/Product"] == "plate"
    assert running(switched)[0] == "plate"
    [answer] = answers(said)
    assert answer == f"trigger accepted: {verdict.values['Inspection/Result ID']}"
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
