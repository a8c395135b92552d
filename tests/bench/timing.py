"""Works timed in turn, so that what else the machine does meanwhile touches all of them alike."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = ["Interval", "in_turn", "median_of", "ratio_of"]

Times = npt.NDArray[np.float64]
"""(rounds,) milliseconds."""

_WARM_UP = 3


class Interval(NamedTuple):
    """A median, and the 95 % bootstrap interval in which it lies."""

    median: float
    low: float
    high: float


def in_turn(
    works: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    burst: int,
    seed: int = 0,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, Times]:
    """Milliseconds of each work in each round, after a few calls that don't count.

    In each round every work has its turn, in an order drawn anew, and is called `burst` times; the fastest
    counts: another process can only ever add to a time. `clock_ns` may be one of processor time.
    """
    order = random.Random(seed)
    for work in works.values():
        for _ in range(_WARM_UP):
            work()
    times: dict[str, list[float]] = {name: [] for name in works}
    collects = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name in order.sample(sorted(works), len(works)):
                times[name].append(min(_once_ms(works[name], clock_ns) for _ in range(burst)))
            gc.collect()
    finally:
        if collects:
            gc.enable()
    return {name: np.array(values) for name, values in times.items()}


def _once_ms(work: Callable[[], object], clock_ns: Callable[[], int]) -> float:
    start_ns = clock_ns()
    work()
    return (clock_ns() - start_ns) / 1e6


def median_of(times: Times) -> Interval:
    """The median over the rounds."""
    median = float(np.median(times))
    if len(times) < 2 or float(np.ptp(times)) == 0:
        return Interval(median, median, median)
    found = stats.bootstrap(
        (times,), np.median, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return Interval(median, float(found.low), float(found.high))


def ratio_of(times: Times, reference: Times) -> Interval:
    """The median over the rounds of one work's time over another's in the same round."""
    return median_of(times / reference)
