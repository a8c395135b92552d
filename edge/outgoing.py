"""A message on its way to the broker, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

__all__ = ["Delivery", "DeliveryResult", "Outgoing"]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way out.

    `key`: a newer message of the same key takes the place of one that still waits, so one that must not
    be lost has a key of its own. `smaller` is sent where `payload` is more than the broker takes.
    """

    topic: str
    payload: bytes
    qos: Literal[0, 1]
    retain: bool
    key: str
    smaller: bytes | None = None
    expiry_s: int | None = None
    content_type: str = "application/json"
    user_properties: tuple[tuple[str, str], ...] = ()

    def packet_bytes(self) -> int:
        """An upper bound of the PUBLISH packet's size in either protocol version."""
        properties = 32 + len(self.content_type)
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
