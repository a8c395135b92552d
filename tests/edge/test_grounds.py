"""What the trigger has found of a frame is not found again, and changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.frame import Frame
from edge.framing import FramingConfig
from edge.grounds import Grounds
from edge.inspector import Inspector
from edge.preprocessing import Ground, Preprocessing, ground_of, preprocess
from edge.simulation.dataset import frame_from_shot
from edge.simulation.rig import RigScene
from edge.testing import FakeRunner, fake_bundle, flat_frame
from edge.trigger import trigger_from_config
from edge.trigger_config import PartPresentTrigger

PREPROCESSING = Preprocessing(framing=FramingConfig(mode="part", window_px=150, upright="axis"))
SCENE = RigScene("lattice", 5, parts=3, defective_share=0.0, width_px=320, height_px=240)
TENSORS = {"image", "normals", "z", "depth", "mask"}


def part_frame(number: int = 0) -> Frame:
    shot = SCENE.shot(number)
    assert shot is not None
    return frame_from_shot(SCENE, number, shot)


def known(frame: Frame, preprocessing: Preprocessing = PREPROCESSING) -> Ground:
    return ground_of(frame.depth_m, frame.intrinsics, preprocessing.foreground)


@pytest.mark.parametrize("hole_passes", [0, 3])
def test_a_ground_that_is_known_gives_the_same_tensors(hole_passes: int) -> None:
    preprocessing = PREPROCESSING.model_copy(update={"hole_passes": hole_passes})
    frame = part_frame()
    anew = preprocess(frame, preprocessing, TENSORS)
    shared = preprocess(frame, preprocessing, TENSORS, ground=known(frame))
    assert anew.view == shared.view
    assert anew.box == shared.box
    assert anew.box is not None
    for name in TENSORS:
        assert np.array_equal(anew.tensors[name], shared.tensors[name])


def test_what_the_trigger_found_is_what_the_inspector_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    grounds = Grounds()
    config = PartPresentTrigger(kind="part_present", min_area_mm2=100.0, still_frames=2)
    trigger = trigger_from_config(config, PREPROCESSING.foreground, grounds)
    bundle = fake_bundle(preprocessing=PREPROCESSING)
    inspector = Inspector(bundle, FakeRunner(bundle), grounds)
    frames = [replace(part_frame(), seq=seq) for seq in range(4)]
    due = [frame for frame in frames if trigger.due(frame)]
    assert len(due) == 1
    grounds_found: list[Frame] = []

    def counted(*_: object) -> Ground:
        grounds_found.append(due[0])
        return known(due[0])

    monkeypatch.setattr("edge.preprocessing.ground_of", counted)
    first = inspector.prepare(due[0])
    assert grounds_found == []
    again = inspector.prepare(due[0])  # it was taken: found anew
    assert grounds_found == due
    assert first.prepared is not None
    assert again.prepared is not None
    assert np.array_equal(first.prepared.tensors["mask"], again.prepared.tensors["mask"])


def test_only_the_last_few_are_kept_each_for_its_own_frame() -> None:
    grounds, frames = Grounds(), [flat_frame(seq, part_height_m=0.02) for seq in range(6)]
    found = [known(frame) for frame in frames]
    for frame, ground in zip(frames, found, strict=True):
        grounds.keep(frame, ground)
    assert grounds.take(replace(frames[5])) is None  # alike, but not that frame
    assert [grounds.take(frame) for frame in frames] == [None, None, *found[2:]]
    assert grounds.take(frames[5]) is None
