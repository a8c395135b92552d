"""A command as it came in, by whichever door, and what can be read of it, were it damaged ever so much."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import ValidationError

from edge.order_messages import ORDERS, Answer

__all__ = [
    "DASHBOARD",
    "MAX_ORDER_BYTES",
    "OWN_DOORS",
    "SPARKPLUG",
    "Letter",
    "mistakes_of",
    "shown",
    "texts_of",
]

DASHBOARD = "dashboard"
"""What the rig's own web page is called among those who give commands."""

SPARKPLUG = "sparkplug"
"""What SCADA hosts are called there, whichever of them writes a metric."""

OWN_DOORS = {DASHBOARD, SPARKPLUG}
"""Names that no client at the broker may have."""

MAX_ORDER_BYTES = max(order.max_bytes for order in ORDERS)
"""What the largest command has; nothing of a larger message is looked at."""

_MISTAKES_NAMED = 5
_ECHO_MAX_CHARACTERS = 128


@dataclass(frozen=True, slots=True)
class Letter:
    """A command as it came; `expiry_s`, `response_topic`, `correlation` by MQTT 5.

    `answered` is given the answer of one that did not come over MQTT; no other topic then gets it. `client`
    is who sent it where that is sure, because the broker or the rig itself vouches for it.
    """

    command: str
    payload: bytes
    retained: bool = False
    received_ns: int = field(default_factory=time.monotonic_ns)
    expiry_s: int | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    client: str | None = None
    answered: Callable[[Answer], None] | None = None

    @property
    def door(self) -> str:
        """Where it came in: the topic below the rig's root, or who of the rig itself brought it."""
        if self.answered is not None:
            return self.client or DASHBOARD
        return f"cmd/{self.command}" + ("" if self.client is None else f"/{self.client}")


def shown(text: str, at_most: int = _ECHO_MAX_CHARACTERS) -> str:
    """Text of a stranger, fit for a log and an answer."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:at_most])


def texts_of(payload: bytes) -> dict[str, str]:
    """The texts that a payload holds, be it a command or not; so that its sender hears what was wrong."""
    if len(payload) > MAX_ORDER_BYTES:
        return {}
    try:
        data = json.loads(payload)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested too deeply
        return {}
    if not isinstance(data, dict):
        return {}
    texts = {name: data.get(name) for name in ("request_id", "issued_by")}
    said = {name: shown(text) for name, text in texts.items() if isinstance(text, str)}
    if isinstance(data.get("reply_to"), str):
        said["reply_to"] = data["reply_to"]
    return said


def mistakes_of(error: ValidationError) -> str:
    """What is wrong with a payload, without a word of what it holds but its keys."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    named = [f"{shown('.'.join(map(str, m['loc']))) or 'the payload'}: {m['msg']}" for m in found]
    rest = f"; and {len(named) - _MISTAKES_NAMED} more" if len(named) > _MISTAKES_NAMED else ""
    text = "; ".join(named[:_MISTAKES_NAMED]) + rest
    return shown(text, len(text))
