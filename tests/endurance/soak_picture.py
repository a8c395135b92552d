"""What a process held while it inspected, as a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tests.endurance.growth import Bar
from tests.endurance.soak import Soak

__all__ = ["draw"]

_INK, _QUIET, _BLUE = "#1f2933", "#8a94a0", "#2f6fb0"


def draw(done: Soak, bar: Bar, out: Path) -> None:
    """Write `out` (.svg, .png): resident memory above, threads and open files below; grey is the warm-up."""
    every, growth = done.samples, done.growth(bar.warm_up)
    counts, mib = [s.inspections for s in every], [s.resident_kib / 1024 for s in every]
    with mpl.rc_context({"svg.hashsalt": "soak", "font.size": 9, "axes.edgecolor": _QUIET}):
        figure = Figure(figsize=(8, 5.4), layout="constrained")
        FigureCanvasAgg(figure)
        whole, close, below = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2, 1])
        for axes in (whole, close):
            axes.plot(counts, mib, color=_BLUE, lw=1.2)
        whole.set_ylabel("resident memory, MiB")
        close.set_ylabel("MiB")
        whole.set_ylim(0, max(mib) * 1.15)
        whole.set_title(
            f"{counts[-1]} inspections of a camera of 64×48 pixels in {every[-1].seconds / 60:.0f} minutes; "
            f"after {bar.warm_up}:\n{growth}",
            loc="left",
            color=_INK,
            fontsize=9,
        )
        warm = [s.resident_kib / 1024 for s in done.after(bar.warm_up)]
        close.set_ylim(min(warm) - 1, max(warm) + 1)
        close.set_title("the same, seen closely", loc="left", color=_QUIET, fontsize=8)
        below.plot(counts, [s.threads for s in every], color=_INK, lw=1.2, label="threads")
        below.plot(counts, [s.descriptors for s in every], color=_BLUE, lw=1.2, ls="--", label="open files")
        below.set_ylim(0, None)
        below.set_xlim(0, counts[-1])
        below.set_xlabel("inspections")
        below.legend(loc="lower right", frameon=False, ncols=2)
        for axes in (whole, close, below):
            axes.axvspan(0, bar.warm_up, color=_QUIET, alpha=0.12, lw=0)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color=_QUIET, alpha=0.25, lw=0.6)
        figure.savefig(out, dpi=150, metadata={"Date": None} if out.suffix == ".svg" else None)
