from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import EveryFrameTrigger, IntervalTrigger, PartPresentTrigger
from edge.errors import DepthUnusable
from edge.frame import Frame
from edge.preprocessing import ForegroundConfig, ground_of
from edge.simulation.dataset import frame_from_shot
from edge.simulation.noise import DepthNoise, quantise_depth
from edge.simulation.rig import RigScene
from edge.simulation.scene import Shot
from edge.testing.frames import flat_frame
from edge.trigger import EveryFrame, Interval, PartPresent, Trigger, trigger_from_config

_Depth = npt.NDArray[np.float32]


class Line:
    """What a camera above the tray sees while parts come and go, each frame with its own noise."""

    def __init__(self, product: str = "blob") -> None:
        self._scene = RigScene(product, 3, defective_share=0.0, depth_noise=None)
        self._shots = {number: self._scene.shot(number) for number in range(3)}
        self._tray_m = self._scene.tray(0).depth_m
        self._noise = DepthNoise()
        self._count = 0

    def empty(self) -> Frame:
        return self._seen(self._tray_m)

    def part(self, number: int, *, shifted_px: int = 0, share: float = 1.0) -> Frame:
        """Part `number`; `shifted_px` along x from where it comes to rest; only the left `share` of it."""
        depth_m, tray = self._shot(number).depth_m, self._tray_m
        if share < 1:
            columns = np.flatnonzero((tray - depth_m > 0.002).any(axis=0))
            cut = columns[0] + round(share * (columns[-1] - columns[0]))
            depth_m = depth_m.copy()
            depth_m[:, cut:] = tray[:, cut:]
        return self._seen(tray + np.roll(depth_m - tray, shifted_px, axis=1))

    def hand(self, number: int, reach_px: int) -> Frame:
        """Part `number` under a hand that reaches in from the frame's right edge."""
        depth_m = self._shot(number).depth_m.copy()
        depth_m[180:300, 640 - reach_px :] -= 0.06
        return self._seen(depth_m)

    def _shot(self, number: int) -> Shot:
        shot = self._shots[number]
        assert shot is not None
        return shot

    def _seen(self, ideal_m: _Depth) -> Frame:
        shot = self._shot(0)
        rng = np.random.default_rng(self._count)
        noisy_m = quantise_depth(
            self._noise.apply(ideal_m.astype(np.float32), shot.rgb, rng), self._scene.depth_unit_m
        )
        frame = replace(frame_from_shot(self._scene, self._count, shot), depth_m=noisy_m)
        self._count += 1
        return frame


CONFIG = PartPresentTrigger(kind="part_present", min_area_mm2=400.0, still_frames=3)
FOREGROUND = ForegroundConfig(part_threshold_m=0.004, closing_px=9)


@pytest.fixture(scope="module")
def line() -> Line:
    return Line()


@pytest.fixture
def trigger() -> Trigger:
    return trigger_from_config(CONFIG, FOREGROUND)


def due(trigger: Trigger, frames: list[Frame]) -> list[bool]:
    return [trigger.due(frame) for frame in frames]


def test_every_frame_is_every_frame() -> None:
    trigger = trigger_from_config(EveryFrameTrigger(), FOREGROUND)
    assert isinstance(trigger, EveryFrame)
    dark = replace(flat_frame(), depth_m=np.zeros((48, 64), np.float32))
    assert due(trigger, [flat_frame(), flat_frame(part_height_m=0.02), dark]) == [True] * 3


class TestInterval:
    def dues(self, times_s: list[float]) -> tuple[list[bool], int]:
        now_ns = iter(round(time_s * 1e9) for time_s in times_s)
        trigger = Interval(IntervalTrigger(kind="interval", interval_s=2.0), lambda: next(now_ns))
        return [trigger.due(flat_frame()) for _ in times_s], trigger.late

    def test_the_first_frame_of_each_interval_is_due(self) -> None:
        assert self.dues([10.0, 11.9, 12.0, 12.1, 14.5, 15.9, 16.0]) == (
            [True, False, True, False, True, False, True],
            0,
        )

    def test_a_late_frame_does_not_move_the_next_interval(self) -> None:
        assert self.dues([0.0, 3.9, 4.0, 5.9]) == ([True, True, True, False], 0)

    def test_intervals_without_a_frame_are_counted_and_not_made_up_for(self) -> None:
        assert self.dues([0.0, 9.0, 9.1, 10.0]) == ([True, True, False, True], 3)

    @given(st.lists(st.floats(0.0, 50.0), min_size=1, max_size=60))
    def test_each_interval_is_due_once_or_late(self, steps_s: list[float]) -> None:
        times_s = [sum(steps_s[:end]) for end in range(1, len(steps_s) + 1)]
        due, late = self.dues(times_s)
        begun = (round(times_s[-1] * 1e9) - round(times_s[0] * 1e9)) // 2_000_000_000 + 1
        last_due = max(i for i, is_due in enumerate(due) if is_due)
        since = (round(times_s[last_due] * 1e9) - round(times_s[0] * 1e9)) // 2_000_000_000 + 1
        assert sum(due) + late == since == begun


