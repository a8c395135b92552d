"""The parts of the care for a camera: how long to wait, what to try next, which frame is stale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.backoff import Backoff
from edge.camera.ladder import SETTLED_S, Ladder, Step
from edge.camera.watch import FrameWatch
from edge.errors import CameraLost
from edge.frame import CameraStamp, Frame
from tests.edge.camera.kept import VIEW

START_NS = 10**12
UTC = datetime(2030, 1, 31, 12, tzinfo=timezone.utc)
WRAP_S = 2**32 / 1e6


class TestBackoff:
    @settings(deadline=None)
    @given(
        first_s=st.floats(0.01, 60),
        times=st.floats(1, 1000),
        attempt=st.integers(0, 10**9),
        draw=st.floats(0, 1, exclude_max=True),
    )
    def test_lies_between_half_and_the_whole_of_a_ceiling_that_only_grows(
        self, first_s: float, times: float, attempt: int, draw: float
    ) -> None:
        backoff = Backoff(first_s, first_s * times)
        ceiling_s = backoff.ceiling_s(attempt)
        assert backoff.first_s <= ceiling_s <= backoff.last_s
        assert ceiling_s <= backoff.ceiling_s(attempt + 1)
        assert ceiling_s / 2 <= backoff.delay_s(attempt, draw) <= ceiling_s

    def test_doubles_from_the_first_to_the_last(self) -> None:
        ceilings = [Backoff(0.5, 30.0).ceiling_s(attempt) for attempt in range(8)]
        assert ceilings == [0.5, 1, 2, 4, 8, 16, 30, 30]


class TestLadder:
    @settings(deadline=None)
    @given(
        outcomes=st.lists(st.sampled_from(["open fails", "no frame", "a frame", "stays"]), max_size=60),
        reset_after=st.none() | st.integers(1, 5),
    )
    def test_whatever_happens_it_closes_waits_and_opens_again(
        self, outcomes: Sequence[str], reset_after: int | None
    ) -> None:
        backoff = Backoff(0.5, 30.0)
        ladder = Ladder(backoff, reset_after=reset_after, reset_wait_s=3.0)
        now_s, since_well = 0.0, 0
        ladder.begin()
        assert ladder.step is Step.OPEN
        for outcome in outcomes:
            if outcome != "open fails":
                ladder.opened(now_s)
                assert ladder.step is Step.READ
                now_s += SETTLED_S + 1 if outcome == "stays" else 0.5
                if outcome != "no frame":
                    ladder.fresh(now_s)
                    assert ladder.down_since_s is None
                since_well = 0 if outcome == "stays" else since_well
            ladder.failed(CameraLost("gone"), now_s)
            since_well += 1
            assert ladder.step is Step.CLOSE
            assert ladder.down_since_s is not None
            ladder.closed(now_s, 0.999)
            assert 0 < ladder.due_s - now_s <= 30.0
            in_vain = since_well - 1
            due = reset_after is not None and in_vain > 0 and in_vain % reset_after == 0
            assert (ladder.step is Step.RESET) == due
            now_s = ladder.due_s
            if due:
                ladder.was_reset(True, now_s)
                assert ladder.due_s == now_s + 3.0
            assert ladder.step is Step.OPEN


def frame(
    number: int,
    *,
    arrived_s: float,
    taken_s: float | None = None,
    colour_number: int | None = None,
    colour_taken_s: float | None = None,
    wall_clock: bool = False,
    wall_leap_s: float = 0.0,
    picture: int | None = None,
) -> Frame:
    """A frame that arrived so long after the start, taken at `taken_s` of the camera's clock."""
    taken_s = arrived_s + 500.0 if taken_s is None else taken_s
    rng = np.random.default_rng(number if picture is None else picture)
    return Frame(
        rgb=np.zeros((16, 16, 3), np.uint8),
        depth_m=rng.integers(2000, 3000, (16, 16)).astype(np.float32) * np.float32(1e-4),
        depth_unit_m=0.0001,
        intrinsics=VIEW,
        captured_ns=START_NS + round(arrived_s * 1e9),
        captured_utc=UTC + timedelta(seconds=arrived_s + wall_leap_s),
        seq=number,
        source="42",
        stamp=CameraStamp(
            number=number,
            colour_number=number if colour_number is None else colour_number,
            time_s=taken_s,
            colour_time_s=taken_s if colour_taken_s is None else colour_taken_s,
            wall_clock=wall_clock,
        ),
    )


