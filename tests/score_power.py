"""What the score watch finds, and how soon: simulated lines, thousands at once, by the watch's own sums.

`python -m tests.score_power` prints the tables of docs/score-watch.md; with `--write` it puts them there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from edge.quantile import quantile_rank
from edge.score_evidence import SHIFT_BETS, TESTS, shift_returns
from edge.score_stream import RECENT, RECENT_LEAST, SHIFTED_SHARE
from edge.wagers import Wagers

__all__ = [
    "DRAWS",
    "Line",
    "drift_row",
    "e_values",
    "in_docs",
    "largest_e_values",
    "p_values",
    "parts_until_warned",
    "tables",
]

DOCS = Path(__file__).parents[1] / "docs" / "score-watch.md"
BEGIN, END = "<!-- tests.score_power -->", "<!-- end -->"

LEVEL = 0.01
_FALSE_REJECT_RATE = 0.02

_Array = npt.NDArray[np.float64]

Draw = Callable[[np.random.Generator, tuple[int, int]], _Array]


@dataclass(frozen=True, slots=True)
class Line:
    """Normal scores of good parts, calibrated on `held_out` of them, that move by `shift` after `quiet` parts
    that passed. `defects`: share of the parts below the threshold that score far above the set-up's median.
    """

    held_out: int
    shift: float
    quiet: int = 0
    defects: float = 0.0


def live_parts(
    line: Line, streams: int, parts: int, rng: np.random.Generator
) -> tuple[_Array, _Array, _Array]:
    """Scores below the threshold: the set-up's (streams, k) and the line's (streams, parts).

    And how many parts were inspected until each of these, fails among them: (streams, parts).
    """
    good = np.sort(rng.standard_normal((streams, line.held_out)), axis=1)
    rank = quantile_rank(line.held_out, _FALSE_REJECT_RATE)
    threshold = good[:, rank - 1 : rank]  # (streams, 1)
    shift = np.where(np.arange(parts) >= line.quiet, line.shift, 0.0)  # (parts,)
    passing = ndtr(threshold - shift)  # (streams, parts)
    scores = ndtri(rng.random((streams, parts)) * passing) + shift
    bad = (rng.random((streams, parts)) < line.defects) & (np.arange(parts) >= line.quiet)
    scores = np.where(bad, threshold - 1e-6, scores)
    return good[:, : rank - 1], scores, np.cumsum(rng.geometric(passing), axis=1).astype(np.float64)


def p_values(reference: _Array, scores: _Array, rng: np.random.Generator) -> _Array:
    """Conformal p-values (streams, parts), each among the reference and all scores up to itself."""
    known, every = reference.shape[1], np.concatenate([reference, scores], axis=1)
    found = np.empty(scores.shape)
    for part in range(scores.shape[1]):
        seen, score = every[:, : known + part + 1], scores[:, part : part + 1]
        larger, equal = (seen > score).sum(axis=1), (seen == score).sum(axis=1)
        found[:, part] = (larger + rng.random(scores.shape[0]) * equal) / seen.shape[1]
    return found


def e_values(p: _Array, sign: int, known: int) -> _Array:
    """The e-values (streams, parts) of a drift up (`sign` 1) or down (-1), after `known` reference scores."""
    wagers = Wagers(SHIFT_BETS, (p.shape[0],))
    normal = -sign * ndtri(p)  # (streams, parts)
    found = np.empty(p.shape)
    for part in range(p.shape[1]):

        def returns(share: _Array, z: _Array = normal[:, part, None, None]) -> _Array:
            return shift_returns(z, share)

        wagers.play(known + part, returns)
        found[:, part] = wagers.wealth
    return found


def share_above(reference: _Array, scores: _Array) -> _Array:
    """Which share of the recent parts lies above the reference's median: (streams, parts).

    Half of those that lie on it; 1/2 where there are too few.
    """
    middle = np.median(reference, axis=1, keepdims=True)
    above = (scores > middle) + 0.5 * (scores == middle)
    sums = np.cumsum(np.pad(above, ((0, 0), (RECENT, 0))), axis=1)
    count = np.minimum(np.arange(1, scores.shape[1] + 1), RECENT)
    share = (sums[:, RECENT:] - sums[:, :-RECENT]) / count
    return np.where(count >= RECENT_LEAST, share, 0.5)


def parts_until_warned(line: Line, streams: int, parts: int, seed: int = 0) -> _Array:
    """How many parts are inspected after the shift until it is warned of: (streams,).

    Infinity where it is not within `parts` that pass.
    """
    rng = np.random.default_rng(seed)
    sign = -1 if line.shift < 0 else 1
    reference, scores, inspected = live_parts(line, streams, line.quiet + parts, rng)
    e = e_values(p_values(reference, scores, rng), sign, reference.shape[1])
    share = share_above(reference, scores)
    shifted = (share if sign > 0 else 1.0 - share) >= SHIFTED_SHARE
    warned = (np.maximum.accumulate(e, axis=1) >= TESTS / LEVEL) & shifted
    at = np.take_along_axis(inspected, warned.argmax(axis=1)[:, None], axis=1)[:, 0]
    before = inspected[:, line.quiet - 1] if line.quiet else 0.0
    return np.where(warned.any(axis=1), at - before, np.inf)


def largest_e_values(draw: Draw, streams: int = 1000, parts: int = 600) -> _Array:
    """The largest e-value that lines which don't drift come to, up or down: (streams,); 30 held out."""
    rng = np.random.default_rng(1)
    every = draw(rng, (streams, 30 + parts))
    p = p_values(every[:, :30], every[:, 30:], rng)
    return np.asarray(np.maximum(*(e_values(p, sign, 30).max(axis=1) for sign in (1, -1))))


