"""What a host may write, and how that becomes a command of the rig."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from edge.letters import SPARKPLUG
from edge.order_messages import Answer, RunningRecipe
from edge.sparkplug.metrics import Described
from edge.sparkplug.payload import DataType, Value

__all__ = [
    "ANSWER",
    "PART_ID",
    "SWITCH",
    "THRESHOLD",
    "TRIGGER",
    "Ask",
    "answer_text",
    "metrics_for",
    "order",
    "part_id_of",
    "threshold_order",
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
THRESHOLD = Described(
    "Command/Threshold", DataType.DOUBLE, "write the threshold to judge by from now on", writable=True
)
ANSWER = Described(
    "Command/Answer", DataType.STRING, "what became of the last command: `accepted`, or `refused` and why"
)


def metrics_for(*, triggerable: bool, several_recipes: bool) -> Sequence[Described]:
    """What a host can do with this rig; nothing that would do nothing."""
    offered = ((PART_ID, TRIGGER) if triggerable else ()) + ((SWITCH,) if several_recipes else ())
    return (*offered, THRESHOLD, ANSWER)


def part_id_of(value: Value) -> str | None:
    """What a host wrote as a part's id; None for nothing, and for what can be none."""
    return value if isinstance(value, str) and _PART_ID.fullmatch(value) else None


def order(**fields: Value) -> bytes:
    """The JSON of a command, as over MQTT (`docs/mqtt.md`); each is a new one."""
    said = {"request_id": str(uuid.uuid4()), "issued_by": SPARKPLUG}
    return json.dumps(said | fields).encode()


def threshold_order(value: Value, running: RunningRecipe | None) -> bytes:
    """The order to judge by another threshold: of the calibration and the recipe that the host was told of.

    Only a Double or a Float is a number here: a whole one has lost its sign on the way (`Write`). What is for
    review stays so. The rig's desk refuses what is no finite number, or doesn't go with the rest.
    """
    threshold = value if isinstance(value, float) else None
    if running is None:  # told of nothing yet: refused, for a calibration's version is 1 at least
        return order(threshold=threshold, expected_version=0)
    return order(
        threshold=threshold,
        review_threshold=running.review_threshold,
        expected_version=running.calibration_version or 0,
        recipe=running.name,
    )


def answer_text(answer: Answer) -> str:
    """An answer in one line."""
    said = (answer.result_id, answer.recipe, answer.reason, answer.detail)
    return ": ".join((f"{answer.command} {answer.status}", *(part for part in said if part)))
