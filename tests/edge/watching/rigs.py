"""Messages of rigs to watch, made of the examples in the documentation."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from edge.inbox import Incoming
from edge.schemas import TOPICS
from edge.watching.fleet import Fleet

__all__ = ["NOON", "ROOT", "example", "fleet_at_noon", "hear", "plant_of_rigs"]

NOON = datetime(2030, 1, 31, 12, 0, 1, tzinfo=timezone.utc)
ROOT = "acme/dresden/assembly/line-3/cell-2/inspection"
_EXAMPLES = {entry.topic: entry.example for entry in TOPICS if entry.example is not None}


def example(topic: str, **changes: Any) -> bytes:
    """The documentation's example of a message, with other values; a dict changes a section's."""
    message: dict[str, Any] = json.loads(_EXAMPLES[topic.replace("state/last_verdict", "verdict")].to_json())
    for key, value in changes.items():
        inner = message.get(key)
        message[key] = inner | value if isinstance(value, dict) and isinstance(inner, dict) else value
    return json.dumps(message).encode()


def hear(
    fleet: Fleet,
    topic: str,
    payload: bytes,
    *,
    root: str = ROOT,
    at_s: float = 0.0,
    retained: bool = False,
) -> None:
    fleet.hear(Incoming(f"{root}/{topic}", payload, retained, received_ns=round(at_s * 1e9)))


def fleet_at_noon() -> Fleet:
    return Fleet(now=lambda: NOON)


def plant_of_rigs(now_s: float) -> Fleet:
    """Rigs as a person might find them: well, drifting, without a camera, gone, silent, and one that lies."""
    fleet = fleet_at_noon()
    good = {"outcome": "pass", "score": 0.41}
    gone = {"state": "offline", "reason": "connection_lost"}
    away = {"down_s": 12.0, "down_reason": "camera_lost"}
    scene = {"warnings": [{"reason": "light_low"}]}
    score = {"warning": "scores_drifted_up"}
    plates: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any], float]] = {
        "cell-1": ({}, {}, good, {}, 2),
        "cell-2": ({}, {}, {}, {"scene": scene, "score": score}, 3),
        "cell-3": ({}, {"state": "Error", "reason": "camera_lost"}, good, {"camera": away}, 1),
        "cell-4": (gone, {}, good, {}, 4000),
        "cell-5": ({}, {}, good, {"clock_synced": False, "broker": {"verdicts_pending": 12}}, 95),
        "cell-6": ({}, {}, {"outcome": "no_decision", "reason": "no_part", "score": None}, {}, 2),
    }
    for cell, (availability, machine, verdict, health, age_s) in plates.items():
        root = f"acme/dresden/assembly/line-3/{cell}/inspection"
        for topic, changes in (
            ("availability", availability),
            ("state/machine", machine),
            ("state/recipe", {"loading": "gland" if cell == "cell-6" else None}),
            ("verdict", verdict),
            ("health", health),
        ):
            hear(fleet, topic, example(topic, **changes), root=root, at_s=now_s - age_s)
    for payload in (b"\x1b[2J", b'{"state": 1}', b"[" * 5000):
        hear(fleet, "state/machine", payload, root=root, at_s=now_s)
    return fleet
