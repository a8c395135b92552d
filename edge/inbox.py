"""What a connection to the broker hears: which topics, and where the messages go."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho

__all__ = ["Inbox", "Incoming", "incoming_from_paho"]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from the broker; the last three only with MQTT 5. `received_ns` on the monotonic clock."""

    topic: str
    payload: bytes
    retained: bool
    received_ns: int = field(default_factory=time.monotonic_ns)
    expiry_s: int | None = None
    response_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Inbox:
    """Topics to subscribe to (QoS 1) on each connection, and who is given what comes, on its thread.

    A connection with an inbox has no session at the broker: what is published while it is down never comes.
    Of `waiting_max` messages that wait to be looked at the newer ones are thrown away; with MQTT 5 the
    broker sends none of more than `max_packet_bytes`.
    """

    topics: tuple[str, ...]
    on_message: Callable[[Incoming], None]
    waiting_max: int = 1000
    max_packet_bytes: int = 192 * 1024


def incoming_from_paho(message: paho.MQTTMessage) -> Incoming | None:
    """A message as paho has it; None where its topic is no text."""
    try:
        topic = message.topic
    except UnicodeDecodeError:
        return None
    said: Any = message.properties  # None with MQTT 3.1.1
    return Incoming(
        topic=topic,
        payload=bytes(message.payload),
        retained=message.retain,
        expiry_s=getattr(said, "MessageExpiryInterval", None),
        response_topic=getattr(said, "ResponseTopic", None),
        correlation=getattr(said, "CorrelationData", None),
    )
