"""docs/sparkplug.md shows the metrics that there are."""

from __future__ import annotations

import re
from pathlib import Path

from edge.sparkplug.commands import metrics_for
from edge.sparkplug.metrics import HEALTH, RECIPE, STATE, VERDICT, Described

PAGE = (Path(__file__).parents[3] / "docs" / "sparkplug.md").read_text(encoding="utf-8")
TYPES = {"INT64": "Int64", "DOUBLE": "Double", "BOOLEAN": "Boolean", "STRING": "String"}


def row(metric: Described) -> str:
    return f"| `{metric.name}` | {TYPES[metric.datatype.name]} | {metric.unit or ''} | {metric.says} |"


def tables() -> dict[str, list[str]]:
    return {
        "verdict": [row(read.metric) for read in VERDICT],
        "health": [row(read.metric) for read in HEALTH],
        "state": [row(read.metric) for read in STATE],
        "recipe": [row(read.metric) for read in RECIPE],
        "commands": [row(metric) for metric in metrics_for(triggerable=True, several_recipes=True)],
    }


def test_the_tables_are_the_code_s() -> None:
    for name, rows in tables().items():
        found = re.search(rf"<!-- metrics: {name} -->\n\n\|.*\n\|.*\n((?:\|.*\n)+)", PAGE)
        assert found, name
        assert found[1].splitlines() == rows, "\n".join(rows)
