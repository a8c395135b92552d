"""Collect captures on a rig: lay a part down, press Enter, and the next number of the label is written.

    python docs/examples/collect.py rig.yaml captures/gland/2026-11-22-lot1 --label good --count 20

`rig.yaml` is the rig's configuration (its camera is used, nothing else). Run it again to go on: nothing is
written over. `--no-wait` takes a part per frame, for a simulated rig.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.camera.factory import source_from_config
from edge.captures import CaptureInfo, IntrinsicsInfo, write_capture, write_capture_info
from edge.commands.common import ended_by_errors
from edge.config import load_rig_config

_WARM_UP_FRAMES = 10
"""Frames that lie in the camera's queue from before Enter was pressed."""


def collect(
    rig: Annotated[Path, typer.Argument(help="The rig's YAML.")],
    folder: Annotated[Path, typer.Argument(help="Folder of one lot; made if it is not there.")],
    label: Annotated[str, typer.Option(help="good, or the name of a defect.")] = "good",
    count: Annotated[int, typer.Option(help="How many parts.")] = 20,
    wait: Annotated[bool, typer.Option(help="Wait for Enter before each part.")] = True,
) -> None:
    """Write `count` captures of one label."""
    console = Console()
    with ended_by_errors(), source_from_config(load_rig_config(rig).camera) as camera:
        for taken in range(count):
            if wait:
                console.input(f"part {taken + 1} of {count} ({label}): lay it down, then Enter ")
                for _ in range(_WARM_UP_FRAMES):
                    camera.read()
            frame = camera.read()
            if frame is None:
                console.print(f"{camera.name} has ended after {taken} parts")
                return
            info = CaptureInfo(
                depth_unit_m=frame.depth_unit_m,
                intrinsics=IntrinsicsInfo.of(frame.intrinsics),
                serial=camera.health().serial,
            )
            write_capture_info(folder, info)
            sample = write_capture(folder, label, frame)
            console.print(f"  {sample.rgb_path}")


if __name__ == "__main__":
    typer.run(collect)
