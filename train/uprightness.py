"""By what the parts of a product are best turned upright: tried on the good parts to train on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import cv2
import numpy as np
import numpy.typing as npt

from edge.camera.sample import Sample
from edge.depth import Mask
from edge.framing import Upright, View, box_of
from edge.preprocessing import Preprocessing
from train.datasets.check import evenly
from train.views import prepare_frame, read_frame

__all__ = [
    "PARTS_LOOKED_AT",
    "best_of",
    "choose_upright",
    "difference_error",
    "likeness",
    "look_of",
    "seen_part",
]

PARTS_LOOKED_AT = 32
_SIDE = 64
_LEAST = 3  # parts; of two, no error can be estimated

_BY_LOOKS_LEFT: tuple[Upright, ...] = ("off", "axis", "reach", "triangle", "square", "hexagon")
"""Where nothing is gained by turning, parts are left alone; else as few ways to lie are left as can be."""

_Vector = npt.NDArray[np.float64]


def choose_upright(
    samples: Sequence[Sample], preprocessing: Preprocessing, step_done: Callable[[int], None]
) -> tuple[Upright, dict[Upright, float]]:
    """The way to turn parts upright under which they look most alike, and the likeness under each way.

    Likeness is the mean correlation of two parts, of their pictures and of their outlines. Of ways that are
    within one standard error of the best (Breiman et al. 1984, the 1-SE rule; the error of the paired
    difference by the jackknife) that one is taken which leaves a part the fewest looks: a square's four
    quarter turns may well look as much alike as a part whose one axis is found, but are four times as much to
    learn. At most `PARTS_LOOKED_AT` samples, evenly spaced, are read; of fewer than three nothing can be
    said: "off". Raises `DatasetError`, naming the file.
    """
    chosen = evenly(samples, PARTS_LOOKED_AT)
    looks: dict[Upright, list[_Vector]] = {way: [] for way in get_args(Upright)}
    for sample in chosen:
        grey, part, reach_px = seen_part(sample, preprocessing)
        for way, vectors in looks.items():
            vectors.append(look_of(grey, part, box_of(part, upright=way), reach_px))
        step_done(1)
    found = {way: likeness(vectors) for way, vectors in looks.items()}
    return ("off" if len(chosen) < _LEAST else best_of(looks)), found


def best_of(looks: Mapping[Upright, Sequence[_Vector]]) -> Upright:
    """Of the ways within one standard error of the best, the one that leaves a part the fewest looks.

    `looks` are unit vectors of what the same three parts or more look like under each way.
    """
    found = {way: likeness(vectors) for way, vectors in looks.items()}
    best = max(found, key=lambda way: found[way])
    as_good = (
        way
        for way in _BY_LOOKS_LEFT
        if way in looks and found[best] - found[way] <= difference_error(looks[best], looks[way])
    )
    return next(as_good)


def likeness(vectors: Sequence[_Vector]) -> float:
    """The mean inner product of two different unit vectors of these; 0 of fewer than two."""
    count = len(vectors)
    if count < 2:
        return 0.0
    # ‖Σ v‖² holds every pair twice and each vector with itself
    total = float(np.square(np.sum(vectors, axis=0)).sum())
    return (total - count) / (count * (count - 1))


def difference_error(ours: Sequence[_Vector], theirs: Sequence[_Vector]) -> float:
    """The jackknife's standard error of the difference of two likenesses of the same three parts or more."""
    count = len(ours)
    without = np.array(
        [
            likeness([*ours[:i], *ours[i + 1 :]]) - likeness([*theirs[:i], *theirs[i + 1 :]])
            for i in range(count)
        ]
    )  # (n,)
    return math.sqrt((count - 1) * float(without.var()))


def seen_part(sample: Sample, preprocessing: Preprocessing) -> tuple[npt.NDArray[np.uint8], Mask, float]:
    """What `look_of` takes of a sample: its picture in grey and the part's mask (H, W), the reach in pixels.

    The reach is one for all ways to turn a part: the circle around its box is as large however it is turned.
    Raises `DatasetError`, naming the file.
    """
    frame = read_frame(sample)
    part = prepare_frame(sample, frame, preprocessing, frozenset()).part  # (H, W)
    grey = np.asarray(cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)  # (H, W)
    return grey, part, 1.1 * math.hypot(*box_of(part, upright="axis").size_px)


def look_of(grey: npt.NDArray[np.uint8], part: Mask, box: View, reach_px: float) -> _Vector:
    """A unit vector (2·64²,) of what a part looks like in a square about its box: its picture, its outline.

    `grey` and `part` (H, W); `reach_px` is the square's side in pixels of the frame.
    """
    view = View(box.centre_px, (reach_px, reach_px), box.angle_deg)
    inside = view.take(part.astype(np.uint8), _SIDE, nearest=True) > 0  # (s, s)
    picture = view.take(grey, _SIDE).astype(np.float64)  # (s, s)
    seen = np.where(inside, picture - picture[inside].mean(), 0.0)
    outline = inside - inside.mean()
    both: _Vector = np.concatenate([_unit(seen), _unit(outline)]) / np.sqrt(2.0)
    return both


def _unit(values: npt.NDArray[np.float64]) -> _Vector:
    length = float(np.linalg.norm(values))
    return np.asarray(values.ravel() / max(length, 1e-12), dtype=np.float64)
