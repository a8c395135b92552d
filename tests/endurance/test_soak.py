"""A daemon that inspects thousands of parts: nothing of it grows, and no verdict is missing."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.broker import find_mosquitto
from tests.endurance.growth import LONG, SHORT, SMALLEST_LEAK, growth_of
from tests.endurance.soak import Sample, Soak, mistakes_of, soak
from tests.endurance.soak_picture import draw

INSPECTIONS = 8000
"""`make soak` makes 20,000 of them, and sees less than this."""

COUNTS = range(LONG.warm_up, 20_000, 100)


def series(kib_per_1000: float, *, noise_kib: float = 10.0, step_kib: float = 0.0) -> list[float]:
    """Resident memory as it is: it wanders, and now and then takes a step."""
    rng = np.random.default_rng(3)
    return [
        150_000
        + kib_per_1000 * count / 1000
        + step_kib * (count > 12_000)
        + step_kib * (count > 18_000)
        + rng.normal(0, noise_kib)
        for count in COUNTS
    ]


class TestGrowth:
    @pytest.mark.parametrize("noise_kib", [0.0, 10.0, 100.0])
    def test_a_leak_of_the_smallest_object_per_inspection_is_found(self, noise_kib: float) -> None:
        assert growth_of(COUNTS, series(SMALLEST_LEAK, noise_kib=noise_kib)).beyond(LONG)

    def test_so_is_one_that_comes_in_steps(self) -> None:
        assert growth_of(COUNTS, series(0.0, step_kib=300.0)).beyond(LONG)

    def test_so_is_what_can_not_be_told_from_one(self) -> None:
        assert growth_of(COUNTS, series(0.0, noise_kib=500.0)).beyond(LONG)

    @pytest.mark.parametrize("noise_kib", [0.0, 10.0, 100.0])
    def test_what_only_wanders_does_not_grow(self, noise_kib: float) -> None:
        assert not growth_of(COUNTS, series(0.0, noise_kib=noise_kib)).beyond(LONG)

    def test_memory_that_is_given_back_does_not_grow(self) -> None:
        found = growth_of(COUNTS, series(-100.0))
        assert found.high < 0
        assert not found.beyond(LONG)

    def test_it_is_in_kib_per_1000(self) -> None:
        found = growth_of(COUNTS, series(50.0, noise_kib=0.0))
        assert (found.steady, found.overall, found.low, found.high) == pytest.approx((50.0,) * 4)
        assert str(found) == "steadily +50.0 KiB, overall +50.0 (+50.0 … +50.0) KiB per 1000 inspections"


def flawless() -> Soak:
    samples = [Sample(n, n / 100, 150_000.0, 20, 40) for n in range(100, 8001, 100)]
    kept = tuple((f"v{n}", f"r{n}", 7, n) for n in range(1000))
    return Soak(
        samples=tuple(samples),
        accepted={request: result for result, request, _, _ in kept},
        refused=Counter(),
        heard={result: (epoch, seq) for result, _, epoch, seq in kept},
        outcomes=Counter({"pass": 800, "fail": 200}),
        kept=kept,
        exit_code=0,
        stop_s=0.5,
    )


KEPT = flawless().kept


class TestMistakes:
    def test_there_are_none_in_a_flawless_one(self) -> None:
        assert mistakes_of(flawless(), SHORT) == []

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"exit_code": 7}, "ended with 7"),
            ({"refused": Counter({"overrun": 1})}, "refused triggers: {'overrun': 1}"),
            ({"kept": KEPT[:-1]}, "999 verdicts in the outbox for 1000 triggers"),
            ({"kept": (*KEPT[:-1], ("v999", "r0", 7, 999))}, "a trigger has two verdicts"),
            ({"kept": (*KEPT[:-1], ("v999", "r1000", 7, 999))}, "accepted has no verdict"),
            ({"kept": (*KEPT[:-1], ("v1000", "r999", 7, 999))}, "another id than was promised"),
            ({"kept": (*KEPT[:-1], ("v999", "r999", 7, 1000))}, "have gaps"),
            ({"heard": {}}, "what was published is not what is kept"),
            ({"outcomes": Counter({"pass": 999, "error": 1})}, "the outcomes are"),
        ],
    )
    def test_each_is_told(self, changed: dict[str, object], said: str) -> None:
        assert any(said in mistake for mistake in mistakes_of(replace(flawless(), **changed), SHORT))

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"threads": 21}, "number of threads changed: [20, 21]"),
            ({"descriptors": 41}, "number of open files changed: [40, 41]"),
        ],
    )
    def test_one_thread_or_file_more_is_told(self, changed: dict[str, int], said: str) -> None:
        done = flawless()
        samples = (*done.samples[:-1], replace(done.samples[-1], **changed))
        assert [m for m in mistakes_of(replace(done, samples=samples), SHORT) if said in m]

    def test_memory_that_grows_is_told(self) -> None:
        done = flawless()
        samples = tuple(replace(s, resident_kib=s.resident_kib + s.inspections) for s in done.samples)
        (mistake,) = mistakes_of(replace(done, samples=samples), SHORT)
        assert mistake.startswith("resident memory grows: steadily +1000.0 KiB")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)
def test_a_daemon_that_inspects_for_long_holds_no_more_than_before(tmp_path: Path) -> None:
    done = soak(tmp_path, INSPECTIONS)
    assert mistakes_of(done, SHORT) == []
    assert len(done.samples) >= INSPECTIONS // 100 - 1
    draw(done, SHORT, tmp_path / "soak.svg")
    assert (tmp_path / "soak.svg").stat().st_size > 1000
