"""Somebody who tells a rig what to do: a client of its own, on a real broker."""

from __future__ import annotations

import json
from queue import SimpleQueue

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.broker import LocalBroker

__all__ = ["Asker"]


class Asker:
    """A client of its own, that publishes and waits until the broker has it."""

    def __init__(self, broker: LocalBroker, username: str | None = None, password: str | None = None) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._said: SimpleQueue[int] = SimpleQueue()
        self._client.on_publish = lambda _c, _u, _mid, reason, _p: self._said.put(reason.value)
        if username is not None:
            self._client.username_pw_set(username, password)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def ask(
        self,
        topic: str,
        payload: bytes | dict[str, object],
        *,
        retain: bool = False,
        **properties: object,
    ) -> int:
        """The broker's reason code: 135 where its access rules forbid it."""
        said = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it bare
        for name, value in properties.items():
            setattr(said, name, value)
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(topic, data, 1, retain, properties=said)
        return self._said.get(timeout=60)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
