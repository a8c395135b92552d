"""Simulated parts as captures on disk, in the layout that a real rig writes."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge.captures import CaptureInfo, IntrinsicsInfo, write_capture, write_capture_info
from edge.errors import CaptureError
from edge.frame import Frame
from edge.simulation.rig import RigScene
from edge.simulation.scene import Scene, Shot

__all__ = ["SimulatedLots", "frame_from_shot", "write_dataset", "write_lot"]

GOOD = "good"
_SERIAL = "simulated"


@dataclass(frozen=True, slots=True)
class SimulatedLots:
    """Where the two lots of a data set lie, and how many captures of each label they hold."""

    train: Path
    test: Path
    train_counts: dict[str, int]
    test_counts: dict[str, int]


def frame_from_shot(scene: Scene, index: int, shot: Shot) -> Frame:
    """The frame that a camera would hand over for a shot, taken now."""
    return Frame(
        rgb=shot.rgb,
        depth_m=shot.depth_m,
        depth_unit_m=scene.depth_unit_m,
        intrinsics=scene.intrinsics,
        captured_ns=time.monotonic_ns(),
        captured_utc=datetime.now(timezone.utc),
        seq=index,
        source=_SERIAL,
        part_id=shot.part_id,
    )


def write_lot(scene: Scene, folder: Path, parts: int) -> dict[str, int]:
    """Write the first `parts` shots of a scene into a new folder of captures; the count of each label.

    Good parts go into good/, defective ones with their true masks into a folder for each defect; an empty
    tray is no part: it is passed over. Raises `CaptureError` where the folder holds something already, the
    scene ends too soon, or the disk is full.
    """
    if folder.exists() and any(folder.iterdir()):
        raise CaptureError(f"{folder}: holds something already; name a new folder")
    info = CaptureInfo(
        depth_unit_m=scene.depth_unit_m, intrinsics=IntrinsicsInfo.of(scene.intrinsics), serial=_SERIAL
    )
    write_capture_info(folder, info)
    counts: Counter[str] = Counter()
    for index in range(parts):
        shot = scene.shot(index)
        if shot is None:
            raise CaptureError(
                f"{folder}: the scene ended after {index} of {parts} shots; ask for fewer parts"
            )
        if shot.part_id.startswith("empty-"):
            continue
        label = shot.defect or GOOD
        mask = shot.truth_mask if shot.defect is not None else None
        write_capture(folder, label, frame_from_shot(scene, index, shot), mask)
        counts[label] += 1
    return dict(counts)


def write_dataset(
    folder: Path,
    product: str,
    *,
    train_seed: int,
    test_seed: int,
    train_parts: int,
    test_parts: int,
    defective_share: float = 0.5,
) -> SimulatedLots:
    """Write a data set of one product: a lot of good parts to train with, and a mixed lot to test with.

    They lie in `<folder>/<product>/train-<seed>` and `<folder>/<product>/test-<seed>`. The seeds must
    differ: a test on the seed that was trained on would see the same rig and the same parts. Raises
    `CaptureError` (see `write_lot`) and `ConfigError`.
    """
    if train_seed == test_seed:
        raise CaptureError(
            f"train_seed and test_seed are both {train_seed}; a test on the same parts proves nothing, use "
            "two different seeds"
        )
    train, test = folder / product / f"train-{train_seed}", folder / product / f"test-{test_seed}"
    good = RigScene(product, train_seed, defective_share=0.0)
    mixed = RigScene(product, test_seed, defective_share=defective_share)
    return SimulatedLots(
        train=train,
        test=test,
        train_counts=write_lot(good, train, train_parts),
        test_counts=write_lot(mixed, test, test_parts),
    )
