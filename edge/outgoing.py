"""A message on its way to the broker, the queue that it waits in, and what became of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

__all__ = ["Delivery", "DeliveryResult", "Outgoing", "QueueLimit", "SendQueue"]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way out.

    `key`: a newer message of the same key takes the place of one that still waits, so one that must not
    be lost has a key of its own. What `smaller` gives is sent where `payload` is more than the broker takes.
    `correlation` is what a request gave for its answer to be known by (MQTT 5).
    """

    topic: str
    payload: bytes
    qos: Literal[0, 1]
    retain: bool
    key: str
    smaller: Callable[[], bytes] | None = None
    expiry_s: int | None = None
    content_type: str = "application/json"
    user_properties: tuple[tuple[str, str], ...] = ()
    correlation: bytes | None = None

    def packet_bytes(self) -> int:
        """An upper bound of the PUBLISH packet's size in either protocol version."""
        properties = 32 + len(self.content_type) + (3 + len(self.correlation) if self.correlation else 0)
        properties += sum(5 + len(k.encode()) + len(v.encode()) for k, v in self.user_properties)
        return 5 + 2 + len(self.topic.encode()) + 2 + properties + len(self.payload)


class DeliveryResult(str, Enum):
    """What became of a message; of one with QoS 0 `ACKNOWLEDGED` means that it left this machine."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    TOO_LARGE = "too large"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Delivery:
    """The end of a message's way, and why."""

    message: Outgoing
    result: DeliveryResult
    detail: str


@dataclass(frozen=True, slots=True)
class QueueLimit:
    """How much may wait, and what goes where that is too little."""

    messages: int
    payload_bytes: int
    drop_oldest: bool


class SendQueue:
    """Messages that wait, in order, and those in flight, by packet id; one thread owns it.

    Of one key only the newest waits. Where more than `limit.messages` or `limit.payload_bytes` would wait,
    the oldest are dropped (`limit.drop_oldest`) or the new one.
    """

    def __init__(self, limit: QueueLimit) -> None:
        self._limit = limit
        self._waiting: OrderedDict[str, Outgoing] = OrderedDict()
        self._waiting_bytes = 0
        self._in_flight: OrderedDict[int, Outgoing] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def add(self, message: Outgoing, *, always: bool = False) -> list[Outgoing]:
        """Put at the end; gives the messages that had to be dropped for it (none with `always`)."""
        if self._forget(message.key) or always or self._has_room_for(message):
            self._put(message)
            return []
        if not self._limit.drop_oldest:
            return [message]
        dropped = []
        while self._waiting and not self._has_room_for(message):
            dropped.append(self.take())
        self._put(message)
        return dropped

    def put_first(self, messages: Sequence[Outgoing]) -> None:
        """Put in front of all that waits, in their order, in place of what waits under their keys."""
        for message in reversed(messages):
            self._forget(message.key)
            self._put(message)
            self._waiting.move_to_end(message.key, last=False)

    def take(self) -> Outgoing:
        """The first that waits; raises `KeyError` where none does."""
        message = self._waiting.popitem(last=False)[1]
        self._waiting_bytes -= len(message.payload)
        return message

    def sent(self, packet_id: int, message: Outgoing) -> None:
        """`message` is in flight under that id."""
        self._in_flight[packet_id] = message

    def settled(self, packet_id: int) -> Outgoing | None:
        """The message that was in flight under that id, which it no longer is."""
        return self._in_flight.pop(packet_id, None)

    def take_back(self) -> None:
        """What was in flight waits again, before the rest and in its order; a newer one of its key wins."""
        self.put_first([m for m in self._in_flight.values() if m.key not in self._waiting])
        self._in_flight.clear()

    def clear(self) -> None:
        """Forget all that waits."""
        self._waiting.clear()
        self._waiting_bytes = 0

    def _has_room_for(self, message: Outgoing) -> bool:
        return (
            len(self._waiting) < self._limit.messages
            and self._waiting_bytes + len(message.payload) <= self._limit.payload_bytes
        )

    def _put(self, message: Outgoing) -> None:
        self._waiting[message.key] = message
        self._waiting_bytes += len(message.payload)

    def _forget(self, key: str) -> bool:
        old = self._waiting.pop(key, None)
        if old is None:
            return False
        self._waiting_bytes -= len(old.payload)
        return True
