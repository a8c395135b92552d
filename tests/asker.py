"""Somebody who tells a rig what to do: a client of its own, on a real broker."""

from __future__ import annotations

import json

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.broker import LocalBroker

__all__ = ["Asker"]


class Asker:
    """A client of its own, that publishes and waits until the broker has it."""

    def __init__(self, broker: LocalBroker) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def ask(
        self,
        topic: str,
        payload: bytes | dict[str, object],
        *,
        retain: bool = False,
        **properties: object,
    ) -> None:
        said = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it bare
        for name, value in properties.items():
            setattr(said, name, value)
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(topic, data, 1, retain, properties=said).wait_for_publish(60)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
