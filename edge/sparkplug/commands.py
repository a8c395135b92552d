"""What a host may write, and how that becomes a command of the rig."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from edge.letters import SPARKPLUG
from edge.order_messages import Answer
from edge.sparkplug.metrics import Described
from edge.sparkplug.payload import DataType, Value

__all__ = [
    "ANSWER",
    "PART_ID",
    "SWITCH",
    "TRIGGER",
    "Ask",
    "answer_text",
    "metrics_for",
    "order",
    "part_id_of",
]

Ask = Callable[[str, bytes], "Future[Answer]"]
"""Gives a command, by its name and its JSON, to the rig's desk (`OrderDesk.ask`)."""

_PART_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,128}")

PART_ID = Described(
    "Command/Part ID",
    DataType.STRING,
    "write the next part's id before its trigger; it is taken by that one trigger",
    writable=True,
)
TRIGGER = Described(
    "Command/Trigger", DataType.BOOLEAN, "write true: inspect the part that lies there now", writable=True
)
SWITCH = Described(
    "Command/Recipe", DataType.STRING, "write the name of the recipe to go over to", writable=True
)
ANSWER = Described(
    "Command/Answer", DataType.STRING, "what became of the last command: `accepted`, or `refused` and why"
)


def metrics_for(*, triggerable: bool, several_recipes: bool) -> Sequence[Described]:
    """What a host can do with this rig; nothing that would do nothing."""
    offered = ((PART_ID, TRIGGER) if triggerable else ()) + ((SWITCH,) if several_recipes else ())
    return (*offered, ANSWER) if offered else ()


def part_id_of(value: Value) -> str | None:
    """What a host wrote as a part's id; None for nothing, and for what can be none."""
    return value if isinstance(value, str) and _PART_ID.fullmatch(value) else None


def order(**fields: Value) -> bytes:
    """The JSON of a command, as over MQTT (`docs/mqtt.md`); each is a new one."""
    said = {"request_id": str(uuid.uuid4()), "issued_by": SPARKPLUG}
    return json.dumps(said | fields).encode()


def answer_text(answer: Answer) -> str:
    """An answer in one line."""
    said = (answer.result_id, answer.recipe, answer.reason, answer.detail)
    return ": ".join((f"{answer.command} {answer.status}", *(part for part in said if part)))
