"""Sparkplug on a plant's broker with certificates and access rules, as docs/broker.md sets it up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from edge.broker import find_mosquitto
from edge.order_messages import Answer
from edge.sparkplug.config import SparkplugConfig
from edge.sparkplug.node import SparkplugNode
from edge.sparkplug.sparkplug_b_pb2 import Payload
from edge.testing import Heard, sample_verdict
from tests.edge.sparkplug.scada import NCMD, PATIENCE_S, RIG, told_by
from tests.plant import Guest, Keys, Plant, name_of

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)

OTHER = RIG.model_copy(update={"cell": "cell-3"})


def nobody(command: str, payload: bytes) -> Future[Answer]:
    raise AssertionError(command)


def rebirth() -> bytes:
    payload = Payload(timestamp=1)
    payload.metrics.add(name="Node Control/Rebirth", boolean_value=True)
    return payload.SerializeToString()


def test_a_rig_speaks_for_itself_alone_and_hears_its_hosts_alone(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")

    def kinds(heard: Sequence[Heard]) -> list[str]:
        return [each.kind for each in told_by(heard)]

    with (
        Plant(tmp_path / "plant", keys) as plant,
        plant.listener("scada-1", "spBv1.0/#") as listener,
        Guest(plant, "scada-1") as scada,
        Guest(plant, "hmi-3") as stranger,
    ):
        scada.publish("spBv1.0/STATE/scada-1", b'{"online": true, "timestamp": 1}', retain=True)
        config = SparkplugConfig(primary_host_id="scada-1")
        liar = SparkplugNode(  # a rig that gives itself out to be another
            SparkplugConfig(group_id="acme:dresden:assembly", edge_node_id="line-3:cell-2"),
            plant.config(name_of(OTHER)),
            OTHER,
            None,
        )
        node = SparkplugNode(config, plant.config(name_of(RIG)), RIG, None)
        with liar.attached(nobody), node.attached(nobody):
            listener.wait_for("", lambda heard: kinds(heard) == ["NBIRTH"], PATIENCE_S)
            liar.on_verdict(sample_verdict(1))
            assert stranger.publish(NCMD, rebirth()) == 135
            assert scada.publish(NCMD, rebirth()) == 0
            listener.wait_for("", lambda heard: kinds(heard) == ["NBIRTH"] * 2, PATIENCE_S)
            node.on_verdict(sample_verdict(2))
            listener.wait_for("", lambda heard: kinds(heard) == ["NBIRTH", "NBIRTH", "NDATA"], PATIENCE_S)
        said = listener.wait_for("", lambda heard: kinds(heard)[-1:] == ["NDEATH"], PATIENCE_S)
    assert kinds(said) == ["NBIRTH", "NBIRTH", "NDATA", "NDEATH"]
