"""Drawings for a page: SVG text that takes its colours and its font from the page's style sheet.

So one drawing is right in the light, in the dark and on paper, weighs a few kilobytes, and its words can be
searched for. The same data gives the same bytes: no date, no random identifiers.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter, ScalarFormatter

from edge.errors import DatasetError

__all__ = ["Group", "Spread", "few_parts_figure", "histogram", "loss_curve", "pro_figure", "roc_figure"]

Points = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""x and y, (N,) each."""

# matplotlib draws in colours that nobody would choose; on the way out each becomes a variable of the page.
_VARIABLES = {
    "#010101": "--ink",
    "#010102": "--muted",
    "#010103": "--line",
    "#010104": "--good",
    "#010105": "--bad",
    "#010106": "--held-out",
    "#010107": "--threshold",
    "#010201": "--series-1",
    "#010202": "--series-2",
    "#010203": "--series-3",
    "#010204": "--series-4",
    "#010205": "--series-5",
    "#010206": "--series-6",
}
_COLOUR = {name: colour for colour, name in _VARIABLES.items()}
_SERIES = tuple(colour for colour, name in _VARIABLES.items() if name.startswith("--series"))
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
_MARKERS = "osD^vP"
_WIDTH, _HEIGHT = 4.9, 3.15  # inches at 72 units each: readable on a phone, and at half a page
_FAMILY = "DejaVu Sans"  # comes with matplotlib, so a drawing is laid out alike on every machine

# Any: what matplotlib says of the type of these keys differs between its releases.
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": _COLOUR["--muted"],
    "axes.grid": True,
    "axes.labelcolor": _COLOUR["--ink"],
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": _FAMILY,
    "font.size": 11.0,
    "grid.color": _COLOUR["--line"],
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.hashsalt": "edge-inspect",
    "text.color": _COLOUR["--ink"],
    "xtick.color": _COLOUR["--muted"],
    "xtick.labelcolor": _COLOUR["--ink"],
    "ytick.color": _COLOUR["--muted"],
    "ytick.labelcolor": _COLOUR["--ink"],
}


@dataclass(frozen=True, slots=True)
class Group:
    """Scores of parts of one kind; `kind` decides the colour."""

    label: str
    scores: Sequence[float]
    kind: str  # good, bad, or held-out


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure at so many good parts, over seeds: mean and standard deviation (None of a single seed)."""

    parts: int
    mean: float
    sd: float | None


def roc_figure(curves: Mapping[str, Points]) -> Markup:
    """ROC curves by name, each the false and true positive rates from (0, 0) to (1, 1)."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        axes.plot([0, 1], [0, 1], color=_COLOUR["--line"], linewidth=1.2)
        for (name, (fpr, tpr)), look in zip(curves.items(), _looks(), strict=False):
            axes.plot(fpr, tpr, label=name, **look)
        _rates(axes, "good parts rejected (false positive rate)", "defective parts found")
        axes.set_xlim(-0.015, 1.0)
        axes.set_ylim(0.0, 1.015)
        _legend(axes, len(curves))
        return _svg(figure, f"ROC curves: {', '.join(curves)}")


def pro_figure(curves: Mapping[str, Points], limits: Iterable[float]) -> Markup:
    """Per-region overlap over the pixels' false positive rate, up to the largest of the limits."""
    ends = sorted(limits)
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        for limit in ends:
            axes.axvline(limit, color=_COLOUR["--muted"], linewidth=1.0, linestyle=(0, (2, 2)))
            axes.annotate(
                f"{limit:.0%}",
                (limit, 0.0),
                xytext=(-3, 5) if limit == ends[-1] else (3, 5),
                textcoords="offset points",
                ha="right" if limit == ends[-1] else "left",
                color=_COLOUR["--muted"],
                fontsize=10,
            )
        for (name, (fpr, pro)), look in zip(curves.items(), _looks(), strict=False):
            axes.plot(fpr, pro, label=name, **look)
        _rates(axes, "good pixels above the threshold (false positive rate)", "overlap of defect regions")
        axes.set_xlim(0.0, ends[-1])
        axes.set_ylim(0.0, 1.015)
        _legend(axes, len(curves))
        return _svg(figure, f"Per-region overlap curves: {', '.join(curves)}")


