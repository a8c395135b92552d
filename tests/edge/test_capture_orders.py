"""`cmd/capture`: one frame that came after the command, kept whole or not at all, and named in the answer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from edge.camera.source import SourceHealth
from edge.capture_orders import capture_handler
from edge.captures import list_captures, read_note
from edge.clock import Session
from edge.disk import lock_file
from edge.frame import Frame
from edge.order_messages import Answer
from edge.orders import OrderDesk
from edge.testing import flat_frame
from edge.topics import Topics
from edge.work.frame_requests import FrameRequests
from tests.edge.small_disk import fill, mounted

SESSION = Session(epoch=1, boot_id="boot", software_version="0")
NOON = datetime(2030, 1, 31, 12, tzinfo=timezone.utc)


def frame_now(seq: int = 0, stale: str | None = None) -> Frame:
    """A frame that arrives now."""
    frame = flat_frame(seq)
    return replace(frame, captured_ns=time.monotonic_ns(), captured_utc=NOON, stale=stale, depth_unit_m=1e-4)


class Eye:
    """A daemon that sees what the test shows it."""

    def __init__(self, folder: Path, keep_free_bytes: int = 0) -> None:
        self.product = "cable/gland"
        self.serial = "1"
        self.requests = FrameRequests()
        self.desk = OrderDesk(
            (capture_handler(self, folder, self.later, keep_free_bytes=keep_free_bytes),),
            Topics("r"),
            SESSION,
            lambda *_: None,
        )
        self._asked = 0

    def next_frame(self, after_ns: int, timeout_s: float) -> Future[Frame | None]:
        return self.requests.ask(after_ns, timeout_s)

    def camera_health(self) -> SourceHealth:
        return SourceHealth(frames=1, serial=self.serial, options={"gain": 16.0})

    def later(self, work: Callable[[], None]) -> None:
        work()

    def ask(self, label: str = "good", **fields: object) -> Future[Answer]:
        self._asked += 1
        said = {"request_id": str(self._asked), "issued_by": "dashboard", "label": label} | fields
        return self.desk.ask("capture", json.dumps(said).encode())

    def capture(self, label: str = "good", **fields: object) -> Answer:
        future = self.ask(label, **fields)
        self.requests.give(frame_now())
        return future.result(0)


def test_the_answer_names_the_file_and_all_of_it_is_there(tmp_path: Path) -> None:
    eye = Eye(tmp_path / "captures")
    answers = [eye.capture("good"), eye.capture("good", note="seam"), eye.capture("scratch")]
    lot = tmp_path / "captures" / "cable_gland" / "2030-01-31-rig"
    assert [answer.status for answer in answers] == ["done"] * 3
    assert [answer.file for answer in answers] == [
        str(lot / "good" / "000.rgb.png"),
        str(lot / "good" / "001.rgb.png"),
        str(lot / "scratch" / "000.rgb.png"),
    ]
    samples = list_captures(lot)
    assert [sample.part_id for sample in samples] == ["good/000", "good/001", "scratch/000"]
    assert (samples[0].frame().rgb == frame_now().rgb).all()
    note = read_note(samples[1])
    assert note is not None
    assert (note.note, note.asked_by, note.captured_utc) == ("seam", "dashboard", NOON)


def test_it_is_a_frame_that_arrived_after_the_command_and_shows_what_is_there(tmp_path: Path) -> None:
    eye = Eye(tmp_path)
    before = frame_now(1)
    future = eye.ask()
    eye.requests.give(before)
    eye.requests.give(frame_now(2, stale="the same picture again"))
    assert not future.done()
    eye.requests.give(frame_now(3))
    assert future.result(0).status == "done"
    eye.requests.give(frame_now(4))
    assert len(list(tmp_path.rglob("*.rgb.png"))) == 1


def test_where_no_frame_comes_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eye = Eye(tmp_path)
    future = eye.ask()
    eye.requests.expire()
    assert not future.done()
    now_ns = time.monotonic_ns()
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns + 11 * 10**9)
    eye.requests.expire()
    assert future.result(0).reason == "no_frame"
    assert list(tmp_path.iterdir()) == []


def test_few_at_once(tmp_path: Path) -> None:
    eye = Eye(tmp_path)
    asked = [eye.ask() for _ in range(5)]
    assert asked[4].result(0).reason == "capture_busy"
    eye.requests.give(frame_now())
    assert [future.result(0).status for future in asked[:4]] == ["done"] * 4
    assert len({future.result(0).file for future in asked[:4]}) == 4
    assert eye.capture().status == "done"


def test_another_camera_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    eye = Eye(tmp_path)
    first = eye.capture()
    eye.serial = "2"
    second = eye.capture()
    eye.serial = "1"
    third = eye.capture()
    lots = [Path(str(answer.file)).parents[1].name for answer in (first, second, third)]
    assert lots == ["2030-01-31-rig", "2030-01-31-rig-2", "2030-01-31-rig"]


@pytest.mark.parametrize("label", ["", "Good", "../x", ".torn", "a/b"])
def test_what_is_no_label_is_refused(tmp_path: Path, label: str) -> None:
    assert Eye(tmp_path).ask(label).result(0).reason == "malformed"


def test_while_somebody_collects_there_it_is_refused(tmp_path: Path) -> None:
    eye = Eye(tmp_path)
    lot = Path(str(eye.capture().file)).parents[1]
    holder = lock_file(lot / ".capture.lock")
    try:
        assert eye.capture().reason == "capture_error"
    finally:
        os.close(holder)
    assert eye.capture().status == "done"


def test_where_little_is_free_it_is_refused(tmp_path: Path) -> None:
    answer = Eye(tmp_path / "captures", keep_free_bytes=1 << 60).capture()
    assert answer.reason == "disk_full"
    assert list((tmp_path / "captures").iterdir()) == []


def test_on_a_full_disk_nothing_of_it_stays(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", size_mb=2) as disk:
        eye = Eye(disk / "captures")
        assert eye.capture().status == "done"
        fill(disk)
        answer = eye.capture("scratch")
        assert (answer.status, answer.reason) == ("refused", "disk_full")
        assert list((disk / "captures").rglob("scratch/*")) == []
        (disk / "hog").unlink()
        assert eye.capture().status == "done"


def test_a_folder_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert Eye(tmp_path / "file" / "captures").capture().reason == "capture_error"
