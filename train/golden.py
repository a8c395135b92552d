"""Golden samples of a run: what its bundle is verified with, and where its threshold is found anew.

Some are good parts that were held out, those about the threshold first: a threshold is one of their scores.
Where none were, they are mirrored (`train.crossing`).
The others are good parts with a simulated defect, faint and plain: a verdict can only flip near the
threshold, and good parts alone would not show it from above.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from edge.depth import Mask
from edge.errors import DatasetError, DepthUnusable, TrainingError
from edge.frame import Frame
from edge.preprocessing import Prepared
from edge.quantile import quantile_rank
from edge.ruled_score import cell_mm2_of
from edge.simulation.defects import DEFECTS
from train.datasets import name_of
from train.good_parts import GoodParts
from train.spoiling import spoil
from train.views import prepare_frame, read_frame

__all__ = [
    "GOLDEN_FILE",
    "GoldenSample",
    "about_the_threshold",
    "choose_golden",
    "load_golden",
    "packed_golden",
    "score_spread",
]

GOLDEN_FILE = "golden.npz"

NEAR_PARTS = 8
"""Good parts nearest in rank to the threshold."""

NEAR_SPREADS = 0.5
MOST_NEAR_PARTS = 64
"""All good parts whose score lies so near to the threshold, in standard deviations of all their scores, are
kept, too, but no more than so many: a score that drifts by less can't move the threshold unseen."""

SPREAD_PARTS = 4
"""Good parts evenly spaced through all scores."""

SEVERITIES = (0.5, 1.0)
"""Each kind of simulated defect, faint and as drawn."""

_LEAST_SHARE = 0.01
_FOREGROUND, _DEFECTIVE, _CELL_MM2 = "foreground", "defective", "cell_mm2"
_BESIDE = (_FOREGROUND, _DEFECTIVE, _CELL_MM2)
"""What a sample has beside its tensors."""

Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True, eq=False)
class GoldenSample:
    """A preprocessed frame: its tensors, each with a batch axis of 1, and the foreground (side, side).

    `cell_mm2` is what a cell of that square covers; None in a run of before.
    """

    name: str
    tensors: Arrays
    foreground: Mask
    defective: bool
    cell_mm2: float | None = None


def choose_golden(
    good: GoodParts,
    scores: Mapping[str, float],
    false_reject_rate: float,
    wanted: frozenset[str],
    *,
    seed: int,
    seen_as: Callable[[Frame], Frame] = lambda frame: frame,
) -> tuple[GoldenSample, ...]:
    """The golden samples of a run, of its held-out good parts; `scores` are theirs, by name.

    `seen_as` makes of a part that was trained on one that was not. A simulated defect that does not show on
    a part is left out. Raises `DatasetError`.
    """
    by_name = {name_of(sample): sample for sample in good.held_out}
    chosen = about_the_threshold(scores, false_reject_rate)
    found: list[GoldenSample] = []
    with good.progress.task("golden samples", len(chosen) + len(DEFECTS) * len(SEVERITIES)) as advance:
        for name in chosen:
            frame = seen_as(read_frame(by_name[name]))
            prepared = prepare_frame(by_name[name], frame, good.preprocessing, wanted)
            found.append(_golden(name, prepared, defective=False))
            advance(1)
        for sample in _spoiled(good, wanted, seed, seen_as):
            found += [] if sample is None else [sample]
            advance(1)
    return tuple(found)


def about_the_threshold(scores: Mapping[str, float], false_reject_rate: float) -> list[str]:
    """Names of the good parts to keep, the one that makes the threshold first; `scores` by name."""
    ranked = sorted(scores, key=lambda name: (scores[name], name))
    at = quantile_rank(len(ranked), false_reject_rate) - 1
    by_rank = sorted(range(len(ranked)), key=lambda place: (abs(place - at), place))
    reach = NEAR_SPREADS * score_spread(scores)
    near = [
        place
        for number, place in enumerate(by_rank[:MOST_NEAR_PARTS])
        if number < NEAR_PARTS or abs(scores[ranked[place]] - scores[ranked[at]]) <= reach
    ]
    through = [place * (len(ranked) - 1) // (SPREAD_PARTS - 1) for place in range(SPREAD_PARTS)]
    return [ranked[place] for place in dict.fromkeys([*near, *through])]  # each once


def score_spread(good_scores: Mapping[str, float]) -> float:
    """What a difference of scores is measured in: the standard deviation of the good parts' scores.

    Of a few parts it may come out as next to nothing; it counts at least as 1 % of their median.
    """
    values = np.array(list(good_scores.values()), np.float64)
    return max(float(values.std()), _LEAST_SHARE * abs(float(np.median(values))), 1e-12)


def _spoiled(
    good: GoodParts, wanted: frozenset[str], seed: int, seen_as: Callable[[Frame], Frame]
) -> Iterator[GoldenSample | None]:
    number = 0
    for severity in SEVERITIES:
        for kind in DEFECTS:
            count = len(DEFECTS) * len(SEVERITIES)
            sample = good.held_out[number * len(good.held_out) // count]
            rng = np.random.default_rng(np.random.SeedSequence([seed, number]))
            number += 1
            frame = seen_as(read_frame(sample))
            try:
                spoiled = spoil(frame, good.preprocessing, kind, rng, severity)
                prepared = prepare_frame(sample, spoiled.frame, good.preprocessing, wanted)
            except (DatasetError, DepthUnusable, TrainingError):
                yield None  # no place on this part for this defect; the good part itself was usable
            else:
                yield _golden(f"{name_of(sample)}/{kind}-{severity:g}", prepared, defective=True)


def _golden(name: str, prepared: Prepared, *, defective: bool) -> GoldenSample:
    tensors = {key: np.array(array) for key, array in prepared.tensors.items()}
    cell_mm2 = cell_mm2_of(prepared.view, prepared.mask.shape[0], prepared.pixel_mm)
    return GoldenSample(name, tensors, np.array(prepared.mask), defective, cell_mm2)


def packed_golden(samples: Sequence[GoldenSample]) -> bytes:
    """The samples as the bytes of an .npz; the same samples give the same bytes."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for sample in samples:
        arrays |= {f"{sample.name}/{key}": array for key, array in sample.tensors.items()}
        arrays[f"{sample.name}/{_FOREGROUND}"] = sample.foreground
        arrays[f"{sample.name}/{_DEFECTIVE}"] = np.array(sample.defective)
        if sample.cell_mm2 is not None:
            arrays[f"{sample.name}/{_CELL_MM2}"] = np.array(sample.cell_mm2)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
    return file.getvalue()


def load_golden(run: Path) -> tuple[GoldenSample, ...]:
    """The golden samples of a run; raises `TrainingError`."""
    path = run / GOLDEN_FILE
    parts: dict[str, dict[str, npt.NDArray[np.generic]]] = {}
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            for key in arrays.files:
                name, _, tensor = key.rpartition("/")
                parts.setdefault(name, {})[tensor] = arrays[key]
        return tuple(
            GoldenSample(
                name,
                {key: array for key, array in found.items() if key not in _BESIDE},
                np.asarray(found[_FOREGROUND], dtype=np.bool_),
                bool(found[_DEFECTIVE]),
                float(found[_CELL_MM2]) if _CELL_MM2 in found else None,
            )
            for name, found in parts.items()
        )
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: is missing; copy the run again, or train it again") from error
    except (OSError, EOFError, BadZipFile, zlib.error, ValueError, KeyError) as error:
        raise TrainingError(f"{path}: is damaged ({error}); copy the run again, or train again") from error
