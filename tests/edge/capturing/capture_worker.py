"""Keeps captures without end, and says the name of each once it is kept; to be killed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge.captures import CaptureInfo, CaptureNote, IntrinsicsInfo
from edge.capturing.folder import CaptureFolder
from edge.clock import utc_now
from edge.testing import flat_frame


def work(path: Path) -> None:
    frame = flat_frame(part_height_m=0.02)
    info = CaptureInfo(
        depth_unit_m=frame.depth_unit_m,
        intrinsics=IntrinsicsInfo.of(frame.intrinsics),
        serial="42",
        options={"exposure": 8000.0},
    )
    folder = CaptureFolder(path)
    folder.open(info)
    rng = np.random.default_rng()
    while True:
        shown = replace(frame, rgb=rng.integers(0, 256, frame.rgb.shape, dtype=np.uint8))
        kept = folder.keep("good", shown, info, CaptureNote(captured_utc=utc_now()))
        sys.stdout.write(kept.part_id + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