def test_each_part_is_due_once_when_it_has_come_to_rest(line: Line, trigger: Trigger) -> None:
    assert isinstance(trigger, PartPresent)
    verdicts = []
    for number in range(2):
        empty = due(trigger, [line.empty() for _ in range(3)])
        coming = due(trigger, [line.part(number, shifted_px=px) for px in (-80, -60, -40, -20)])
        resting = due(trigger, [line.part(number) for _ in range(6)])
        going = due(trigger, [line.part(number, shifted_px=px) for px in (20, 40)])
        assert not any(empty)
        assert not any(coming)
        assert not any(going)
        verdicts.append(resting)
    assert [resting.count(True) for resting in verdicts] == [1, 1]
    assert not any(any(resting[:2]) for resting in verdicts)  # three frames make it still


@pytest.mark.parametrize("product", ["plate", "lattice"])
def test_a_part_hardly_higher_than_the_threshold_is_seen_to_rest(product: str, trigger: Trigger) -> None:
    line = Line(product)
    resting = [line.part(0) for _ in range(9)]
    areas = [area_of(frame) for frame in resting]
    assert max(areas) > 1.03 * min(areas)  # the noise takes stretches of it away
    assert sum(due(trigger, resting)) == 1


def test_an_empty_tray_is_never_due(line: Line, trigger: Trigger) -> None:
    assert not any(due(trigger, [line.empty() for _ in range(8)]))


def test_a_part_that_moves_is_not_due_until_it_rests(line: Line, trigger: Trigger) -> None:
    moving = [line.part(1, shifted_px=-8 * step) for step in range(8, 0, -1)]
    assert not any(due(trigger, moving))
    assert sum(due(trigger, [line.part(1) for _ in range(5)])) == 1


def test_a_hand_over_the_part_is_waited_for(line: Line, trigger: Trigger) -> None:
    reaching = [line.hand(2, reach_px) for reach_px in (120, 220, 320, 380, 300, 180, 80)]
    assert not any(due(trigger, reaching))
    assert sum(due(trigger, [line.part(2) for _ in range(5)])) == 1
    # The hand comes back to take the part: it was inspected already.
    assert not any(due(trigger, [line.hand(2, reach_px) for reach_px in (100, 200, 300)]))
    assert not any(due(trigger, [line.part(2) for _ in range(4)]))


def test_a_part_half_in_view_neither_starts_nor_ends_one(line: Line, trigger: Trigger) -> None:
    area_mm2 = area_of(line.part(0))
    config = CONFIG.model_copy(update={"min_area_mm2": 0.8 * area_mm2, "rearm_area_mm2": 0.2 * area_mm2})
    careful = PartPresent(config, FOREGROUND)
    half = [line.part(0, share=0.55) for _ in range(4)]
    assert 0.2 * area_mm2 < area_of(half[0]) < 0.8 * area_mm2
    assert not any(due(careful, half))  # not enough to be a part
    assert sum(due(careful, [line.part(0) for _ in range(5)])) == 1
    assert not any(due(careful, half))  # nor so little that it was taken away
    assert not any(due(careful, [line.part(0) for _ in range(5)]))
    assert not any(due(careful, [line.empty()]))
    assert sum(due(careful, [line.part(0) for _ in range(5)])) == 1


def area_of(frame: Frame) -> float:
    """What the trigger itself measures, mm²."""
    ground = ground_of(frame.depth_m, frame.intrinsics, FOREGROUND)
    return PartPresent(CONFIG, FOREGROUND)._measure(frame, ground).area_mm2


def test_the_area_is_that_of_the_part_on_the_plane() -> None:
    # The block hides 32 × 24 pixels of a table 0.3 m away; a pixel is 0.3 / 64 m wide.
    frame = flat_frame(part_height_m=0.02)
    assert area_of(frame) == pytest.approx(32 * 24 * (300 / 64) ** 2, rel=0.05)


def test_one_frame_is_enough_where_it_is_asked_for(line: Line) -> None:
    config = CONFIG.model_copy(update={"still_frames": 1})
    trigger = PartPresent(config, FOREGROUND)
    assert due(trigger, [line.empty(), line.part(0), line.part(0)]) == [False, True, False]


def test_depth_that_can_t_tell_is_an_error_and_not_an_empty_tray(line: Line, trigger: Trigger) -> None:
    assert sum(due(trigger, [line.part(0) for _ in range(4)])) == 1
    dark = replace(line.part(0), depth_m=np.zeros((480, 640), np.float32))
    for _ in range(3):
        with pytest.raises(DepthUnusable, match="only 0 pixels"):
            trigger.due(dark)
    assert not any(due(trigger, [line.part(0) for _ in range(4)]))  # the same part: it was not taken away


def test_frames_that_can_t_tell_do_not_count_as_rest(line: Line, trigger: Trigger) -> None:
    dark = replace(line.part(0), depth_m=np.zeros((480, 640), np.float32))
    assert not any(due(trigger, [line.part(0), line.part(0)]))
    with pytest.raises(DepthUnusable):
        trigger.due(dark)
    assert due(trigger, [line.part(0) for _ in range(4)]) == [False, False, True, False]
