"""Recordings: bit-identical when whole, an error when not; never a short success."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge.camera.config import LiveCamera, RecordingCamera
from edge.camera.librealsense import import_librealsense
from edge.camera.pairs import PairReader
from edge.camera.realsense import RealSenseSource
from edge.camera.recorder import RecordingSidecar, read_sidecar, sidecar_path
from edge.camera.recording import RecordingSource
from edge.camera.software_device import SoftwareD405
from edge.errors import CameraError, RecordingCorrupt
from edge.frame import Frame, Intrinsics
from edge.sealed import file_sha256

Recording = tuple[Path, list[Frame]]


def _play(path: Path) -> list[Frame]:
    with RecordingSource(RecordingCamera(path=path)) as source:
        return list(source)


def _same(a: list[Frame], b: list[Frame]) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(x.rgb, y.rgb)
        and np.array_equal(x.depth_m, y.depth_m)
        and x.depth_unit_m == y.depth_unit_m
        and x.intrinsics == y.intrinsics
        for x, y in zip(a, b, strict=True)
    )


def _copy(recording: Recording, folder: Path, *, sidecar: bool) -> Path:
    path = folder / "copy.db3"
    shutil.copy(recording[0], path)
    if sidecar:
        shutil.copy(sidecar_path(recording[0]), sidecar_path(path))
    return path


def test_playback_is_the_live_run_bit_for_bit_twice(recording: Recording) -> None:
    path, live = recording
    assert len(live) == 6
    assert _same(_play(path), live)
    assert _same(_play(path), live)


def _players() -> list[int]:
    """The children of this process that play a recording."""
    return [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if f"PPid:\t{os.getpid()}\n" in _text(folder / "status") and "player" in _text(folder / "cmdline")
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it ended meanwhile
        return ""


def test_what_ends_librealsense_ends_no_more_than_its_recording(recording: Recording) -> None:
    with RecordingSource(RecordingCamera(path=recording[0])) as source:
        (player,) = _players()
        os.kill(player, signal.SIGABRT)
        with pytest.raises(RecordingCorrupt, match=r"crashed on it \(SIGABRT\)"):
            list(source)
    assert _players() == []
    assert _same(_play(recording[0]), recording[1])


def test_a_recording_closed_in_the_middle_leaves_nothing(recording: Recording) -> None:
    for _ in range(3):
        with RecordingSource(RecordingCamera(path=recording[0])) as source:
            assert source.read() is not None
            source.close()
            assert _players() == []
            with pytest.raises(CameraError, match="is not open"):
                source.read()


def test_sidecar_says_what_the_file_is(recording: Recording) -> None:
    path, live = recording
    sidecar = read_sidecar(path)
    assert sidecar is not None
    assert sidecar.frames == len(live)
    assert sidecar.depth_unit_m == 0.0001
    assert sidecar.librealsense == import_librealsense().__version__
    assert sidecar.sha256 == file_sha256(path)


def test_health_says_what_was_verified(recording: Recording, tmp_path: Path) -> None:
    with RecordingSource(RecordingCamera(path=recording[0])) as source:
        assert source.health().details["sha256"] == "verified"
    bare = _copy(recording, tmp_path, sidecar=False)
    with RecordingSource(RecordingCamera(path=bare)) as source:
        assert "no copy.db3.json" in source.health().details["sha256"]
        assert "CRC" in source.health().details["damage"]
        assert source.health().serial == "simulated-noise-0"


def test_slow_reader_loses_nothing(recording: Recording) -> None:
    path, live = recording
    with RecordingSource(RecordingCamera(path=path)) as source:
        first = source.read()
        with pytest.raises(CameraError, match="open already"):
            source.open()
        time.sleep(0.5)  # by now librealsense would have played all, were it to play in real time
        rest = list(source)
        assert source.read() is None  # the end stays the end
    assert first is not None
    assert _same([first, *rest], live)


@pytest.mark.parametrize("sidecar", [True, False])
def test_flipped_bits_are_found_or_change_nothing(
    recording: Recording, tmp_path: Path, sidecar: bool
) -> None:
    path = _copy(recording, tmp_path, sidecar=sidecar)
    whole = path.read_bytes()
    places = random.Random(5)
    found = 0
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[places.randrange(len(whole))] ^= 1 << places.randrange(8)
        path.write_bytes(damaged)
        try:
            assert _same(_play(path), recording[1])
        except RecordingCorrupt:
            found += 1
    assert found == 60 if sidecar else found > 30


def test_every_bit_of_an_image_counts_without_a_sidecar(recording: Recording, tmp_path: Path) -> None:
    """In the middle of each image in turn: without the guard librealsense ends early and says nothing."""
    path = _copy(recording, tmp_path, sidecar=False)
    with closing(sqlite3.connect(path)) as database:
        images = database.execute(
            "SELECT m.id, m.data FROM messages m JOIN topics t ON t.id = m.topic_id "
            "WHERE t.name LIKE '%/image/data%'"
        ).fetchall()
        assert len(images) == 12
        for row, data in images:
            damaged = bytearray(data)
            damaged[len(data) // 2] ^= 0x10
            database.execute("UPDATE messages SET data = ? WHERE id = ?", (bytes(damaged), row))
            database.commit()
            with pytest.raises(RecordingCorrupt, match=f"row {row} .*CRC"):
                _play(path)
            database.execute("UPDATE messages SET data = ? WHERE id = ?", (data, row))
            database.commit()
    assert _same(_play(path), recording[1])


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("sidecar", [True, False])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no recording at all" * 1000),
        _truncate,
    ],
    ids=["empty", "garbage", "half"],
)
def test_no_recording_is_an_error(
    recording: Recording, tmp_path: Path, damage: Callable[[Path], object], sidecar: bool
) -> None:
    path = _copy(recording, tmp_path, sidecar=sidecar)
    damage(path)
    with pytest.raises(RecordingCorrupt):
        RecordingSource(RecordingCamera(path=path)).open()


def test_wrong_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="nowhere"):
        RecordingSource(RecordingCamera(path=tmp_path / "nowhere.db3")).open()
    assert not list(tmp_path.iterdir())  # looking creates nothing


def _sql(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement)
        database.commit()


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        # cut off by a crash: the last image has no description yet
        (
            "DELETE FROM messages WHERE id = (SELECT max(m.id) FROM messages m JOIN topics t "
            "ON t.id = m.topic_id WHERE t.name LIKE '%Depth_0/image/metadata')",
            "6 Depth images but 5 descriptions",
        ),
        # a frame's worth of depth is gone
        (
            "DELETE FROM messages WHERE topic_id IN "
            "(SELECT id FROM topics WHERE name LIKE '%Depth_0/image/data%')",
            "no message of .*Depth_0.image.data",
        ),
        # another depth unit in one frame
        (
            "UPDATE messages SET data = CAST(replace(CAST(data AS TEXT), '0.000100', '0.001000') AS BLOB) "
            "WHERE id = (SELECT max(m.id) FROM messages m JOIN topics t ON t.id = m.topic_id "
            "WHERE t.name LIKE '%Depth_Units/value')",
            "depth units",
        ),
        # a digit of the intrinsics
        (
            "UPDATE messages SET data = CAST(replace(CAST(data AS TEXT), 'fx=61.25', 'fx=61.35') AS BLOB) "
            "WHERE topic_id = (SELECT id FROM topics WHERE name LIKE '%Color_0/camera_info')",
            r"Color_0 has intrinsics .*61\.3.*61\.25",
        ),
        # a text that is no text
        (
            "UPDATE messages SET data = substr(data, 1, 12) WHERE topic_id = "
            "(SELECT id FROM topics WHERE name = '/device_0/info')",
            "text in row .*device_0/info",
        ),
        # librealsense would look for this topic's partner for ever
        (
            "UPDATE topics SET name = '/device_0/sensor_0/option/Gbin/value' WHERE name LIKE '%Gain/value'",
            "has no /device_0/sensor_0/option/Gain/value|has no /device_0/sensor_0/option/Gbin/description",
        ),
        ("DROP TABLE topics", "no such table"),
    ],
)
def test_a_recording_that_contradicts_itself_is_damaged(
    recording: Recording, tmp_path: Path, statement: str, complaint: str
) -> None:
    path = _copy(recording, tmp_path, sidecar=False)
    _sql(path, statement)
    with pytest.raises(RecordingCorrupt, match=complaint):
        RecordingSource(RecordingCamera(path=path)).open()


def test_a_recording_cut_by_whole_frames_is_found_by_its_sidecar(
    recording: Recording, tmp_path: Path
) -> None:
    path = _copy(recording, tmp_path, sidecar=True)
    _sql(path, "DELETE FROM messages WHERE timestamp > (SELECT avg(timestamp) FROM messages)")
    with pytest.raises(RecordingCorrupt, match="sha256"):
        RecordingSource(RecordingCamera(path=path)).open()


def test_a_sidecar_of_another_file_is_an_error(recording: Recording, tmp_path: Path) -> None:
    path = _copy(recording, tmp_path, sidecar=False)
    sidecar = read_sidecar(recording[0])
    assert sidecar is not None
    wrong = RecordingSidecar(**{**sidecar.model_dump(), "frames": 7})
    sidecar_path(path).write_text(wrong.model_dump_json())
    with pytest.raises(RecordingCorrupt, match="says 7"):
        RecordingSource(RecordingCamera(path=path)).open()
    sidecar_path(path).write_text("{}")
    with pytest.raises(RecordingCorrupt, match="sidecar"):
        RecordingSource(RecordingCamera(path=path)).open()


def test_a_recording_that_was_never_finished_is_an_error(recording: Recording, tmp_path: Path) -> None:
    path = _copy(recording, tmp_path, sidecar=False)
    (tmp_path / "copy.db3-journal").write_bytes(b"hot")
    with pytest.raises(RecordingCorrupt, match="never finished"):
        RecordingSource(RecordingCamera(path=path)).open()


def test_a_frame_without_a_depth_unit_is_skipped(recording: Recording, tmp_path: Path) -> None:
    """What a killed recorder leaves as its last frame; `open` refuses such a file, the reader skips it."""
    rs = import_librealsense()
    path = _copy(recording, tmp_path, sidecar=False)
    _sql(
        path,
        "DELETE FROM messages WHERE id = (SELECT max(m.id) FROM messages m JOIN topics t "
        "ON t.id = m.topic_id WHERE t.name LIKE '%Depth_0/image/metadata')",
    )
    streams = rs.config()
    streams.enable_device_from_file(str(path), repeat_playback=False)
    pipeline = rs.pipeline()
    profile = streams.resolve(rs.pipeline_wrapper(pipeline))
    profile.get_device().as_playback().set_real_time(False)
    reader = PairReader(rs, profile, "killed")
    pipeline.start(streams)
    pairs = []
    while True:
        arrived, frames = pipeline.try_wait_for_frames(500)
        if not arrived:
            break
        pairs.append(reader.pair(frames))
    pipeline.stop()
    whole = [pair for pair in pairs if pair is not None]
    assert len(whole) == 5
    assert reader.without_unit + reader.incomplete >= 1


def _camera(depth_unit_m: float = 0.0001) -> SoftwareD405:
    return SoftwareD405(Intrinsics(64, 48, 60.0, 60.0, 31.5, 23.5), depth_unit_m)


def _config(path: Path) -> LiveCamera:
    return LiveCamera(width_px=64, height_px=48, record_to=path)


@pytest.mark.parametrize("taken", ["a.db3", "a.db3.json", "a.unfinished.db3"])
def test_recording_never_overwrites(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("precious")
    with pytest.raises(CameraError, match="not overwritten"):
        RealSenseSource(_config(tmp_path / "a.db3"), device=_camera().device).open()
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "precious"


def test_recording_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    camera = _camera()
    source = RealSenseSource(_config(tmp_path / "a.db3"), device=camera.device)
    source.open()
    camera.push(1, np.zeros((48, 64, 3), np.uint8), np.full((48, 64), 1000, np.uint16))
    source.read()
    assert not (tmp_path / "a.db3").exists()
    source.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db3", "a.db3.json"]
    assert len(_play(tmp_path / "a.db3")) == 1


def test_a_killed_recorder_leaves_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.db3"
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from conftest import NoiseScene\n"
        "from edge.camera.config import SimulatedCamera\n"
        "from edge.camera.simulated import SimulatedSource\n"
        f"config = SimulatedCamera(product='noise', record_to=Path({str(path)!r}))\n"
        "with SimulatedSource(config, NoiseScene(100000)) as source:\n"
        "    for frame in source:\n"
        "        print(frame.seq, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as recorder:
        assert recorder.stdout is not None
        for line in recorder.stdout:
            if int(line) == 20:
                break
        recorder.kill()
    assert not path.exists()
    assert not sidecar_path(path).exists()
    unfinished = tmp_path / "a.unfinished.db3"
    assert unfinished.exists()
    with pytest.raises(RecordingCorrupt, match="never finished"):
        RecordingSource(RecordingCamera(path=unfinished)).open()


def test_recording_without_a_frame_leaves_nothing(tmp_path: Path) -> None:
    with RealSenseSource(_config(tmp_path / "a.db3"), device=_camera().device):
        pass
    assert list(tmp_path.iterdir()) == []


def test_recording_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="not a folder"):
        RealSenseSource(_config(tmp_path / "no" / "a.db3"), device=_camera().device).open()


def test_a_depth_unit_that_a_recording_would_round_is_refused(tmp_path: Path) -> None:
    camera = _camera(depth_unit_m=0.0000625)
    with pytest.raises(CameraError, match="six decimals"):
        RealSenseSource(_config(tmp_path / "a.db3"), device=camera.device).open()
    assert list(tmp_path.iterdir()) == []
