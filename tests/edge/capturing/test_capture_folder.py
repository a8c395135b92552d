"""What is kept stays: numbers go on, crashes and full disks lose nothing, others are kept out."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.camera.sample import Sample
from edge.captures import CaptureInfo, CaptureNote, list_captures, read_note
from edge.capturing.folder import TORN, UNDONE, CaptureFolder
from edge.clock import utc_now
from edge.errors import CaptureError
from edge.frame import Frame
from edge.testing import flat_frame
from tests.edge.capturing.scenes import info_of_frame
from tests.edge.small_disk import fill, mounted

WORKER = Path(__file__).with_name("capture_worker.py")
FRAME = flat_frame(part_height_m=0.02)
INFO = info_of_frame(FRAME, serial="42", options={"exposure": 8000.0})


def opened(path: Path, info: CaptureInfo = INFO) -> CaptureFolder:
    folder = CaptureFolder(path)
    folder.open(info)
    return folder


def keep(folder: CaptureFolder, label: str = "good", frame: Frame = FRAME, **note: object) -> Sample:
    return folder.keep(label, frame, INFO, CaptureNote(captured_utc=utc_now(), **note))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*.*")
        if path.is_file() and path.name != ".capture.lock"
    }


def check_seals(folder: Path) -> int:
    """That each image is what its note says; how many captures there are."""
    samples = list_captures(folder)
    for sample in samples:
        note = read_note(sample)
        assert note is not None
        assert {
            kind: hashlib.sha256(path.read_bytes()).hexdigest()
            for kind, path in (("rgb", sample.rgb_path), ("depth", sample.depth_path))
        } == note.sha256
        sample.frame()
    return len(samples)


class TestGoingOn:
    def test_numbers_go_on_and_what_was_there_is_not_touched(self, tmp_path: Path) -> None:
        folder = opened(tmp_path / "lot")
        names = [keep(folder).part_id, keep(folder, "dent").part_id, keep(folder, part_serial="A-1").part_id]
        folder.close()
        before = files(tmp_path)
        again = CaptureFolder(tmp_path / "lot")
        there = again.open(INFO)
        assert sorted(sample.part_id for sample in there) == sorted(names)
        assert keep(again).part_id == "good/002"
        again.close()
        assert names == ["good/000", "dent/000", "good/001"]
        assert {name: data for name, data in files(tmp_path).items() if name in before} == before
        assert check_seals(tmp_path / "lot") == 4

    def test_a_newer_version_of_the_software_goes_on(self, tmp_path: Path) -> None:
        opened(tmp_path, INFO.model_copy(update={"software_version": "0.0.1"})).close()
        opened(tmp_path).close()

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"serial": "43"}, "serial is 43 and 42 there"),
            ({"options": {"exposure": 9000.0}}, "options.exposure is 9000.0 and 8000.0 there"),
            ({"depth_unit_m": 0.001}, "depth_unit_m is 0.001 and 0.0001 there"),
            (
                {"intrinsics": INFO.intrinsics.model_copy(update={"width_px": 128})},
                "intrinsics.width_px is 128 and 64 there",
            ),
        ],
    )
    def test_another_camera_is_refused_at_the_start_and_in_the_middle(
        self, tmp_path: Path, change: dict[str, object], words: str
    ) -> None:
        other = INFO.model_copy(update=change)
        folder = opened(tmp_path)
        with pytest.raises(CaptureError, match="use a new folder") as refused:
            folder.keep("good", FRAME, other, CaptureNote(captured_utc=utc_now()))
        assert words in str(refused.value)
        folder.close()
        with pytest.raises(CaptureError, match="use a new folder") as refused:
            opened(tmp_path, other)
        assert words in str(refused.value)
        assert list(files(tmp_path)) == ["capture.yaml"]

    def test_a_folder_of_something_else_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "holiday.jpg").write_bytes(b"sea")
        with pytest.raises(CaptureError, match="holds something already"):
            CaptureFolder(tmp_path).check()
        with pytest.raises(CaptureError, match="holds something already"):
            opened(tmp_path)
        with pytest.raises(CaptureError, match="is no folder"):
            opened(tmp_path / "holiday.jpg")
        assert files(tmp_path) == {"holiday.jpg": b"sea"}

    def test_a_second_writer_is_kept_out_until_the_first_has_gone(self, tmp_path: Path) -> None:
        first = opened(tmp_path)
        with pytest.raises(CaptureError, match="another edge-capture writes into it"):
            opened(tmp_path)
        first.close()
        first.close()
        opened(tmp_path).close()


class TestTakingBack:
    def test_files_are_moved_and_the_number_is_free_again(self, tmp_path: Path) -> None:
        folder = opened(tmp_path)
        keep(folder)
        last = keep(folder, part_serial="A-2")
        data = last.rgb_path.read_bytes()
        moved_to = folder.undo(last)
        assert moved_to.parent == tmp_path / UNDONE
        assert (moved_to / "001.rgb.png").read_bytes() == data
        assert [sample.part_id for sample in list_captures(tmp_path)] == ["good/000"]
        again = keep(folder)
        assert again.part_id == "good/001"
        assert folder.undo(again) != moved_to  # in the same second
        folder.close()

    def test_what_was_taken_back_is_not_trained_on(self, tmp_path: Path) -> None:
        folder = opened(tmp_path)
        folder.undo(keep(folder))
        folder.close()
        again = CaptureFolder(tmp_path)
        assert again.open(INFO) == ()
        again.close()


class TestCrashes:
    def test_what_was_never_whole_is_moved_aside(self, tmp_path: Path) -> None:
        folder = opened(tmp_path)
        for _ in range(3):
            keep(folder)
        folder.close()
        (tmp_path / "good" / "002.rgb.png").unlink()  # as if it had not come to that
        (tmp_path / "good" / ".003.depth.png.77.tmp").write_bytes(b"\x89PNG torn")
        (tmp_path / "good" / "read me.txt").write_text("mine")
        again = CaptureFolder(tmp_path)
        assert [sample.part_id for sample in again.open(INFO)] == ["good/000", "good/001"]
        assert again.torn == 1
        assert keep(again).part_id == "good/002"
        again.close()
        [moved] = (tmp_path / TORN).iterdir()
        assert sorted(path.name for path in moved.iterdir()) == ["002.depth.png", "002.note.json"]
        assert not list(tmp_path.rglob("*.tmp"))
        assert (tmp_path / "good" / "read me.txt").read_text() == "mine"
        assert check_seals(tmp_path) == 3

    def test_killed_at_any_moment_all_that_was_told_is_there(self, tmp_path: Path) -> None:
        rng = random.Random(5)
        told: list[str] = []
        torn = 0
        for _ in range(5):
            with subprocess.Popen(
                [sys.executable, str(WORKER), str(tmp_path / "lot")], stdout=subprocess.PIPE, text=True
            ) as worker:
                assert worker.stdout is not None
                told.append(worker.stdout.readline().strip())  # it has begun
                time.sleep(rng.uniform(0.0, 0.3))
                worker.send_signal(signal.SIGKILL)
                told += [line.strip() for line in worker.stdout if line.endswith("\n")]
            folder = opened(tmp_path / "lot")
            torn += folder.torn
            folder.close()
            kept = [sample.part_id for sample in list_captures(tmp_path / "lot")]
            assert set(told) <= set(kept)
            assert len(told) == len(set(told))  # no number was given twice
        assert kept == [f"good/{number:03d}" for number in range(len(kept))]
        assert check_seals(tmp_path / "lot") == len(kept)
        assert len(kept) >= 5
        assert len(list((tmp_path / "lot" / TORN).glob("*"))) == torn


class TestFullDisk:
    def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(self, tmp_path: Path) -> None:
        with mounted(tmp_path / "disk", size_mb=1) as disk:
            folder = opened(disk / "lot")
            for _ in range(3):
                keep(folder)
            before = files(disk / "lot")
            fill(disk)
            with pytest.raises(
                CaptureError, match=r"No space left.*3 captures of before are whole: free some"
            ):
                keep(folder)
            assert files(disk / "lot") == before
            (disk / "hog").unlink()
            assert keep(folder).part_id == "good/003"
            folder.close()
            assert check_seals(disk / "lot") == 4

    def test_a_file_that_may_not_grow_leaves_nothing_behind(self, tmp_path: Path) -> None:
        opened(tmp_path).close()
        limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"{limited}import runpy, sys; sys.argv = ['w', {str(tmp_path)!r}]; "
                f"runpy.run_path({str(WORKER)!r}, run_name='__main__')",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "File too large" in done.stderr
        assert "the 0 captures of before are whole" in done.stderr
        assert set(files(tmp_path)) == {"capture.yaml"}

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_without_rights(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(CaptureError, match="Permission denied"):
            opened(tmp_path / "lot")
