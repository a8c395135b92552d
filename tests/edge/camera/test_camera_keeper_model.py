"""Any sequence of faults: nothing old is given as fresh, and after the last one fresh frames come again."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.camera.config import CareConfig
from edge.camera.events import CameraEvent, CameraEventKind
from edge.errors import CameraAway, CameraStalled, FrameError
from edge.frame import Intrinsics
from edge.testing.faults import Fault
from tests.edge.camera.kept import VIEW, Kept

MAX_AGE_S = 2.0
STALL_S = 5.0
BOUND_S = 30.0 + 3.0 + 2 * STALL_S
"""The longest wait, a reset, and the stall in which the last fault is noticed and the next attempt fails."""

FAULTS = (
    *(fault for fault in Fault if fault is not Fault.HUNG),
    "arrival",
    "camera clock",
    "options",
    "view",
)


class World:
    """A kept camera, the faults that it gets, and the two laws, looked at with each frame."""

    def __init__(self, chance: float, resettable: bool) -> None:
        self.kept = Kept(
            CareConfig(garbage_frames=3, frozen_frames=3),
            interval_s=0.25,
            stall_s=STALL_S,
            max_age_s=MAX_AGE_S,
            chance=lambda: chance,
            resettable=resettable,
        )
        self.well = self.kept.camera.facts
        self.newest_s = 0.0

    def break_by(self, fault: object, jump_s: float) -> None:
        kept = self.kept
        if isinstance(fault, Fault):
            kept.faulty.break_by(fault)
        elif fault == "arrival":
            kept.faulty.jump(arrival_s=jump_s)
        elif fault == "camera clock":
            kept.faulty.jump(camera_clock_s=jump_s)
        elif fault == "options":
            kept.faulty.break_by(Fault.UNPLUGGED)
            kept.camera.facts = replace(kept.camera.facts, options={"exposure": 33_000.0})
        else:
            kept.faulty.break_by(Fault.STALLED)
            kept.camera.view = Intrinsics(16, 16, 14.0, 15.0, 7.5, 7.5)

    def mend(self) -> None:
        self.kept.faulty.mend()
        self.kept.camera.facts = replace(self.kept.camera.facts, options=self.well.options)
        self.kept.camera.view = VIEW

    def read(self, timeout_s: float = 1.0) -> bool:
        """Read once; whether that gave a fresh frame."""
        kept, began_s = self.kept, self.kept.clock()
        try:
            frame = kept.keeper.read(timeout_s)
        except (CameraStalled, CameraAway, FrameError):
            return False
        finally:
            # One call of the source may be on its way when the time is over.
            assert kept.clock() - began_s <= timeout_s + 0.5 + 0.25 + 1e-6
        assert frame is not None
        if frame.stale is not None:
            return False
        taken_s = float(frame.part_id or "nan")
        assert kept.clock() - taken_s <= MAX_AGE_S + 0.1
        assert taken_s > self.newest_s  # no picture twice, and none out of order
        assert frame.intrinsics == VIEW
        assert kept.camera.facts.options == self.well.options
        self.newest_s = taken_s
        return True

    def read_for(self, duration_s: float) -> None:
        end_s = self.kept.clock() + duration_s
        while self.kept.clock() < end_s:
            self.read()

    def check_events(self) -> None:
        """Down and up take turns, attempts count up, and the counters are the events'."""
        events = self.kept.events
        told = [event.kind for event in events]
        turns = [kind for kind in told if kind in (CameraEventKind.DOWN, CameraEventKind.UP)]
        assert turns == [CameraEventKind.DOWN, CameraEventKind.UP] * (len(turns) // 2)
        care = self.kept.keeper.health().care
        assert care is not None
        assert care.reopened == told.count(CameraEventKind.UP)
        assert care.resets == told.count(CameraEventKind.RESET) == self.kept.faulty.resets
        assert care.attempts == told.count(CameraEventKind.UP) + told.count(CameraEventKind.ATTEMPT_FAILED)
        assert care.down_s is None
        for earlier, later in itertools.pairwise(events):
            assert earlier.at_ns <= later.at_ns
            assert later.duration_s >= 0
            if later.kind is CameraEventKind.ATTEMPT_FAILED:
                assert later.attempt == _attempts_before(earlier) + 1


def _attempts_before(event: CameraEvent) -> int:
    """A reset is told before the attempt that it belongs to."""
    return event.attempt - 1 if event.kind is CameraEventKind.RESET else event.attempt


@settings(max_examples=60, deadline=None)
@given(
    faults=st.lists(
        st.tuples(
            st.sampled_from(FAULTS),
            st.floats(0.1, 40.0),  # how long it lasts
            st.floats(0.0, 15.0),  # and how long all is well afterwards
            st.sampled_from([-86_400.0, -10.0, -1.0, 1.0, 10.0, 86_400.0]),
        ),
        max_size=6,
    ),
    chance=st.floats(0, 1, exclude_max=True),
    resettable=st.booleans(),
)
@example(
    faults=[("arrival", 16.0, 0.0, -86_400.0), (Fault.FROZEN, 4.0, 0.0, 0.0)], chance=0.0, resettable=False
).via("freezes on a picture that was stale for its time of arrival")
def test_nothing_old_is_fresh_and_after_the_last_fault_frames_come_again(
    faults: list[tuple[object, float, float, float]], chance: float, resettable: bool
) -> None:
    world = World(chance, resettable)
    with world.kept.keeper:
        assert world.read()
        for fault, lasts_s, pause_s, jump_s in faults:
            world.break_by(fault, jump_s)
            world.read_for(lasts_s)
            world.mend()
            world.read_for(pause_s)
        end_s = world.kept.clock() + BOUND_S
        while not world.read():
            assert world.kept.clock() < end_s
        world.check_events()
    assert not world.kept.camera.is_open
