"""A camera that is looked after: each fault, what is done about it, and what is said of it."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace

import numpy as np
import pytest

from edge.camera.config import CareConfig
from edge.camera.keeper import CameraKeeper
from edge.camera.source import SourceHealth
from edge.errors import (
    CameraAway,
    CameraError,
    CameraFrozen,
    CameraHung,
    CameraNotFound,
    CameraOptionRefused,
    CameraReplaced,
    CameraStalled,
    CameraUsbSlow,
    CameraViewChanged,
    DepthUnitWrong,
    FrameError,
)
from edge.frame import Intrinsics
from edge.testing.faults import Fault
from tests.edge.camera.kept import VIEW, Kept


def test_a_well_camera_gives_its_frames_untouched() -> None:
    kept = Kept()
    with kept.keeper:
        frames = [kept.read() for _ in range(50)]
    assert [frame.seq for frame in frames] == list(range(50))
    assert all(frame.stale is None for frame in frames)
    assert kept.events == []
    health = kept.keeper.health()
    assert health.frames == 50
    assert health.care is not None
    assert (health.care.reopened, health.care.attempts, health.care.down_s) == (0, 0, None)


def test_a_stall_is_closed_waited_out_and_opened_again() -> None:
    kept = Kept(CareConfig(reset_after=None))
    with kept.keeper:
        kept.read()
        kept.faulty.break_by(Fault.STALLED)
        with pytest.raises(CameraStalled, match="nothing is wrong yet"):
            kept.keeper.read(1.0)
        with pytest.raises(CameraAway, match="no fresh frame for") as caught:
            kept.keeper.read(30.0)
        assert isinstance(caught.value.__cause__, CameraStalled)
        health = kept.keeper.health()
        assert health.care is not None
        assert health.care.down_reason == "camera_stalled"
        assert health.care.down_s is not None
        assert health.care.down_s > 20
        kept.faulty.mend()
        assert kept.read().stale is None
    assert kept.told[0] == ("down", "camera_stalled", 0)
    assert kept.told[1] == ("attempt_failed", "camera_stalled", 1)
    assert kept.told[-1][0] == "up"
    assert kept.told[-1][2] == len(kept.told) - 1  # the attempt that succeeded, after those in vain
    away = kept.events[-1]
    assert away.duration_s == pytest.approx((away.at_ns - kept.events[0].at_ns) / 1e9)
    care = kept.keeper.health().care
    assert care is not None
    assert (care.reopened, care.attempts, care.resets) == (1, len(kept.told) - 1, 0)


def test_attempts_come_ever_more_slowly_and_never_end() -> None:
    kept = Kept(CareConfig(reset_after=None))
    with kept.keeper:
        kept.read()
        kept.faulty.break_by(Fault.UNPLUGGED)
        with pytest.raises(CameraAway, match="not plugged in"):
            kept.keeper.read(3600.0)
        times_s = [event.at_ns / 1e9 for event in kept.events]
        waits_s = np.diff(times_s)
        assert waits_s[:6] == pytest.approx([0.25, 0.5, 1, 2, 4, 8], abs=0.01)
        assert waits_s[6:] == pytest.approx(15.0, abs=0.01)  # the lower half of 30 s, by the dice
        kept.faulty.mend()
        assert kept.read().stale is None
    assert kept.told[-1] == ("up", "camera_not_found", len(kept.told) - 1)


def test_the_hardware_is_reset_after_attempts_in_vain() -> None:
    kept = Kept(CareConfig(reset_after=2, reset_wait_s=3.0), resettable=True)
    with kept.keeper:
        kept.read()
        kept.faulty.break_by(Fault.STALLED)
        kept.read(120.0)
    assert [kind for kind, _, _ in kept.told] == ["down", "attempt_failed", "attempt_failed", "reset", "up"]
    assert kept.faulty.resets == 1
    reset, up = kept.events[-2:]
    assert (reset.attempt, up.attempt) == (3, 3)
    assert (up.at_ns - reset.at_ns) / 1e9 >= 3.0
    care = kept.keeper.health().care
    assert care is not None
    assert (care.reopened, care.attempts, care.resets) == (1, 3, 1)


def test_a_camera_that_comes_and_goes_climbs_on() -> None:
    """One good frame after each reopening does not make it well: in the end it is reset."""
    kept = Kept(CareConfig(reset_after=3))
    with kept.keeper:
        for _ in range(5):
            kept.fresh()
            kept.faulty.break_by(Fault.STALLED)
            with pytest.raises(CameraAway):
                kept.keeper.read(5.2)
            kept.faulty.mend()
        kept.fresh()
        assert kept.faulty.resets == 1
        assert [attempt for kind, _, attempt in kept.told if kind == "down"] == [0, 1, 2, 3, 4]
        for _ in range(200):  # 20 s without a fault
            kept.fresh()
        kept.faulty.break_by(Fault.UNPLUGGED)
        with pytest.raises(CameraAway):
            kept.keeper.read(0.1)
    assert kept.told[-1] == ("down", "camera_lost", 0)


def test_garbage_is_told_at_once_and_too_much_of_it_reopens() -> None:
    kept = Kept(CareConfig(garbage_frames=3))
    with kept.keeper:
        kept.read()
        kept.faulty.break_by(Fault.GARBAGE)
        for _ in range(3):
            with pytest.raises(FrameError, match="NaN"):
                kept.keeper.read()
        assert kept.told == [("down", "frame_error", 0)]
        kept.faulty.mend()
        assert kept.read().stale is None
    care = kept.keeper.health().care
    assert care is not None
    assert (care.garbage, care.reopened) == (3, 1)


def test_single_garbage_is_no_reason_to_reopen() -> None:
    kept = Kept(CareConfig(garbage_frames=3))
    with kept.keeper:
        for _ in range(10):
            kept.read()
            kept.faulty.break_by(Fault.GARBAGE)
            for _ in range(2):
                with pytest.raises(FrameError):
                    kept.keeper.read()
            kept.faulty.mend()
    assert kept.events == []


def test_a_frozen_picture_is_stale_from_the_second_on_and_then_a_stall() -> None:
    kept = Kept(CareConfig(frozen_frames=4))
    with kept.keeper:
        kept.read()
        kept.faulty.break_by(Fault.FROZEN)
        for _ in range(4):
            frame = kept.read()
            assert frame.stale is not None
            assert "bit for bit" in frame.stale
        assert kept.told == [("down", "camera_frozen", 0)]
        assert isinstance(kept.keeper._ladder.cause, CameraFrozen)
        assert kept.read().stale is not None  # after a reopening, the same old picture
        assert kept.keeper.health().care.down_reason == "camera_frozen"  # type: ignore[union-attr]  # cared for
        kept.faulty.mend()
        assert kept.fresh().stale is None
    assert kept.told[-1][0] == "up"


def test_frozen_pictures_are_taken_where_nobody_looks_for_them() -> None:
    kept = Kept(CareConfig(frozen_frames=None))
    with kept.keeper:
        kept.read()
        kept.faulty.break_by(Fault.FROZEN)
        assert all(kept.read().stale is None for _ in range(20))


@pytest.mark.parametrize(
    "jump", [{"arrival_s": 86_400.0}, {"arrival_s": -86_400.0}, {"camera_clock_s": 86_400.0}]
)
def test_an_impossible_time_is_stale_and_counted_and_harms_no_later_frame(jump: dict[str, float]) -> None:
    kept = Kept()
    with kept.keeper:
        kept.read()
        kept.faulty.jump(**jump)
        assert all(kept.read().stale is not None for _ in range(5))
        kept.faulty.mend()
        assert kept.read().stale is None
    care = kept.keeper.health().care
    assert care is not None
    assert (care.time_jumps, care.stale) == (5, 5)
    assert kept.events == []


def test_nothing_but_stale_frames_is_a_stall_that_reopening_mends() -> None:
    """A camera whose own clock was set back for good: its next opening is the new measure."""
    kept = Kept()
    with kept.keeper:
        kept.read()
        kept.faulty.jump(camera_clock_s=-100.0)
        assert kept.read().stale is not None
        frame = kept.fresh()
        assert frame.stale is None
    assert [kind for kind, _, _ in kept.told] == ["down", "up"]
    assert kept.events[0].reason == "camera_stalled"
    assert "by the camera's clock" in kept.events[0].detail


def test_old_frames_sent_once_more_are_stale() -> None:
    kept = Kept()
    with kept.keeper:
        kept.read()
        kept.faulty.break_by(Fault.REPLAYING)
        frame = kept.read()
    assert frame.stale is not None
    assert "a second time" in frame.stale


class TestIdentity:
    def returns(self, kept: Kept, **changes: object) -> None:
        """The camera goes away, and comes back changed."""
        kept.read()
        kept.faulty.break_by(Fault.UNPLUGGED)
        with pytest.raises(CameraAway):
            kept.keeper.read(0.3)
        kept.camera.facts = replace(kept.camera.facts, **changes)  # type: ignore[arg-type]  # names of its fields
        kept.faulty.mend()

    @pytest.mark.parametrize(
        ("changes", "error", "says"),
        [
            ({"serial": "43"}, CameraReplaced, "serial 43.* began with 42.*allow_other_camera"),
            ({"usb": "2.1"}, CameraUsbSlow, r"USB 2\.1.*allow_usb2"),
            ({"options": {"exposure": 33000.0}}, CameraOptionRefused, "exposure reads 33000 and was 8000"),
            ({"options": {}}, CameraOptionRefused, "exposure reads missing"),
            ({"depth_unit_m": 0.001}, DepthUnitWrong, r"0\.001 m, it was before 0\.0001 m"),
        ],
    )
    def test_a_camera_that_comes_back_changed_is_not_read(
        self, changes: dict[str, object], error: type[CameraError], says: str
    ) -> None:
        kept = Kept()
        with kept.keeper:
            before = kept.camera.facts
            self.returns(kept, **changes)
            with pytest.raises(CameraAway, match=says) as caught:
                kept.keeper.read(20.0)
            assert type(caught.value.__cause__) is error
            assert not [event for event in kept.events if event.kind.value == "up"]
            kept.camera.facts = replace(before, frames=0)
            assert kept.read().stale is None

    def test_other_intrinsics_are_not_read(self) -> None:
        kept = Kept()
        with kept.keeper:
            self.returns(kept)
            kept.camera.view = Intrinsics(16, 16, 15.1, 15.0, 7.5, 7.5)
            with pytest.raises(CameraAway, match=r"f \(15\.100, 15\.000\)") as caught:
                kept.keeper.read(20.0)
            assert isinstance(caught.value.__cause__, CameraViewChanged)
            kept.camera.view = VIEW
            assert kept.read().stale is None

    def test_usb_2_and_another_camera_may_be_allowed(self) -> None:
        kept = Kept(CareConfig(allow_usb2=True, allow_other_camera=True))
        with kept.keeper:
            self.returns(kept, serial="43", usb="2.1")
            kept.camera.view = Intrinsics(16, 16, 15.1, 15.0, 7.5, 7.5)  # each camera has its own
            assert kept.read().stale is None
        assert kept.told[-1][0] == "replaced"

    @pytest.mark.parametrize(
        ("facts", "care", "error"),
        [
            ({"usb": "2.1"}, CareConfig(), CameraUsbSlow),
            ({"depth_unit_m": 0.001}, CareConfig(depth_unit_m=0.0001), DepthUnitWrong),
        ],
    )
    def test_what_is_wrong_from_the_start_is_an_error_of_open(
        self, facts: dict[str, object], care: CareConfig, error: type[CameraError]
    ) -> None:
        kept = Kept(care)
        kept.camera.facts = replace(kept.camera.facts, **facts)  # type: ignore[arg-type]  # names of its fields
        with pytest.raises(error):
            kept.keeper.open()
        assert not kept.camera.is_open

    def test_a_unit_that_only_the_frames_tell(self) -> None:
        kept = Kept(CareConfig(depth_unit_m=0.0001))
        kept.faulty.health_as(lambda health: replace(health, depth_unit_m=None))
        kept.camera.facts = replace(kept.camera.facts, depth_unit_m=0.0002)
        with kept.keeper, pytest.raises(CameraAway, match=r"camera\.care\.depth_unit_m expects"):
            kept.keeper.read(20.0)


class TestOpening:
    def test_a_camera_that_is_not_there_is_an_error_at_once(self) -> None:
        kept = Kept()
        kept.faulty.break_by(Fault.UNPLUGGED)
        with pytest.raises(CameraNotFound):
            kept.keeper.open()
        kept.faulty.mend()
        with kept.keeper:  # the same keeper may be opened later
            assert kept.read().stale is None

    def test_or_is_waited_for(self) -> None:
        kept = Kept(CareConfig(start_without=True))
        kept.faulty.break_by(Fault.UNPLUGGED)
        with kept.keeper:
            with pytest.raises(CameraAway, match="not plugged in"):
                kept.keeper.read(5.0)
            kept.faulty.mend()
            assert kept.read().stale is None

    def test_the_first_frame_is_taken_at_once_and_does_not_grow_young_by_waiting(self) -> None:
        kept = Kept()
        with kept.keeper:
            kept.clock.sleep(10.0)
            assert "arrived 10.00 s ago" in (kept.read().stale or "")
            assert kept.read().stale is None

    def test_open_read_and_close_in_any_order(self) -> None:
        kept = Kept()
        kept.keeper.close()
        with pytest.raises(CameraError, match="not open"):
            kept.keeper.read()
        with kept.keeper:
            kept.read()
            with pytest.raises(CameraError, match="open already"):
                kept.keeper.open()
        kept.keeper.close()
        with pytest.raises(CameraError, match="not open"):
            kept.keeper.read()

    def test_a_mistake_of_ours_is_not_looked_after(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = Kept()
        with kept.keeper:
            kept.read()

            def wrong(_timeout_s: float) -> None:
                raise ZeroDivisionError

            monkeypatch.setattr(kept.camera, "read", wrong)
            with pytest.raises(ZeroDivisionError):
                kept.keeper.read()
        assert not kept.camera.is_open

    def test_the_end_of_the_source_is_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = Kept()
        with kept.keeper:
            kept.read()
            monkeypatch.setattr(kept.camera, "read", lambda _timeout_s: None)
            assert kept.keeper.read() is None


class TestHealth:
    def test_gaps_and_frames_go_on_counting_over_a_reopening(self) -> None:
        kept = Kept()
        with kept.keeper:
            assert kept.keeper.health().gaps is None
            kept.camera.facts = replace(kept.camera.facts, gaps=3)
            kept.read()
            assert kept.keeper.health().gaps == 3
            kept.faulty.break_by(Fault.UNPLUGGED)
            with pytest.raises(CameraAway):
                kept.keeper.read(0.3)
            kept.camera.facts = replace(kept.camera.facts, gaps=None)
            kept.faulty.mend()
            kept.read()
            kept.camera.facts = replace(kept.camera.facts, gaps=2)
            kept.read()
        health = kept.keeper.health()
        assert (health.gaps, health.frames) == (5, 3)

    @pytest.mark.parametrize("metadata", [True, False, None])
    def test_missing_metadata_is_said(self, metadata: bool | None) -> None:
        kept = Kept()
        kept.faulty.health_as(lambda health: replace(health, metadata=metadata))
        with kept.keeper:
            kept.read()
            health: SourceHealth = kept.keeper.health()
        assert health.metadata is metadata
        assert ("metadata" in health.details) == (metadata is False)


def read_on(keeper: CameraKeeper) -> None:
    """As the daemon does: in slices, until something final happens."""
    while True:
        with contextlib.suppress(CameraStalled):
            keeper.read(0.2)


class TestHangingDriver:
    """With the real thread, and no clock but the real one."""

    def kept(self, **options: object) -> tuple[Kept, CameraKeeper]:
        kept = Kept()
        keeper = CameraKeeper(kept.faulty, CareConfig(hung_after_s=1.0), **options)  # type: ignore[arg-type]
        kept.faulty._sleep = threading.Event().wait  # type: ignore[assignment]  # really
        return kept, keeper

    def test_read_comes_back_by_its_time_and_close_leaves_the_driver_to_itself(self) -> None:
        kept, keeper = self.kept(close_timeout_s=0.1)
        keeper.open()
        assert keeper.read() is not None
        kept.faulty.break_by(Fault.HUNG)
        while True:  # a frame may have been on its way
            try:
                keeper.read(0.1)
            except CameraStalled:
                break
        keeper.close()
        assert kept.faulty.closed == 0
        with pytest.raises(CameraHung, match="only a new process"):
            keeper.open()
        kept.faulty.mend()  # should the driver return one day, the camera is released
        for _ in range(1000):
            if kept.faulty.closed:
                break
            threading.Event().wait(0.01)
        assert not kept.camera.is_open

    def test_a_driver_that_hangs_too_long_is_final(self) -> None:
        kept, keeper = self.kept(close_timeout_s=0.1)
        with keeper:
            keeper.read()
            kept.faulty.break_by(Fault.HUNG)
            with pytest.raises(CameraHung, match="read has not returned for 1 s"):
                read_on(keeper)
        kept.faulty.mend()

    @pytest.mark.parametrize("fault", [Fault.HUNG, Fault.STALLED, Fault.UNPLUGGED])
    def test_stop_ends_a_read_whatever_the_camera_does(self, fault: Fault) -> None:
        kept, keeper = self.kept(close_timeout_s=5.0)
        keeper.open()
        keeper.read()
        kept.faulty.break_by(fault)
        got: list[object] = []

        def read() -> None:
            try:
                while True:
                    got.append(keeper.read(3600.0))
                    if got[-1] is None:
                        return
            except CameraError as error:
                got.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        threading.Event().wait(0.3)
        assert reader.is_alive()
        keeper.stop()
        reader.join(60)  # an hour, did it not hear
        assert got[-1] is None
        kept.faulty.mend()
        keeper.close()
        assert not kept.camera.is_open
