"""Is the depth in metres? A wrong unit trains a model of nonsense, and nothing else would say so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from edge.camera.sample import Sample
from edge.errors import DatasetError
from train.datasets.dataset import DataSet

__all__ = ["RANGES", "DepthRange", "check_depth", "evenly", "median_depth_m"]

_Item = TypeVar("_Item")

LOOKED_AT = 6
"""How many parts are read to find out; spread over all splits."""


@dataclass(frozen=True, slots=True)
class DepthRange:
    """Where the median depth of a part's picture must lie, and why there."""

    low_m: float
    high_m: float
    of: str

    def __contains__(self, depth_m: object) -> bool:
        return isinstance(depth_m, float) and self.low_m <= depth_m <= self.high_m


# D405: Intel's data sheet, ideal range 7 to 50 cm. MVTec 3D-AD: a Zivid; cable_gland lies at 0.65 m.
# Eyecandies is rendered: no camera bounds it, only the mistakes do (0 to 1 unnormalised, 0 to 65535 counts).
RANGES = {
    "captures": DepthRange(0.07, 0.5, "a D405 sees"),
    "mvtec3d": DepthRange(0.1, 3.0, "the structured-light camera of MVTec 3D-AD sees"),
    "eyecandies": DepthRange(0.05, 100.0, "a rendered scene of Eyecandies spans"),
    "pdreal": DepthRange(0.07, 0.5, "a D405 sees"),
    "globs": DepthRange(0.07, 0.5, "a D405 sees"),
}

_UNITS = {
    1.0: "metres",
    1e-2: "centimetres",
    1e-3: "millimetres",
    1e-4: "tenths of a millimetre (a D405's default)",
    1e-6: "micrometres",
}


def check_depth(data: DataSet, expected: DepthRange, unit_in: str | None, scale: float = 1.0) -> None:
    """Raises `DatasetError` where the median depth of a few parts lies outside the range.

    `unit_in` names the file that holds the depth unit, None where the format has no such key; `scale` is
    the `depth_scale` that the samples were read with. Raises `CaptureError` where one of the parts can't be
    read.
    """
    samples = evenly(data.train + data.validation + data.test, LOOKED_AT)
    if not samples:
        return
    medians = [median for sample in samples if (median := median_depth_m(sample)) is not None]
    if not medians:
        raise DatasetError(
            f"{data.name}: {len(samples)} parts, the first {samples[0].depth_path}, have no valid depth at "
            "all; 0 is the code for a missing depth"
        )
    median = float(np.median(medians))
    if median not in expected:
        said = (
            f"{data.name}: the median depth of {len(samples)} parts is {median:.4g} m, {expected.of} "
            f"{expected.low_m:g} to {expected.high_m:g} m"
        )
        raise DatasetError(f"{said}: {_explain(median, samples[0].depth_unit_m, expected, unit_in, scale)}")


def median_depth_m(sample: Sample) -> float | None:
    """Of the valid depths of a part's picture; None where there are none. Raises `CaptureError`."""
    depth_m = sample.frame().depth_m  # (H, W)
    valid = depth_m[depth_m > 0]
    return float(np.median(valid)) if valid.size else None


def evenly(samples: Sequence[_Item], count: int) -> tuple[_Item, ...]:
    """`count` of the samples, the first and the last among them; all where there are no more."""
    if len(samples) <= count:
        return tuple(samples)
    return tuple(samples[i] for i in sorted({round(k) for k in np.linspace(0, len(samples) - 1, count)}))


def _explain(median_m: float, unit_m: float, expected: DepthRange, unit_in: str | None, scale: float) -> str:
    otherwise = "if it is right as it is, give the range that your camera sees (--depth-range)"
    # Which unit would bring it into the range, the closest to its middle first.
    middle = math.sqrt(max(expected.low_m, 1e-3) * expected.high_m)
    fitting = [unit for unit in _UNITS if median_m / unit_m * unit in expected]
    if not fitting:
        return f"no usual unit would mend that; is it depth at all, and not disparity? {otherwise}"
    unit = min(fitting, key=lambda unit: abs(math.log(median_m / unit_m * unit / middle)))
    read_as = next((name for u, name in _UNITS.items() if math.isclose(u, unit_m, rel_tol=1e-6)), None)
    mend = (
        f"set depth_unit_m: {unit:g} in {unit_in}"
        if unit_in is not None and scale == 1.0
        else f"store metres, or read it with --depth-scale {scale * unit / unit_m:g}"
    )
    return (
        f"looks like {_UNITS[unit]} read as {read_as or f'counts of {unit_m:g} m'}; {mend}, then it is "
        f"{median_m / unit_m * unit:.3g} m; {otherwise}"
    )
