"""`python -m tests.edge.watching.draw docs/images/watch.svg`: the picture in docs/watch.md."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console

from edge.watching.table import rig_table
from tests.edge.watching.rigs import plant_of_rigs


def drawing() -> str:
    """The table of `plant_of_rigs` as SVG, always the same."""
    console = Console(
        record=True, width=160, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(rig_table(plant_of_rigs(10_000.0).rows(10_000.0), "mqtt.acme.example:8883"))
    return console.export_svg(title="edge-watch", unique_id="watch")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(drawing(), encoding="utf-8")