class Watching:
    def __init__(self, **options: object) -> None:
        self.watch = FrameWatch(**{"max_age_s": 2.0, "max_skew_s": 0.034, **options})  # type: ignore[arg-type]  # its options
        self.watch.begin()

    def judge(self, given: Frame, waited_s: float = 0.0) -> str | None:
        return self.watch.judge(given, given.captured_ns + round(waited_s * 1e9))


class TestWatch:
    def test_frames_in_order_are_fresh(self) -> None:
        watching = Watching()
        assert [watching.judge(frame(n, arrived_s=n / 30)) for n in range(1, 100)] == [None] * 99
        assert watching.watch.stale == 0

    def test_age_counts_from_the_arrival(self) -> None:
        watching = Watching()
        assert watching.judge(frame(1, arrived_s=0.0), waited_s=1.99) is None
        assert "2.01 s ago" in (watching.judge(frame(2, arrived_s=0.1), waited_s=2.01) or "")

    def test_age_counts_from_when_it_was_taken(self) -> None:
        """The driver held frames back for 3 s: they arrive at once, and say when they were taken."""
        watching = Watching()
        assert watching.judge(frame(1, arrived_s=0.0, taken_s=100.0)) is None
        late = [watching.judge(frame(n, arrived_s=3.01, taken_s=100.0 + n / 30)) for n in range(2, 91)]
        assert "2.94 s ago by the camera's clock" in (late[0] or "")
        fresh = [reason is None for reason in late]
        assert fresh == sorted(fresh)  # first the old ones, then those of the last two seconds
        assert 2 + late.index(None) == 31  # taken 1.03 s after the first, 1.98 s before it arrived
        assert watching.judge(frame(92, arrived_s=3.1, taken_s=103.1)) is None

    @pytest.mark.parametrize(
        ("second", "says"),
        [
            (frame(7, arrived_s=0.1), "depth image 7 a second time"),
            (frame(6, arrived_s=0.1), "depth image 6, and 7 has been seen"),
            (frame(8, arrived_s=0.1, colour_number=7), "colour image 7 a second time"),
            (frame(8, arrived_s=0.1, colour_taken_s=500.05), "0.050 s apart"),
            (frame(8, arrived_s=-0.1), "0.10 s before an earlier"),
            (frame(8, arrived_s=0.1, picture=7), "bit for bit"),
            (frame(8, arrived_s=0.1, wall_clock=True), "another clock"),
            (frame(8, arrived_s=0.1, taken_s=510.0), "9.90 s from now by the camera's clock"),
        ],
    )
    def test_one_thing_that_is_wrong_is_enough_and_harms_no_later_frame(
        self, second: Frame, says: str
    ) -> None:
        watching = Watching()
        assert watching.judge(frame(7, arrived_s=0.0)) is None
        assert says in (watching.judge(second) or "")
        assert watching.judge(frame(9, arrived_s=0.2)) is None
        assert watching.watch.stale == 1

    def test_a_frame_that_has_not_arrived_yet(self) -> None:
        watching = Watching()
        assert "from now: its time can't be right" in (watching.judge(frame(1, arrived_s=5.0), -3.0) or "")
        assert watching.watch.time_jumps == 1

    def test_a_driver_that_shows_its_buffers_in_turn(self) -> None:
        watching = Watching()
        for number in range(1, 5):
            assert watching.judge(frame(number, arrived_s=number / 30)) is None
        for number in range(5, 30):
            assert watching.judge(frame(number, arrived_s=number / 30, picture=1 + number % 4)) is not None
        assert watching.watch.same_pictures == 25

    def test_a_picture_that_was_stale_before_is_known(self) -> None:
        watching = Watching()
        assert watching.judge(frame(1, arrived_s=0.0)) is None
        assert watching.judge(frame(2, arrived_s=-5.0, picture=7)) is not None
        assert "bit for bit" in (watching.judge(frame(3, arrived_s=0.1, picture=7)) or "")

    def test_depth_that_is_all_missing_is_no_frozen_picture(self) -> None:
        watching = Watching()
        for number in range(1, 20):
            dark = replace(frame(number, arrived_s=number / 30), depth_m=np.zeros((16, 16), np.float32))
            assert watching.judge(dark) is None

    def test_frames_of_a_camera_that_says_nothing_are_judged_by_their_arrival_and_picture(self) -> None:
        watching = Watching()
        assert watching.judge(replace(frame(5, arrived_s=0.0), stamp=None)) is None
        assert watching.judge(replace(frame(4, arrived_s=0.1), stamp=None)) is None
        assert watching.judge(replace(frame(4, arrived_s=0.2), stamp=None)) is not None

    def test_the_cameras_clock_may_begin_anew_after_32_bits(self) -> None:
        watching = Watching()
        for number in range(1, 200):
            taken_s = (WRAP_S - 3.0 + number / 30) % WRAP_S
            assert watching.judge(frame(number, arrived_s=number / 30, taken_s=taken_s)) is None
        held_back = frame(200, arrived_s=200 / 30 + 3.0, taken_s=(WRAP_S - 3.0 + 200 / 30) % WRAP_S)
        assert "3.00 s ago" in (watching.judge(held_back) or "")

    def test_colour_and_depth_on_both_sides_of_that(self) -> None:
        watching = Watching()
        given = frame(1, arrived_s=0.0, taken_s=WRAP_S - 0.001, colour_taken_s=0.002)
        assert watching.judge(given) is None

    @pytest.mark.parametrize("drift", [-100e-6, 100e-6])
    def test_a_clock_that_drifts_as_quartz_does_ages_nothing(self, drift: float) -> None:
        watching = Watching()
        for number in range(1, 3000):  # 33 hours, a frame every 40 s: 12 s of drift
            arrived_s = number * 40.0
            given = frame(number, arrived_s=arrived_s, taken_s=(500.0 + arrived_s * (1 + drift)) % WRAP_S)
            assert watching.judge(given) is None

    @pytest.mark.parametrize("leap_s", [-86_400.0, 86_400.0])
    def test_a_leap_of_the_wall_clock_does_not_matter(self, leap_s: float) -> None:
        """Not where the camera has its own clock, and not where the machine's wall clock stands in."""
        for wall_clock in (False, True):
            watching = Watching()
            for number in range(1, 60):
                leapt_s = leap_s if number > 30 else 0.0
                taken_s = UTC.timestamp() + number / 30 + leapt_s if wall_clock else None
                given = frame(
                    number,
                    arrived_s=number / 30,
                    taken_s=taken_s,
                    wall_clock=wall_clock,
                    wall_leap_s=leapt_s,
                )
                assert watching.judge(given) is None

    def test_numbers_and_clock_begin_anew_when_it_is_opened_and_pictures_are_remembered(self) -> None:
        watching = Watching()
        assert watching.judge(frame(100, arrived_s=0.0, taken_s=1000.0)) is None
        watching.watch.begin()
        assert watching.judge(frame(1, arrived_s=1.0, taken_s=3.0)) is None
        watching.watch.begin()
        assert watching.judge(frame(1, arrived_s=2.0, taken_s=3.0, picture=100)) is not None

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.floats(0.0, 3.0),  # how long the driver holds it back
                st.floats(0.02, 1.0),  # the time since the one before was taken
                st.floats(0.0, 3.0),  # how long it then waits to be looked at
            ),
            min_size=1,
            max_size=40,
        )
    )
    def test_what_is_fresh_is_young(self, way: list[tuple[float, float, float]]) -> None:
        """Whatever is held back, and wherever: what passes was taken no longer ago than twice the limit.

        Once by the driver's fault and once by the reader's: each is limited by itself. The first frame, by
        which the others are judged, comes at once.
        """
        watching = Watching(noisy=False)
        taken_s, free_s = 0.0, 0.0
        for number, (held_s, since_s, waits_s) in enumerate([(0.0, 0.1, 0.0), *way], start=1):
            taken_s += since_s
            arrived_s = max(free_s, taken_s + held_s)
            free_s = arrived_s
            given = frame(number, arrived_s=arrived_s, taken_s=500.0 + taken_s)
            if watching.judge(given, waits_s) is None:
                assert arrived_s - taken_s <= 2.0 + 200e-6 * arrived_s + 1e-6
                assert waits_s <= 2.0 + 1e-6
            else:
                assert arrived_s - taken_s > 2.0 - 1e-6 or waits_s > 2.0 - 1e-6