def _normal(rng: np.random.Generator, shape: tuple[int, int]) -> _Array:
    return rng.standard_normal(shape)


def _heavy(rng: np.random.Generator, shape: tuple[int, int]) -> _Array:
    return rng.standard_cauchy(shape)


def _tied(rng: np.random.Generator, shape: tuple[int, int]) -> _Array:
    return np.round(rng.standard_normal(shape))


DRAWS = {"normal": _normal, "heavy tails (Cauchy)": _heavy, "tied (a handful of values)": _tied}

SHIFTS = (0.5, 1.0, 2.0, -0.5, -1.0, -2.0)


def _cell(line: Line, streams: int) -> str:
    found = parts_until_warned(line, streams, 300)
    if not np.isfinite(np.median(found)):
        return f"{np.isfinite(found).mean():.0%} found"
    return f"{np.median(found):.0f} ({np.isfinite(found).mean():.0%})"


def drift_row(held_out: int, quiet: int, streams: int = 200) -> str:
    """A row of the docs' table."""
    cells = [_cell(Line(held_out, shift, quiet), streams) for shift in SHIFTS]
    return f"| {held_out} | {f'{quiet} parts' if quiet else 'set-up'} | " + " | ".join(cells) + " |"


def tables(streams: int = 200) -> str:
    """The tables of the docs, as Markdown."""
    rows = [
        "| good parts held out | drift since | " + " | ".join(f"{s:+g} sd" for s in SHIFTS) + " |",
        "|---|---|" + "---|" * len(SHIFTS),
        *(drift_row(held_out, quiet, streams) for held_out in (20, 50, 200) for quiet in (0, 500)),
    ]
    rows += ["", "| scores that don't drift | proven, at level 0.01 | at level 0.1 |", "|---|---|---|"]
    for name, draw in DRAWS.items():
        largest = largest_e_values(draw)
        shares = [f"{(largest >= TESTS / level).mean():.1%}" for level in (0.01, 0.1)]
        rows.append(f"| {name} | " + " | ".join(shares) + " |")
    return "\n".join(rows)


def in_docs() -> str:
    """The tables that the docs have."""
    return DOCS.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    found = tables()
    if sys.argv[1:] == ["--write"]:
        before, _, rest = DOCS.read_text("utf-8").partition(BEGIN)
        DOCS.write_text(f"{before}{BEGIN}\n{found}\n{END}{rest.partition(END)[2]}", "utf-8")
    sys.stdout.write(found + "\n")


if __name__ == "__main__":
    main()