def histogram(groups: Sequence[Group], threshold: float | None) -> Markup:
    """How many parts have which score, one row for each group on a common axis, and the threshold.

    The axis is logarithmic where all scores are positive and the largest is over 30 times the smallest.
    """
    shown = [group for group in groups if len(group.scores)]
    every = np.array([score for group in shown for score in group.scores])
    if every.size == 0:
        raise DatasetError("no score to draw a histogram of; give at least one part")
    if threshold is not None:
        every = np.append(every, threshold)
    logarithmic = bool(every.min() > 0 and every.max() > 30 * every.min())
    low, high = float(every.min()), float(every.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.geomspace(low, high, 33) if logarithmic else np.linspace(low, high, 33)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.65 + 0.95 * len(shown)), layout="constrained")
        rows = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for group, axes in zip(shown, rows, strict=True):
            colour = _COLOUR[f"--{group.kind}"]
            axes.hist(group.scores, bins=edges, color=colour, alpha=0.7, histtype="stepfilled")
            axes.plot(
                group.scores, np.zeros(len(group.scores)), "|", color=colour, markersize=7, clip_on=False
            )
            axes.set_ylabel(f"{group.label}\nn = {len(group.scores)}", rotation=0, ha="right", va="center")
            axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
            if threshold is not None:
                axes.axvline(threshold, color=_COLOUR["--threshold"], linewidth=1.6, linestyle=(0, (4, 2)))
        if logarithmic:
            rows[-1].set_xscale("log")
        if threshold is not None:
            rows[0].annotate(
                f"threshold {threshold:.4g}",
                (threshold, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                color=_COLOUR["--threshold"],
                fontsize=10,
            )
        rows[-1].set_xlabel("score" + (" (logarithmic)" if logarithmic else ""))
        return _svg(figure, f"Histogram of scores: {', '.join(group.label for group in shown)}")


def loss_curve(phase: str, losses: Sequence[float]) -> Markup:
    """The loss of every step of one phase of training, and its running median."""
    values = np.asarray(losses, dtype=np.float64)  # (N,)
    steps = np.arange(1, values.size + 1)
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(height=2.6)
        axes.plot(steps, values, color=_SERIES[0], linewidth=0.9, alpha=0.45)
        window = max(3, values.size // 25)
        if values.size > 2 * window:
            middle = np.median(np.lib.stride_tricks.sliding_window_view(values, window), axis=1)
            axes.plot(steps[window // 2 :][: middle.size], middle, color=_SERIES[0])
        axes.set_xlabel("step")
        axes.set_ylabel(f"loss of the {phase}")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.margins(x=0.01)
        return _svg(figure, f"Loss of the {phase} over {values.size} steps")


def few_parts_figure(series: Mapping[str, Sequence[Spread]], label: str) -> Markup:
    """What `label` names over the number of good parts: a line for each method, ± 1 sd as a band."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        for (name, points), look, marker in zip(
            series.items(), _looks(), itertools.cycle(_MARKERS), strict=False
        ):
            along = sorted(points, key=lambda point: point.parts)
            parts = np.array([point.parts for point in along])
            mean = np.array([point.mean for point in along])
            sd = np.array([point.sd or 0.0 for point in along])
            if sd.any():
                axes.fill_between(parts, mean - sd, mean + sd, color=look["color"], alpha=0.16, linewidth=0)
            axes.plot(parts, mean, label=name, marker=marker, markersize=4.5, **look)
        ticks = sorted({point.parts for points in series.values() for point in points})
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("good parts")
        axes.set_ylabel(label)
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.003))
        _legend(axes, len(series))
        return _svg(figure, f"{label} over the number of good parts: {', '.join(series)}")


def _axes(height: float = _HEIGHT) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _looks() -> Iterable[dict[str, Any]]:
    """Colour and dashes: also told apart in black and white."""
    for number in itertools.count():
        yield {
            "color": _SERIES[number % len(_SERIES)],
            "linestyle": _DASHES[number % len(_DASHES)],
        }


def _rates(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _legend(axes: Axes, lines: int) -> None:
    """A legend where there is more than one line to tell apart."""
    if lines > 1:
        axes.legend(loc="lower right", fontsize=10)


def _svg(figure: Figure, title: str) -> Markup:
    """The drawing to be put into a page as it is; `title` is for those who can't see it."""
    buffer = io.BytesIO()
    empty = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=empty)
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    # Its style sheet would hold for the whole page; base.html.j2 says the same of drawings.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    for colour, name in _VARIABLES.items():
        text = text.replace(colour, f"var({name})")
    text = re.sub(rf"'{_FAMILY}'(?:, *[^;\"]+)?", "var(--font)", text)
    # Several drawings share one page, and matplotlib counts each one's parts from 1.
    prefix = f"d{hashlib.sha256(text.encode()).hexdigest()[:8]}-"
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", text)
    label = Markup.escape(title)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    return Markup(text.replace("<svg ", f'<svg class="drawing" role="img" aria-label="{label}" ', 1).strip())
