"""How far the directions of parts still differ once they are turned upright: measured on the good parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edge.camera.sample import Sample
from edge.framing import View, box_of
from edge.preprocessing import Preprocessing
from train.datasets.check import evenly
from train.uprightness import PARTS_LOOKED_AT, look_of, seen_part

__all__ = ["LARGEST_DEG", "jitter_of", "spread_deg", "spread_of"]

LARGEST_DEG = 12
"""Beyond it parts are not compared: what differs by more lies anyhow, and no small angle stands for it."""

_LEAST = 3  # parts; of two, nobody can say which of them is turned
_ROUNDS = 3  # of turning each part to the mean of the others: more change nothing

_Looks = npt.NDArray[np.float64]


def spread_deg(
    samples: Sequence[Sample], preprocessing: Preprocessing, step_done: Callable[[int], None]
) -> float:
    """The deviation of parts' directions, in degrees, as the device will see them.

    0 where parts aren't framed one by one, and of fewer than three, of which nothing can be said. At most
    `PARTS_LOOKED_AT` samples, evenly spaced, are read. Raises `DatasetError`, naming the file.
    """
    if preprocessing.framing.mode != "part" or len(samples) < _LEAST:
        return 0.0
    looks = []
    for sample in evenly(samples, PARTS_LOOKED_AT):
        grey, part, reach_px = seen_part(sample, preprocessing)
        box = box_of(part, upright=preprocessing.framing.upright)
        looks.append(
            [
                look_of(grey, part, View(box.centre_px, box.size_px, box.angle_deg + turn_deg), reach_px)
                for turn_deg in range(-LARGEST_DEG, LARGEST_DEG + 1)
            ]
        )
        step_done(1)
    return spread_of(np.asarray(looks))


def spread_of(looks: _Looks) -> float:
    """The deviation, in degrees, of the angles at which parts look most alike.

    `looks` (n, 2·LARGEST_DEG + 1, d) are unit vectors of each part, turned by whole degrees. Each part is
    turned to where it looks most like the mean of the others, as these were turned before. A part that fits
    best at the outermost angle is the other way round, or lies anyhow: it says nothing of small angles, and
    where most do, neither do the others. The deviation is half the distance between the 16th and the 84th
    percentile, which a few that were matched wrongly don't make.
    """
    parts, turns, _ = looks.shape
    best = np.full(parts, turns // 2)
    total = looks[:, turns // 2].sum(axis=0)  # (d,)
    for _ in range(_ROUNDS):
        # One after the other: if all were turned at once, two halves would change places for ever.
        for part in range(parts):
            others = total - looks[part, best[part]]
            best[part] = int((looks[part] @ others).argmax())
            total = others + looks[part, best[part]]
    within = best[(best > 0) & (best < turns - 1)]
    if 2 * len(within) < parts:
        return float(LARGEST_DEG)
    low, high = np.percentile(within, [16, 84])
    return float(high - low) / 2


def jitter_of(deviation_deg: float) -> tuple[float, ...]:
    """The small angles that stand for such a deviation: two of it to either side, and none below one degree.

    Nineteen parts in twenty then lie between the outermost angles, and at whole degrees less than one is what
    the measurement itself can't tell from none.
    """
    if deviation_deg < 1.0:
        return (0.0,)
    outermost = float(min(LARGEST_DEG, round(2 * deviation_deg)))
    return (0.0, outermost, -outermost)
