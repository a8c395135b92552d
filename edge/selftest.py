"""Whether this device computes what the workstation did: a bundle's golden samples, run and compared."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge.bundle import ANOMALY_MAP, Bundle, Precision
from edge.errors import BundleError, RunnerError
from edge.golden import CELL_MM2, FOREGROUND, read_golden
from edge.ruled_score import NoPieceSoLarge, RuledScore
from edge.runtime import Runner
from edge.scoring import smooth_map
from edge.selftest_result import SampleResult, SelftestResult, Verdict

__all__ = ["TOLERANCES", "golden_score", "run_sample", "run_selftest"]

_Arrays = Mapping[str, npt.NDArray[np.generic]]
_Map = npt.NDArray[np.float32]

TOLERANCES: Mapping[Precision, float] = {"fp32": 1e-3, "fp16": 0.5, "int8": 1.0}
"""How far map and score may lie from torch's, in standard deviations of the expected map.

The bounds by which `edge-export` verifies a map on the workstation: a device may not be worse. A half has 11
bits: over the layers of a backbone that becomes a tenth of a standard deviation in the worst of all cells,
and a flow makes twice that of it (docs/export.md has the figures). An int8 step is 1/127 of a tensor's range.
Whether a difference matters is not said by these: that no verdict changes is demanded apart from them.
"""

_LINE = TOLERANCES["fp32"]
"""A verdict that changes by no more than this lay on the threshold: rounding of another order does that."""

_ORDER: tuple[Precision, ...] = ("fp32", "fp16", "int8")
_SMALLEST_SPREAD = 1e-12
_OVERFLOWS = "a stage overflows on this backend: export it with fp32 where it does"


def run_selftest(
    bundle: Bundle,
    make_runner: Callable[[], Runner],
    *,
    backend: Literal["onnx", "tensorrt"],
    runtime: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SelftestResult:
    """Run every golden sample of a bundle and hold it against the map that torch made of it.

    `make_runner` loads the stages; `runtime` is how what runs them is called ("ONNX Runtime 1.23").
    `progress(done, total)` is told of each sample. A sample that can't be read or run, or gives NaN, is a
    problem in the result. Raises `RunnerError` where the stages can't be loaded, `CalibrationError` where the
    calibration's region rules don't go with the model's score.
    """
    precision = _precision(bundle)
    files = bundle.golden_files()
    started = time.perf_counter()
    with make_runner() as runner:
        load_seconds = time.perf_counter() - started
        samples = []
        for number, path in enumerate(files):
            progress(number, len(files))
            samples.append(_sample(bundle, runner, path, TOLERANCES[precision]))
        progress(len(files), len(files))
    return SelftestResult(
        bundle=str(bundle.path),
        model_sha256=bundle.model_sha256,
        backend=backend,
        runtime=runtime,
        precision=precision,
        tolerance=TOLERANCES[precision],
        threshold=_threshold(bundle),
        load_seconds=load_seconds,
        samples=tuple(samples),
    )


def run_sample(bundle: Bundle, runner: Runner, path: Path) -> SampleResult:
    """Run the golden sample `path` on a runner that is there already; it raises nothing for a bad one."""
    return _sample(bundle, runner, path, TOLERANCES[_precision(bundle)])


def golden_score(cells: _Map, arrays: _Arrays, bundle: Bundle) -> float:
    """The score that decides, of an anomaly map, `cells` (m, m), of a golden sample that holds `arrays`.

    It is by the region rules of the bundle's calibration, over the sample's foreground, as in an inspection.
    An older sample has none: the tensor `mask` then stands for it, each cell as a square of the depth square,
    and without that all counts; nor does it say what a cell covers, and `min_area_mm2` is left out. Such a
    score is only for comparing two maps. Raises `NoPieceSoLarge`, and `CalibrationError` where the rules
    don't go with the model's score.
    """
    manifest, calibration = bundle.manifest, bundle.calibration
    if FOREGROUND in arrays:
        inside = np.asarray(arrays[FOREGROUND], dtype=bool)  # (side, side)
    else:
        mask = arrays.get("mask")
        own = np.ones(cells.shape, bool) if mask is None else np.asarray(mask)[0, 0] > 0  # (m, m)
        factor = manifest.preprocessing.unshuffle
        inside = np.kron(own, np.ones((factor, factor), bool))  # (side, side)
    rules = None if calibration is None else calibration.region_rules
    if rules is not None and not _says_area(arrays):
        rules = rules.model_copy(update={"min_area_mm2": None})
    scoring = RuledScore(manifest.score, rules, manifest.preprocessing.depth_px)
    cell_mm2 = float(np.asarray(arrays[CELL_MM2])[0]) if _says_area(arrays) else math.nan
    square = smooth_map(cells, inside, manifest.score)
    return scoring.score(scoring.ruled(square, inside, _threshold(bundle), cell_mm2))


def _says_area(arrays: _Arrays) -> bool:
    return CELL_MM2 in arrays


def _not_judged(bundle: Bundle, arrays: _Arrays) -> str | None:
    calibration = bundle.calibration
    rules = None if calibration is None else calibration.region_rules
    if rules is None or rules.min_area_mm2 is None or _says_area(arrays):
        return None
    return (
        "min_area_mm2 of the calibration: the sample does not say what a cell of the map covers; export the "
        "bundle anew"
    )


def _stretch(bundle: Bundle) -> float:
    """By how much the map is scaled at most: an error of it looks so much larger in a score."""
    calibration = bundle.calibration
    if calibration is None or calibration.region_rules is None:
        return 1.0
    zones = calibration.region_rules.zones
    return max([1.0, *(calibration.threshold / zone.threshold for zone in zones if zone.threshold)])


def _precision(bundle: Bundle) -> Precision:
    """The lowest of its stages."""
    return max((stage.precision for stage in bundle.manifest.stages), key=_ORDER.index)


def _sample(bundle: Bundle, runner: Runner, path: Path, tolerance: float) -> SampleResult:
    manifest = bundle.manifest
    try:
        arrays = read_golden(path, manifest)
        tensors = {name: arrays[name] for name in bundle.wanted}
        runner.run(tensors)  # the first run of a backend allocates; its time says nothing
        started = time.perf_counter()
        found = runner.run(tensors)[ANOMALY_MAP]
        seconds = time.perf_counter() - started
    except (BundleError, RunnerError) as error:
        return SampleResult(name=path.stem, problem=str(error))
    expected = np.asarray(arrays[ANOMALY_MAP][0, 0], np.float32)  # (m, m)
    cells = np.asarray(found[0, 0], np.float32)  # (m, m)
    not_judged = _not_judged(bundle, arrays)
    threshold = None if not_judged else _threshold(bundle)
    try:
        expected_score = golden_score(expected, arrays, bundle)
    except NoPieceSoLarge as error:  # as it would of any map over this foreground
        undecided = SampleResult(name=path.stem, seconds=seconds, not_judged=str(error))
        return _map_alone(undecided, cells, expected, tolerance)
    expected_verdict = _verdict(expected_score, threshold)
    wrong = int((~np.isfinite(cells)).sum())
    score = math.nan if wrong else golden_score(cells, arrays, bundle)
    if not math.isfinite(score):
        what = (
            f"{wrong} of {cells.size} cells of the map are not numbers" if wrong else f"the score is {score}"
        )
        return SampleResult(
            name=path.stem,
            expected_score=expected_score,
            expected_verdict=expected_verdict,
            seconds=seconds,
            problem=f"{what}; {_OVERFLOWS}",
            not_judged=not_judged,
        )
    spread = _spread(expected)
    result = SampleResult(
        name=path.stem,
        map_error=_map_error(cells, expected),
        expected_score=expected_score,
        score=score,
        score_drift=(score - expected_score) / (spread * _stretch(bundle)),
        expected_verdict=expected_verdict,
        verdict=_verdict(score, threshold),
        seconds=seconds,
        not_judged=not_judged,
    )
    return result.model_copy(update={"problem": _problem(result, tolerance)})


def _map_alone(undecided: SampleResult, cells: _Map, expected: _Map, tolerance: float) -> SampleResult:
    """Of a part that gets no decision, for too little of it counts."""
    wrong = int((~np.isfinite(cells)).sum())
    if wrong:
        problem = f"{wrong} of {cells.size} cells of the map are not numbers; {_OVERFLOWS}"
        return undecided.model_copy(update={"problem": problem})
    result = undecided.model_copy(update={"map_error": _map_error(cells, expected)})
    return result.model_copy(update={"problem": _problem(result, tolerance)})


def _map_error(cells: _Map, expected: _Map) -> float:
    return float(np.abs(cells.astype(np.float64) - expected).max()) / _spread(expected)


def _spread(expected: _Map) -> float:
    return max(float(expected.std(dtype=np.float64)), _SMALLEST_SPREAD)


def _problem(result: SampleResult, tolerance: float) -> str | None:
    if result.flipped and abs(result.score_drift or 0.0) > _LINE:
        return f"the verdict is {result.verdict}, on the workstation it was {result.expected_verdict}"
    for name, value in (("map", result.map_error), ("score", result.score_drift)):
        if value is not None and abs(value) > tolerance:
            return f"the {name} is {abs(value):.2g} standard deviations off; at most {tolerance:g} is allowed"
    return None


def _threshold(bundle: Bundle) -> float | None:
    return None if bundle.calibration is None else bundle.calibration.threshold


def _verdict(score: float, threshold: float | None) -> Verdict | None:
    if threshold is None:
        return None
    return "fail" if score > threshold else "pass"
