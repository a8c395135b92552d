"""The simulated rig: each shot becomes one frame, with its part's name, through the real pipeline."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from edge.camera.config import SimulatedCamera
from edge.camera.factory import source_from_config
from edge.camera.simulated import SimulatedSource
from edge.camera.truth import read_truth, read_truth_mask
from edge.errors import CameraError, CameraStalled, FrameError
from edge.frame import Intrinsics
from edge.simulation.scene import Scene, Shot


def _source(scene: Scene, **config: object) -> SimulatedSource:
    return SimulatedSource(SimulatedCamera.model_validate({"product": "noise", **config}), scene)


def test_every_shot_arrives_once_with_its_part(noise_scene: type) -> None:
    scene = noise_scene(40)
    with _source(scene) as source:
        for index, frame in enumerate(source):
            shot = scene.shot(index)
            assert frame.part_id == shot.part_id
            assert frame.seq == index
            assert np.array_equal(frame.rgb, shot.rgb)
            assert np.array_equal(frame.depth_m, shot.depth_m)
            assert frame.intrinsics == scene.intrinsics
        assert source.read() is None  # the end stays the end
        assert source.health().frames == 40
        assert source.health().gaps == 0


def test_a_reopened_rig_begins_again(noise_scene: type) -> None:
    source = _source(noise_scene(3))
    runs = []
    for _ in range(2):
        with source:
            runs.append([frame.part_id for frame in source])
    assert runs == [["part-000", "part-001", "part-002"]] * 2


def test_slow_reader_loses_no_part(noise_scene: type) -> None:
    with _source(noise_scene(3)) as source:
        parts = []
        for frame in source:
            parts.append(frame.part_id)
            time.sleep(0.2)  # several frames of a real camera
    assert parts == ["part-000", "part-001", "part-002"]


def test_parts_come_no_sooner_than_the_interval(noise_scene: type) -> None:
    with _source(noise_scene(3), interval_s=0.2) as source:
        frames = list(source)
    # Each is due 0.2 s after the one before was due; the frame's way through librealsense may vary.
    assert frames[2].captured_ns - frames[0].captured_ns > 0.3e9


def test_waiting_for_a_part_past_the_timeout_is_a_stall_and_loses_none(noise_scene: type) -> None:
    with _source(noise_scene(2), interval_s=0.5) as source:
        source.read()
        with pytest.raises(CameraStalled, match="next part"):
            source.read(timeout_s=0.05)
        frame = source.read()
        assert frame is not None
        assert frame.part_id == "part-001"


def test_truth_is_written_beside_and_not_into_the_frames(noise_scene: type, tmp_path: Path) -> None:
    scene = noise_scene(4)
    folder = tmp_path / "truth"
    with _source(scene, truth_to=str(folder)) as source:
        source.read()
        assert [row.part_id for row in read_truth(folder)] == ["part-000"]  # no later than the frame
        list(source)
    rows = read_truth(folder)
    assert [(row.part_id, row.defect) for row in rows] == [
        ("part-000", None),
        ("part-001", "dent"),
        ("part-002", None),
        ("part-003", "dent"),
    ]
    for row in rows:
        mask = read_truth_mask(folder, row)
        if row.defect is None:
            assert mask is None
        else:
            assert mask is not None
            assert np.array_equal(mask, scene.shot(row.shot).truth_mask)
    assert json.loads((folder / "truth.jsonl").read_text().splitlines()[1])["mask"] == "masks/000001.png"


def test_truth_of_another_run_is_not_overwritten(noise_scene: type, tmp_path: Path) -> None:
    folder = tmp_path / "truth"
    with _source(noise_scene(1), truth_to=str(folder)) as source:
        list(source)
    before = (folder / "truth.jsonl").read_bytes()
    with pytest.raises(CameraError, match="another run"):
        _source(noise_scene(1), truth_to=str(folder)).open()
    assert (folder / "truth.jsonl").read_bytes() == before


class _OffGrid:
    depth_unit_m = 0.0001
    intrinsics = Intrinsics(64, 48, 60.0, 60.0, 31.5, 23.5)

    def shot(self, index: int) -> Shot | None:
        depth_m = np.full((48, 64), 0.12345, np.float32)
        return Shot(np.zeros((48, 64, 3), np.uint8), depth_m, np.zeros((48, 64), bool), "p", None)


def test_depth_between_two_units_is_refused() -> None:
    with _source(_OffGrid()) as source, pytest.raises(FrameError, match="off the grid"):
        source.read()


def test_the_rig_of_the_simulation_runs() -> None:
    config = SimulatedCamera(product="plate", seed=7, parts=2, defective_share=1.0)
    source = source_from_config(config)
    with source:
        frames = list(source)
    assert len(frames) == 2
    assert len({frame.part_id for frame in frames}) == 2
    again = source_from_config(config)
    with again:
        for before, after in zip(frames, again, strict=True):
            assert np.array_equal(before.rgb, after.rgb)
            assert np.array_equal(before.depth_m, after.depth_m)
