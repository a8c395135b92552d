"""Recordings of earlier librealsenses, made by them in processes of their own: `.bag`, and 2.58's `.db3`."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.camera.config import RecordingCamera
from edge.camera.recorder import RecordingSidecar, sidecar_path
from edge.camera.recording import RecordingSource
from edge.errors import RecordingCorrupt
from edge.frame import Frame
from edge.sealed import file_sha256

OLD = "2.57.7.10387"  # the last that writes .bag
PACKED = "2.58.2.10647"  # writes .db3 with Zstandard
FRAMES = 5


def _librealsense(version: str) -> Path:
    """A folder with another librealsense than the installed one; filled once, under build/."""
    folder = Path(__file__).parents[3] / "build" / f"librealsense-{version}"
    if not (folder / "pyrealsense2").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*command, "--target", str(folder), f"pyrealsense2=={version}"], check=True)
    return folder


def _record(version: str, path: Path) -> bytes:
    subprocess.run(
        [sys.executable, str(Path(__file__).parent / "bag_writer.py"), str(path), str(FRAMES)],
        check=True,
        env={**os.environ, "PYTHONPATH": str(_librealsense(version))},
    )
    return path.read_bytes()


@pytest.fixture(scope="session")
def bag(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return _record(OLD, tmp_path_factory.mktemp("bag") / "noise.bag")


def _play(path: Path) -> list[Frame]:
    with RecordingSource(RecordingCamera(path=path)) as source:
        return list(source)


def _is_whole(frames: list[Frame], scene: Any) -> bool:
    shots = [scene.shot(index) for index in range(FRAMES)]
    return len(frames) == FRAMES and all(
        np.array_equal(frame.rgb, shot.rgb)
        and np.array_equal(frame.depth_m, shot.depth_m)
        and frame.intrinsics == scene.intrinsics
        and frame.depth_unit_m == scene.depth_unit_m
        for frame, shot in zip(frames, shots, strict=True)
    )


def test_a_bag_plays_bit_for_bit(bag: bytes, noise_scene: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.bag"
    path.write_bytes(bag)
    assert _is_whole(_play(path), noise_scene(FRAMES))
    with RecordingSource(RecordingCamera(path=path)) as source:
        assert "checksum" in source.health().details["damage"]
        assert source.health().serial == "bag"


def test_flipped_bits_are_found_or_change_nothing(bag: bytes, noise_scene: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.bag"
    places = random.Random(11)
    found = 0
    for _ in range(40):
        damaged = bytearray(bag)
        damaged[places.randrange(len(bag))] ^= 1 << places.randrange(8)
        path.write_bytes(damaged)
        try:
            assert _is_whole(_play(path), noise_scene(FRAMES))
        except RecordingCorrupt:
            found += 1
    assert found > 20


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_part_of_a_bag_is_an_error(bag: bytes, tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.bag"
    path.write_bytes(bag[: int(keep if keep >= 1 else keep * len(bag))])
    with pytest.raises(RecordingCorrupt):
        RecordingSource(RecordingCamera(path=path)).open()


def test_garbage_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.bag"
    path.write_bytes(b"#ROSBAG V2.0\n" + bytes(range(256)) * 40)
    with pytest.raises(RecordingCorrupt):
        RecordingSource(RecordingCamera(path=path)).open()


def test_a_sidecar_finds_every_flip(bag: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.bag"
    path.write_bytes(bag)
    sidecar = RecordingSidecar(
        frames=FRAMES, depth_unit_m=0.0001, librealsense=OLD, edge_inspect="0", sha256=file_sha256(path)
    )
    sidecar_path(path).write_text(sidecar.model_dump_json())
    assert len(_play(path)) == FRAMES
    damaged = bytearray(bag)
    damaged[50] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(RecordingCorrupt, match="sha256"):
        _play(path)


def test_a_packed_db3_plays_and_says_that_it_has_no_checksums(noise_scene: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.db3"
    data = _record(PACKED, path)
    assert _is_whole(_play(path), noise_scene(FRAMES))
    with RecordingSource(RecordingCamera(path=path)) as source:
        assert "no checksum" in source.health().details["damage"]
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(RecordingCorrupt):
        _play(path)
