"""What happens to a connection to a broker, as events for the one thread that owns it.

paho calls back under its own locks, so its callbacks only make an event of what they are told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.inbox import Inbox, Incoming, incoming_from_paho
from edge.outgoing import Outgoing

__all__ = ["Answered", "Event", "Heard", "Lost", "Published", "Stop", "Subscribed", "listen"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """The broker answered an attempt to connect."""

    attempt: int
    reason: ReasonCode
    properties: Properties | None
    session_present: bool


@dataclass(frozen=True, slots=True)
class Published:
    """The broker acknowledged a message, or it left this machine (QoS 0)."""

    attempt: int
    mid: int
    reason: ReasonCode | None


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is no more."""

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker answered a subscription, topic by topic."""

    attempt: int
    reasons: tuple[ReasonCode, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """A message came, and `told` is to have it."""

    attempt: int
    message: Incoming
    told: Callable[[Incoming], None]


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody wants the connection to end, at `deadline` (monotonic seconds) the latest."""

    farewell: Outgoing | None
    deadline: float


Event = Answered | Published | Lost | Subscribed | Heard | Stop | Outgoing


def listen(client: paho.Client, attempt: int, events: SimpleQueue[Event], inbox: Inbox | None) -> None:
    """Have what paho says of this attempt put into `events`."""

    def on_connect(
        _c: Any, _u: Any, flags: paho.ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        events.put(Answered(attempt, reason, properties, bool(flags.session_present)))

    def on_disconnect(_c: Any, _u: Any, _f: Any, reason: ReasonCode, _p: Any) -> None:
        events.put(Lost(attempt, str(reason)))

    def on_publish(_c: Any, _u: Any, mid: int, reason: ReasonCode, _p: Any) -> None:
        events.put(Published(attempt, mid, reason))

    client.on_connect, client.on_disconnect, client.on_publish = on_connect, on_disconnect, on_publish
    if inbox is None:
        return

    def on_subscribe(_c: Any, _u: Any, _mid: int, reasons: list[ReasonCode], _p: Any) -> None:
        events.put(Subscribed(attempt, tuple(reasons)))

    def on_message(_c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        incoming = incoming_from_paho(message)
        if incoming is None or events.qsize() >= inbox.waiting_max:
            _log.warning("a message from the broker was thrown away: no topic, or too many at once")
        else:
            events.put(Heard(attempt, incoming, inbox.on_message))

    client.on_subscribe, client.on_message = on_subscribe, on_message
