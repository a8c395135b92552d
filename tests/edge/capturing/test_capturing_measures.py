"""What speaks against a frame is seen, and nothing is said against a good one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.capturing.concerns import Concern, Limits, relative_sharpness, worries_about
from edge.capturing.likeness import Known
from edge.capturing.measuring import measure
from edge.capturing.sharpness import sharpness_of
from edge.simulation.view import Pose
from edge.testing import flat_frame
from tests.edge.capturing.scenes import FOREGROUND, Bench

LIMITS = Limits(part_height_m=0.004)


@pytest.fixture(scope="module", params=["plate", "blob"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


@pytest.fixture(scope="module")
def plate() -> Bench:
    return Bench("plate")


@pytest.fixture(scope="module", params=["plate", "blob", "lattice", "ring"])
def fixed(request: pytest.FixtureRequest) -> Bench:
    """All parts in one place, as a fixture holds them."""
    bench = Bench(request.param)
    bench.fixture = Pose(0.0, 0.0, 0.4, 1.0)
    return bench


def concerns(measured: object, kept: list[float] | None = None, same_as: str | None = None) -> list[Concern]:
    return [worry.concern for worry in worries_about(measured, kept or [], same_as, LIMITS)]  # type: ignore[arg-type]


class TestSharpness:
    def test_blur_of_a_pixel_and_a_half_is_seen_on_a_smooth_part_too(self, bench: Bench) -> None:
        kept = [bench.measured(bench.part(index)).sharpness for index in range(4)]
        known = [value for value in kept if value is not None]
        assert len(known) == 4
        others = [bench.measured(bench.part(index)) for index in (4, 5)]
        assert [concerns(measured, known) for measured in others] == [[], []]
        blurred = bench.measured(bench.part(4, blur_px=1.5))
        assert concerns(blurred, known) == [Concern.BLURRED]

    def test_a_dimmer_lamp_makes_no_part_blurred(self, plate: Bench) -> None:
        # Without noise: it does not get dimmer with the lamp.
        bright, dim = plate.part(0), plate.part(0, gain=0.7)
        part = measure(plate.frame(bright), FOREGROUND).part
        one, other = sharpness_of(bright.rgb, part), sharpness_of(dim.rgb, part)
        assert one is not None
        assert other == pytest.approx(one, rel=0.05)

    def test_the_outline_against_the_tray_does_not_count(self) -> None:
        part = np.zeros((100, 100), bool)
        part[20:80, 20:80] = True
        rgb = np.full((100, 100, 3), 20, np.uint8)
        rgb[part] = 200
        assert sharpness_of(rgb, part) == pytest.approx(0.0, abs=1e-6)

    def test_nothing_is_said_of_no_part_a_speck_and_of_black(self) -> None:
        part = np.zeros((50, 50), bool)
        grey = np.full((50, 50, 3), 100, np.uint8)
        assert sharpness_of(grey, part) is None
        part[10:14, 10:14] = True
        assert sharpness_of(grey, part) is None
        part[10:40, 10:40] = True
        assert sharpness_of(np.zeros_like(grey), part) is None

    def test_there_is_no_median_before_the_third(self) -> None:
        assert relative_sharpness(1.0, [4.0, 4.0]) is None
        assert relative_sharpness(1.0, [1.0, 4.0, 9.0]) == 0.25
        assert relative_sharpness(None, [1.0, 4.0, 9.0]) is None


class TestLikeness:
    def test_by_one_frame_the_same_part_is_the_same_and_another_in_its_place_is_not(
        self, fixed: Bench
    ) -> None:
        known = Known(rests=False)
        known.add("good/000", fixed.measured(fixed.part(0)).thumbnail)
        assert known.same(fixed.measured(fixed.part(0)).thumbnail) == "good/000"
        assert known.same(fixed.measured(fixed.part(0, gain=0.97)).thumbnail) == "good/000"
        for index in (1, 2):
            assert known.same(fixed.measured(fixed.part(index)).thumbnail) is None
        known.remove("good/000")
        assert known.same(fixed.measured(fixed.part(0)).thumbnail) is None

    def test_by_a_scene_at_rest(self, fixed: Bench) -> None:
        known = Known(rests=True)
        for index in (0, 0, 1, 1, 2):
            known.seen(fixed.measured(fixed.part(index)).thumbnail)
        known.add("good/000", fixed.measured(fixed.part(0)).thumbnail)
        known.add("good/001", fixed.measured(fixed.part(1)).thumbnail)
        assert known.same(fixed.measured(fixed.part(1)).thumbnail) == "good/001"
        assert known.same(fixed.measured(fixed.part(0)).thumbnail) == "good/000"
        assert known.same(fixed.measured(fixed.part(2)).thumbnail) is None

    def test_a_part_that_was_moved_by_a_millimetre_is_not_the_same(self, fixed: Bench) -> None:
        known = Known(rests=False)
        known.add("good/000", fixed.measured(fixed.part(0)).thumbnail)
        fixed.fixture = Pose(1e-3, 0.0, 0.4, 1.0)
        try:
            assert known.same(fixed.measured(fixed.part(0)).thumbnail) is None
        finally:
            fixed.fixture = Pose(0.0, 0.0, 0.4, 1.0)

    def test_the_same_picture_with_other_depth_is_another_part(self, plate: Bench) -> None:
        shot = plate.part(0)
        known = Known(rests=False)
        known.add("good/000", plate.measured(shot).thumbnail)
        higher = replace(
            shot,
            depth_m=np.where(
                shot.truth_mask | (shot.depth_m < 0.243), shot.depth_m - 0.01, shot.depth_m
            ).astype(np.float32),
        )
        assert known.same(plate.measured(higher).thumbnail) is None


class TestConcerns:
    def test_a_good_part_has_none(self, bench: Bench) -> None:
        measured = bench.measured(bench.part(0))
        assert concerns(measured) == []
        assert measured.area_mm2 > 500
        assert measured.fill_share is not None
        assert measured.fill_share > 0.9

    def test_an_empty_tray_is_no_part(self, bench: Bench) -> None:
        measured = bench.measured(bench.empty())
        assert concerns(measured) == [Concern.NO_PART]
        assert measured.sharpness is None

    def test_a_part_at_the_edge_of_the_view(self, plate: Bench) -> None:
        shot = plate.part(0)
        columns = np.flatnonzero((plate.empty().depth_m - shot.depth_m > 0.003).any(axis=0))
        pushed = replace(
            shot,
            rgb=np.roll(shot.rgb, -columns[0] - 40, axis=1),
            depth_m=np.roll(shot.depth_m, -columns[0] - 40, axis=1),
        )
        pushed.depth_m[:, -columns[0] - 40 :] = plate.empty().depth_m[:, -columns[0] - 40 :]
        assert Concern.BEYOND_VIEW in concerns(plate.measured(pushed))

    def test_holes_in_the_parts_depth(self, plate: Bench) -> None:
        frame = plate.frame(plate.part(0))
        part = measure(frame, FOREGROUND).part
        depth_m = np.array(frame.depth_m)
        holes = np.random.default_rng(0).random(depth_m.shape) < 0.55
        depth_m[holes & part] = 0
        measured = measure(replace(frame, depth_m=depth_m), FOREGROUND)
        assert concerns(measured) == [Concern.LOW_FILL]
        assert "45%" in worries_about(measured, [], None, LIMITS)[0].text

    def test_too_much_and_too_little_light(self, plate: Bench) -> None:
        assert concerns(plate.measured(plate.part(0, gain=4.0))) == [Concern.OVEREXPOSED]
        assert concerns(plate.measured(plate.part(0, gain=0.005))) == [Concern.UNDEREXPOSED]

    def test_no_depth_at_all(self) -> None:
        frame = flat_frame()
        measured = measure(replace(frame, depth_m=np.zeros_like(frame.depth_m)), FOREGROUND)
        assert concerns(measured) == [Concern.NO_DEPTH]

    def test_the_past_comes_first(self, plate: Bench) -> None:
        frame = replace(plate.frame(plate.empty()), stale="frame 3 arrived 9 s ago")
        assert concerns(measure(frame, FOREGROUND), same_as="good/000") == [
            Concern.STALE,
            Concern.NO_PART,
            Concern.SAME,
        ]
