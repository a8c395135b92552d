"""Histogram and curve of a fit as numbers in the pixels of an SVG, which a template draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.calibrating.fitting import Fit
from edge.calibrating.need import needs

__all__ = ["Bar", "Drawing", "Line", "NeedDrawing", "Tick", "draw", "draw_need"]

WIDTH, LEFT, RIGHT = 760, 46, 14
_TOP, _GOOD_PX, _BAD_PX = 26, 150, 70
_CURVE_TOP, _CURVE_PX = 20, 170
_BINS = 48
_BEYOND = 4.0
"""Scores farther beyond the threshold than so many times the spread of the good ones share the last bar."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the histogram, in pixels."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: where, in pixels, and its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A vertical line through both drawings."""

    x: float
    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """Histogram (good up, bad down) and curve over the same axis of scores."""

    width: int
    left: int
    right: int
    height: int
    base: float
    good: tuple[Bar, ...]
    bad: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    count_ticks: tuple[Tick, ...]
    threshold: Line
    review: Line | None
    curve_height: int
    curve_top: int
    curve_bottom: int
    rejected_path: str
    found_path: str | None
    share_ticks: tuple[Tick, ...]
    clipped: int


def draw(fit: Fit) -> Drawing:
    """The two drawings of a fit."""
    good = np.array([part.score for part in fit.known.good])
    bad = np.array([part.score for part in fit.known.bad])
    low, high, clipped = _range(fit, good, bad)
    span = high - low

    def x(score: float) -> float:
        share = (min(max(score, low), high) - low) / span
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 2)

    edges = np.linspace(low, high, _BINS + 1)
    counts = {
        name: np.histogram(np.clip(values, low, high), edges)[0]
        for name, values in (("good", good), ("bad", bad))
    }
    most = max(1, int(counts["good"].max()))
    most_bad = max(1, int(counts["bad"].max()))
    base = _TOP + _GOOD_PX
    bars: dict[str, tuple[Bar, ...]] = {}
    for name, room, largest in (("good", _GOOD_PX, most), ("bad", _BAD_PX, most_bad)):
        found = []
        for number, count in enumerate(counts[name]):
            if count:
                height = round(room * float(count) / largest, 2)
                begin, end = x(float(edges[number])), x(float(edges[number + 1]))
                title = f"{count} {name}, {edges[number]:.4g} to {edges[number + 1]:.4g}"
                y = base - height if name == "good" else base + 1
                found.append(Bar(begin + 0.5, y, max(1.0, end - begin - 1), height, title))
        bars[name] = tuple(found)
    bottom = _CURVE_TOP + _CURVE_PX

    def path(shares: Sequence[float]) -> str:
        steps = [f"M{LEFT} {bottom - _CURVE_PX * (1.0 if shares else 0.0):.2f}"]
        for point, share in zip(fit.curve, shares, strict=True):
            steps.append(f"H{x(point.threshold)}V{bottom - _CURVE_PX * share:.2f}")
        return "".join((*steps, f"H{WIDTH - RIGHT}"))

    return Drawing(
        width=WIDTH,
        left=LEFT,
        right=WIDTH - RIGHT,
        height=base + (_BAD_PX if bad.size else 0) + 26,
        base=base,
        good=bars["good"],
        bad=bars["bad"],
        x_ticks=tuple(Tick(x(value), f"{value:.4g}") for value in _round_numbers(low, high)),
        count_ticks=(Tick(base, "0"), Tick(_TOP, str(most))),
        threshold=_line(x(fit.threshold), f"threshold {fit.threshold:.4g}"),
        review=None if fit.review_threshold is None else Line(x(fit.review_threshold), "review", "end"),
        curve_height=bottom + 26,
        curve_top=_CURVE_TOP,
        curve_bottom=bottom,
        rejected_path=path([point.rejected_good for point in fit.curve]),
        found_path=path([point.found_bad or 0.0 for point in fit.curve]) if bad.size else None,
        share_ticks=tuple(
            Tick(bottom - _CURVE_PX * share, f"{100 * share:g} %") for share in (0.0, 0.25, 0.5, 0.75, 1.0)
        ),
        clipped=clipped,
    )


def _line(x: float, text: str) -> Line:
    """Its text on the side where there is room."""
    return Line(x, text, "start" if x < WIDTH * 0.7 else "end")


def _range(
    fit: Fit, good: np.typing.NDArray[np.float64], bad: np.typing.NDArray[np.float64]
) -> tuple[float, float, int]:
    everyone = np.concatenate([good, bad])
    low = float(everyone.min())
    spread = max(float(good.max()) - low, float(good.std()), 1e-9 * max(1.0, abs(low)), 1e-12)
    limit = max(fit.threshold, float(good.max())) + _BEYOND * spread
    high = min(float(everyone.max()), limit)
    high = max(high, fit.threshold + 0.05 * spread)
    return low, high, int((everyone > high).sum())


def _round_numbers(low: float, high: float) -> list[float]:
    """Four to eight round numbers between the two."""
    rough = (high - low) / 6
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = np.ceil(low / step)
    return [float(step * number) for number in np.arange(first, np.floor(high / step) + 1)]


@dataclass(frozen=True, slots=True)
class NeedDrawing:
    """How many parts (both axes logarithmic): one curve for each confidence."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    curves: tuple[tuple[str, str, float, float], ...]
    alpha_ticks: tuple[Tick, ...]
    part_ticks: tuple[Tick, ...]


def draw_need(deltas: Sequence[float]) -> NeedDrawing:
    """The parts that α from 0.1 % to 10 % takes; a curve is (confidence, path, x and y of its end)."""
    alphas = np.geomspace(0.001, 0.1, 25)
    top, bottom, left, right = 16, 300, 64, WIDTH - 90
    least, most = 10.0, 5000.0

    def x(alpha: float) -> float:
        return round(left + float(np.log(alpha / 0.001) / np.log(100)) * (right - left), 2)

    def y(parts: float) -> float:
        return round(bottom - float(np.log(parts / least) / np.log(most / least)) * (bottom - top), 2)

    curves = []
    for delta in deltas:
        points = [(x(row.alpha), y(max(least, row.parts))) for row in needs(alphas.tolist(), [delta])]
        path = "M" + "L".join(f"{px} {py}" for px, py in points)
        curves.append((f"{100 * (1 - delta):g} %", path, *points[-1]))
    return NeedDrawing(
        width=WIDTH,
        height=bottom + 44,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        curves=tuple(curves),
        alpha_ticks=tuple(
            Tick(x(alpha), f"{100 * alpha:g} %") for alpha in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
        ),
        part_ticks=tuple(Tick(y(parts), str(parts)) for parts in (10, 30, 100, 300, 1000, 3000)),
    )
