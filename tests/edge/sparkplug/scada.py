"""A SCADA host, as far as a test needs one: hears a rig, keeps the rules, and tells it what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from typing_extensions import Self

from edge.broker import LocalBroker
from edge.clock import utc_now
from edge.order_messages import RunningRecipe
from edge.sparkplug.sparkplug_b_pb2 import Payload
from edge.testing import Heard, Listener
from edge.topics import RigIdentity

RIG = RigIdentity(enterprise="acme", site="dresden", area="assembly", line="line-3", cell="cell-2")
GROUP, NODE = "acme:dresden:assembly", "line-3:cell-2"
NCMD = f"spBv1.0/{GROUP}/NCMD/{NODE}"
PATIENCE_S = 60.0

FOREIGN = """
import json, sys
from esio_spb_builder.core.sparkplug_b_pb2 import Payload
for line in sys.stdin:
    payload = Payload()
    payload.ParseFromString(bytes.fromhex(line))
    metrics = []
    for m in payload.metrics:
        kind = m.WhichOneof("value")
        metrics.append({
            "name": m.name if m.HasField("name") else None,
            "alias": m.alias if m.HasField("alias") else None,
            "datatype": m.datatype if m.HasField("datatype") else None,
            "timestamp": m.timestamp,
            "historical": m.is_historical,
            "kind": "null" if m.is_null else kind,
            "value": None if m.is_null else getattr(m, kind),
            "properties": {
                key: getattr(value, value.WhichOneof("value"))
                for key, value in zip(m.properties.keys, m.properties.values)
            },
        })
    seq = payload.seq if payload.HasField("seq") else None
    print(json.dumps({"timestamp": payload.timestamp, "seq": seq, "metrics": metrics}))
"""
"""Reads payloads by the code of another project, made of Eclipse Tahu's own .proto; in a process of its own,
for two descriptions of one message can't be in the same."""


def running_recipe(name: str, *, version: int | None, review: float | None) -> RunningRecipe:
    """What a rig says of a recipe that runs."""
    return RunningRecipe(
        name=name,
        product=name,
        method="msd",
        model_sha256="a" * 64,
        calibration_id=None,
        threshold=1.0,
        calibration_version=version,
        review_threshold=review,
        trigger="command",
        since=utc_now(),
    )


def foreign(payloads: Sequence[bytes]) -> list[dict[str, Any]]:
    """What another implementation reads."""
    lines = "\n".join(payload.hex() for payload in payloads)
    done = subprocess.run([sys.executable, "-c", FOREIGN], input=lines, capture_output=True, text=True,
                          check=True, timeout=PATIENCE_S)  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


@dataclass(frozen=True)
class Told:
    """One message of the rig, with names in the place of aliases."""

    kind: str
    seq: int | None
    values: dict[str, Any]
    historical: bool
    message: Heard
    aliases_only: bool = False
    times_ms: dict[str, int] = field(default_factory=dict)


def told_by(heard: Sequence[Heard]) -> list[Told]:
    """What the rig said, as a host that knows the last birth reads it."""
    names: dict[int, str] = {}
    told = []
    for message in heard:
        kind = message.topic.split("/")[2]
        if not message.topic.endswith(f"/{NODE}") or kind == "NCMD":
            continue
        payload = Payload.FromString(message.payload)
        if kind == "NBIRTH":
            names = {m.alias: m.name for m in payload.metrics if m.HasField("alias")}
        values, times_ms = {}, {}
        for metric in payload.metrics:
            name = metric.name if metric.HasField("name") else names[metric.alias]
            value = None if metric.is_null else getattr(metric, metric.WhichOneof("value"))
            values[name], times_ms[name] = value, metric.timestamp
        told.append(
            Told(
                kind,
                payload.seq if payload.HasField("seq") else None,
                values,
                any(metric.is_historical for metric in payload.metrics),
                message,
                not any(metric.HasField("name") for metric in payload.metrics),
                times_ms,
            )
        )
    return told


class Scada:
    """Hears what a rig says from before it is there, and can be its primary host `scada-1`."""

    def __init__(self, broker: LocalBroker) -> None:
        self._listener = Listener(broker.host, broker.port, topics="spBv1.0/#")
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._at = (broker.host, broker.port)

    def __enter__(self) -> Self:
        self._listener.__enter__()
        self._client.connect(*self._at)
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._listener.__exit__(None, None, None)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, 1, retain).wait_for_publish(60)

    def say(self, online: bool, timestamp_ms: int) -> None:
        state = {"online": online, "timestamp": timestamp_ms}
        self.publish("spBv1.0/STATE/scada-1", json.dumps(state).encode(), retain=True)

    def write(
        self, *, retain: bool = False, by_alias: dict[str, int] | None = None, **values: object
    ) -> None:
        """Names with `_` for a space, and `__` for a slash."""
        payload = Payload(timestamp=1)
        for key, value in values.items():
            name = key.replace("__", "/").replace("_", " ")
            metric = payload.metrics.add(timestamp=1)
            if by_alias is None:
                metric.name = name
            else:
                metric.alias = by_alias[name]
            if isinstance(value, bool):
                metric.boolean_value = value
            elif isinstance(value, float):
                metric.double_value = value
            elif isinstance(value, int):
                metric.long_value = value
            elif value is None:
                metric.is_null = True
            else:
                metric.string_value = str(value)
        self.publish(NCMD, payload.SerializeToString(), retain=retain)

    def heard(self) -> list[Told]:
        return told_by(self._listener.heard())

    def wait(self, done: Callable[[list[Told]], bool]) -> list[Told]:
        """All that the rig has said, once `done` holds of it."""
        return told_by(self._listener.wait_for("", lambda heard: done(told_by(heard)), PATIENCE_S))

    def wait_for(self, kind: str, count: int = 1) -> list[Told]:
        """The first so many messages of that kind."""
        said = self.wait(lambda told: sum(each.kind == kind for each in told) >= count)
        return [each for each in said if each.kind == kind][:count]
