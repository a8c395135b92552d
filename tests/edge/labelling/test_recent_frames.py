"""The thread that keeps frames: which it takes, what it drops, and that nobody waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.captures import list_captures
from edge.inspection import Outcome
from edge.labelling.choosing import Choice
from edge.labelling.config import CapturesConfig
from edge.labelling.filing import Filed
from edge.labelling.keeping import RecentFrames
from edge.labelling.store import RecentStore
from edge.messages import TriggerKind
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from tests.edge.labelling.parts import HEALTH, frame_of, said, store_in, verdict_of

PASS, REVIEW, FAIL = Outcome.PASS, Outcome.REVIEW, Outcome.FAIL
EACH = CapturesConfig(passed_every_s=0, free_running_every_s=0)


def recent_in(folder: Path, config: CapturesConfig = EACH) -> RecentFrames:
    return RecentFrames(
        folder / "recent",
        config,
        captures=folder / "captures",
        outbox=folder / "outbox",
        keep_free_bytes=0,
    )


@contextmanager
def with_outbox(folder: Path, parts: int) -> Iterator[Outbox]:
    with Outbox(folder / "outbox", OutboxConfig(keep_free_mb=0)) as outbox:
        for seq in range(parts):
            outbox.commit(verdict_of(seq))
        yield outbox


def offer(recent: RecentFrames, seq: int, outcome: Outcome = FAIL) -> None:
    recent.offer(frame_of(seq), verdict_of(seq, outcome), lambda: HEALTH)


def told(recent: RecentFrames, result_id: str, position: int) -> Filed:
    """What became of that label."""
    answers: list[Filed] = []
    there = threading.Event()

    def then(filed: Filed) -> None:
        answers.append(filed)
        there.set()

    recent.file(result_id, position, then)
    assert there.wait(60)
    return answers[0]


class TestWhichFramesAreKept:
    def chosen(self, config: CapturesConfig, *parts: tuple[float, Outcome, TriggerKind], **more: bool) -> str:
        """Which of the parts, at their times in seconds, as 1 and 0."""
        now_s = 0.0
        choice = Choice(config, frames_are_parts=more.get("frames_are_parts", False), clock_s=lambda: now_s)
        found = ""
        for now_s, outcome, trigger in parts:  # noqa: B007  # the clock reads it
            found += str(int(choice.objection(verdict_of(0, outcome, trigger=trigger)) is None))
        return found

    def test_each_rejected_part_and_a_passed_one_now_and_then(self) -> None:
        command = TriggerKind.COMMAND
        parts = [
            (0, PASS),
            (1, PASS),
            (1, FAIL),
            (2, REVIEW),
            (2.1, FAIL),
            (9.9, PASS),
            (10, PASS),
            (19, PASS),
        ]
        kept = self.chosen(CapturesConfig(), *((s, outcome, command) for s, outcome in parts))
        assert kept == "10111010"
        assert self.chosen(EACH, *((s, outcome, command) for s, outcome in parts)) == "11111111"

    @pytest.mark.parametrize("trigger", [TriggerKind.EVERY_FRAME, TriggerKind.INTERVAL])
    def test_in_free_running_a_rejected_one_now_and_then(self, trigger: TriggerKind) -> None:
        parts = [(0.0, PASS), (0.1, FAIL), (0.2, FAIL), (5.0, REVIEW), (10.1, FAIL), (30.0, PASS)]
        frames = [(s, outcome, trigger) for s, outcome in parts]
        assert self.chosen(CapturesConfig(), *frames) == "010010"
        assert self.chosen(CapturesConfig(), *frames, frames_are_parts=True) == "111111"

    def test_none_that_was_not_judged_and_none_where_none_are_wanted(self) -> None:
        for outcome in (Outcome.NO_DECISION, Outcome.ERROR):
            assert self.chosen(EACH, (0.0, outcome, TriggerKind.COMMAND)) == "0"
        assert self.chosen(CapturesConfig(recent_parts=0), (0.0, FAIL, TriggerKind.COMMAND)) == "0"


def test_four_wait_and_a_rejected_part_takes_the_place_of_a_passed_one(tmp_path: Path) -> None:
    recent = recent_in(tmp_path)
    with with_outbox(tmp_path, 9) as outbox:
        for seq, outcome in enumerate([PASS, FAIL, PASS, FAIL, PASS, FAIL, FAIL, FAIL]):
            offer(recent, seq, outcome)  # its thread does not run yet: the disk takes nothing
        assert recent.health().dropped == 4
        with recent.at_work():
            why = told(recent, *said(outbox, 2, "good"))
            assert (why.file, why.reason) == (None, "frame_gone")
            assert why.detail == "frames came faster than the disk took them"
            assert told(recent, *said(outbox, 6, "good")).file is not None
            assert recent.health().frames == 3
    assert store_in(tmp_path / "recent").ids() == ("result-1", "result-3", "result-5")


def test_a_label_finds_the_frame_that_was_offered_just_before(tmp_path: Path) -> None:
    with with_outbox(tmp_path, 2) as outbox, recent_in(tmp_path).at_work() as recent:
        offer(recent, 0)
        filed = told(recent, *said(outbox, 0, "dent"))
        [sample] = list_captures(tmp_path / "captures" / "plate" / "2030-01-31-labelled")
        assert filed == Filed(sample.rgb_path)
        np.testing.assert_array_equal(sample.frame().depth_m, frame_of(0).depth_m)
        assert (recent.health().labelled, recent.health().frames) == (1, 0)


def test_what_was_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    with with_outbox(tmp_path, 3) as outbox:
        with recent_in(tmp_path).at_work() as recent:
            for seq in range(3):
                offer(recent, seq)
        with recent_in(tmp_path).at_work() as recent:
            assert told(recent, *said(outbox, 1, "dent")).file is not None
            assert recent.health().frames == 2


def test_why_there_is_no_frame_is_said(tmp_path: Path) -> None:
    config = CapturesConfig(recent_parts=1, passed_every_s=1000)
    with with_outbox(tmp_path, 5) as outbox, recent_in(tmp_path, config).at_work() as recent:
        offer(recent, 0, PASS)
        offer(recent, 1, PASS)
        offer(recent, 2, FAIL)
        offer(recent, 3, Outcome.NO_DECISION)
        details = [told(recent, *said(outbox, seq, "dent")).detail for seq in (0, 1, 3, 4)]
        assert [str(detail).split()[:5] for detail in details] == [
            ["its", "frame", "made", "room", "for"],
            ["of", "passed", "parts", "one", "in"],
            ["its", "outcome", "was", "no_decision:", "frames"],
            ["its", "frame", "is", "not", "kept"],
        ]


def test_a_folder_that_can_not_be_used_is_said_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "recent").write_text("in the way")
    with with_outbox(tmp_path, 3) as outbox, recent_in(tmp_path).at_work() as recent:
        offer(recent, 0)
        assert told(recent, *said(outbox, 0, "dent")).reason == "folder_unusable"
        health = recent.health()
        assert (health.reason, health.refused, health.frames) == ("folder_unusable", 1, 0)
        assert "can't be kept for labels" in caplog.text
        (tmp_path / "recent").unlink()
        offer(recent, 1)
        assert told(recent, *said(outbox, 1, "dent")).file is not None
        assert recent.health().reason is None


def test_frames_that_no_capture_can_hold_are_said_once_and_hurt_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_metres = replace(frame_of(0), depth_unit_m=1.0)  # as those of a folder of MVTec 3D-AD
    with with_outbox(tmp_path, 2) as outbox, recent_in(tmp_path).at_work() as recent:
        for seq in range(2):
            recent.offer(in_metres, verdict_of(seq), lambda: HEALTH)
        health = recent.health()
        assert (health.reason, health.refused, health.frames) == ("capture_error", 2, 0)
        assert caplog.text.count("can't be kept for labels") == 1
        filed = told(recent, *said(outbox, 1, "dent"))
        assert filed.reason == "frame_gone"
        assert "could not be kept" in str(filed.detail)


def test_who_makes_verdicts_never_waits_for_a_disk_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(*_: object) -> list[str]:
        hangs.set()
        goes_on.wait(60)
        return []

    monkeypatch.setattr(RecentStore, "keep", hang)
    with recent_in(tmp_path).at_work() as recent:
        offer(recent, 0)
        assert hangs.wait(60)
        for seq in range(1, 8):
            offer(recent, seq)  # it returns, though nothing is taken
        assert recent.health().dropped == 3
        goes_on.set()
    ends_s = time.monotonic() + 60
    while any(one.name == "recent-frames" for one in threading.enumerate()) and time.monotonic() < ends_s:
        time.sleep(0.01)
    assert not any(one.name == "recent-frames" for one in threading.enumerate())
