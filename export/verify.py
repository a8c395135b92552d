"""A bundle held against torch: each stage for itself, all in a chain, and the verdicts that come out."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch

from edge.bundle import ANOMALY_MAP, Bundle, Manifest, Precision
from edge.errors import VerificationFailed
from edge.runtime import Runner, runner_for
from edge.runtime.onnx import session_options
from edge.scoring import ScoreSpec, image_score, smooth_map
from edge.version import __version__
from export.adversarial import adversarial_inputs
from export.lint import Finding, lint_bundle, refuse_errors
from export.ranges import check_fp16_ranges
from export.verification import (
    Range,
    SampleCheck,
    ScoreCheck,
    StageCheck,
    TensorError,
    Tolerances,
    Verification,
)
from train.checkpoint import RunInfo, load_log, load_model
from train.golden import GoldenSample, load_golden, score_spread
from train.good_parts import Progress
from train.model import AnomalyModel, torch_tensors

__all__ = [
    "LINE_OF_SPREAD",
    "Measured",
    "MeasuredSample",
    "fp16_ranges",
    "measure",
    "refuse_no_samples",
    "refuse_problems",
    "verified",
    "verify_bundle",
]

_Array = npt.NDArray[np.generic]
_Arrays = Mapping[str, _Array]
_ORDER: tuple[Precision, ...] = ("fp32", "fp16", "int8")


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredSample:
    """A golden sample, its two scores, and the error of its map in standard deviations."""

    sample: GoldenSample
    by_torch: float
    by_onnx: float
    map_error: float


LINE_OF_SPREAD = 1e-3
"""As near to the threshold, in standard deviations of good parts' scores, a verdict is nobody's promise: the
rounding of another processor is enough to change it."""


class Measured:
    """What came out of all golden samples, before a threshold judges it."""

    def __init__(self) -> None:
        self.stages: dict[tuple[str, str], TensorError] = {}  # by stage and tensor
        self.chain: dict[str, TensorError] = {}  # by tensor
        self.samples: list[MeasuredSample] = []

    @property
    def good_scores(self) -> dict[str, float]:
        """The scores by ONNX Runtime of the good parts, by name, those that are finite."""
        return {
            row.sample.name: row.by_onnx
            for row in self.samples
            if not row.sample.defective and math.isfinite(row.by_onnx)
        }

    @property
    def drift(self) -> float:
        """The largest difference of a score that is finite."""
        drifts = [abs(row.by_onnx - row.by_torch) for row in self.samples]
        return max((drift for drift in drifts if math.isfinite(drift)), default=0.0)


def measure(
    model: AnomalyModel,
    bundle: Bundle,
    golden: Sequence[GoldenSample],
    *,
    score: ScoreSpec,
    progress: Progress,
) -> Measured:
    """Run the golden samples through torch, through each stage, and through the device's own runner.

    Raises `VerificationFailed` where there are none, `RunnerError` where ONNX Runtime can't run a stage.
    """
    refuse_no_samples(golden)
    measured = Measured()
    with progress.task("verify", len(golden)) as advance, runner_for(bundle) as runner:
        sessions = _sessions(bundle)
        for sample in golden:
            expected = _by_torch(model, sample)
            _measure_stages(measured, bundle, sessions, {**sample.tensors, **expected})
            _measure_chain(measured, runner, sample, expected, score)
            advance(1)
    return measured


def refuse_no_samples(golden: Sequence[GoldenSample]) -> None:
    """Raises `VerificationFailed` where no good part can be verified with."""
    if all(sample.defective for sample in golden):
        raise VerificationFailed("the run has no golden samples, so nothing can be proven; train it again")


def fp16_ranges(bundle: Bundle, golden: Sequence[GoldenSample]) -> tuple[Range, ...]:
    """How near to the end of FP16 each stage that has it comes, on golden and on adversarial inputs.

    Raises `ExportError` where one goes beyond.
    """
    stages = bundle.manifest.stages
    if all(stage.precision != "fp16" for stage in stages):
        return ()
    models = {file: onnx.load(bundle.path / file) for file in {stage.file for stage in stages}}
    inputs = {sample.name: sample.tensors for sample in golden}
    spoiled = adversarial_inputs(bundle.manifest.preprocessing, bundle.wanted, inputs)
    return tuple(
        Range(stage=peak.stage, tensor=peak.tensor, input=peak.input, peak=peak.value)
        for peak in check_fp16_ranges(stages, models, {**inputs, **spoiled})
    )


def _by_torch(model: AnomalyModel, sample: GoldenSample) -> dict[str, _Array]:
    """Every tensor that a stage makes."""
    with torch.no_grad():
        made = model.run_all(torch_tensors(sample.tensors))
    return {name: np.asarray(value.numpy()) for name, value in made.items()}


def _measure_stages(measured: Measured, bundle: Bundle, sessions: Mapping[str, Any], values: _Arrays) -> None:
    """Each stage, given what it would be given by torch (`values`, which also says what it should make)."""
    for stage in bundle.manifest.stages:
        feed = {node: values[tensor] for node, tensor in stage.inputs.items()}
        nodes = list(stage.outputs)
        for node, found in zip(nodes, sessions[stage.file].run(nodes, feed), strict=True):
            tensor = stage.outputs[node]
            key = (stage.name, tensor)
            measured.stages[key] = _worse(measured.stages.get(key), found, values[tensor])


def _measure_chain(
    measured: Measured, runner: Runner, sample: GoldenSample, expected: _Arrays, score: ScoreSpec
) -> None:
    """All stages, each given what the one before it made."""
    chained = runner.run(sample.tensors, tuple(expected))
    for tensor, reference in expected.items():
        measured.chain[tensor] = _worse(measured.chain.get(tensor), chained[tensor], reference)
    by_torch, by_onnx = (_score(tensors[ANOMALY_MAP], sample, score) for tensors in (expected, chained))
    error = _worse(None, chained[ANOMALY_MAP], expected[ANOMALY_MAP])
    measured.samples.append(MeasuredSample(sample, by_torch, by_onnx, error.of_spread))


def _score(cells: _Array, sample: GoldenSample, score: ScoreSpec) -> float:
    """Of an anomaly map (1, 1, m, m), as the device computes it."""
    square = smooth_map(np.asarray(cells[0, 0], np.float32), sample.foreground, score)
    return image_score(square, sample.foreground, score)


def _worse(before: TensorError | None, found: _Array, expected: _Array) -> TensorError:
    """The larger of what was seen before and of this sample's difference."""
    difference = np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64))
    finite = np.isfinite(difference)
    largest = float(difference[finite].max(initial=0.0))
    spread = max(float(np.asarray(expected, np.float64).std()), 1e-12)
    return TensorError(
        max_abs=max(largest, before.max_abs if before else 0.0),
        of_spread=max(largest / spread, before.of_spread if before else 0.0),
        not_finite=int((~finite).sum()) + (before.not_finite if before else 0),
    )


def verified(
    manifest: Manifest,
    measured: Measured,
    *,
    threshold: float,
    good_scores: Mapping[str, float],
    tolerances: Tolerances,
    findings: Sequence[Finding],
    ranges: Sequence[Range] = (),
) -> Verification:
    """Judge what was measured, at a threshold; `good_scores` are torch's, of all good parts held out."""
    stages = manifest.stages
    precision = max((stage.precision for stage in stages), key=_ORDER.index)
    spread = score_spread(good_scores)
    line = LINE_OF_SPREAD * spread
    samples = tuple(_sample_check(row, threshold, line) for row in measured.samples)
    drift_of_margin = max(
        (
            abs(row.by_onnx - row.by_torch) / max(spread, abs(row.by_torch - threshold))
            for row in measured.samples
            if math.isfinite(row.by_onnx)
        ),
        default=0.0,
    )
    off = [(sample.torch_score - threshold) / spread for sample in samples if sample.verdict != "on the line"]
    return Verification(
        product=manifest.product,
        method=manifest.method,
        precision=precision,
        versions=_versions(),
        good_samples=sum(not sample.defective for sample in samples),
        defective_samples=sum(sample.defective for sample in samples),
        stages=tuple(
            StageCheck(
                name=stage.name,
                file=stage.file,
                precision=stage.precision,
                tolerance=tolerances.of(stage.precision).tensor,
                outputs={tensor: measured.stages[stage.name, tensor] for tensor in stage.outputs.values()},
            )
            for stage in stages
        ),
        chain_tolerance=tolerances.of(precision).tensor,
        chain=measured.chain,
        scores=ScoreCheck(
            threshold=threshold,
            spread=spread,
            line=line,
            drift=measured.drift,
            drift_of_margin=drift_of_margin,
            tolerance=tolerances.of(precision).score,
            nearest_pass=min((-margin for margin in off if margin <= 0), default=None),
            nearest_fail=min((margin for margin in off if margin > 0), default=None),
        ),
        samples=samples,
        fp16_ranges=tuple(ranges),
        warnings=tuple(str(finding) for finding in findings if finding.severity == "warning"),
    )


def _sample_check(row: MeasuredSample, threshold: float, line: float) -> SampleCheck:
    verdict: Literal["same", "on the line", "flipped"] = "same"
    # A threshold is the score of a good part: the verdict of that one hangs on the last bit.
    if min(abs(row.by_torch - threshold), abs(row.by_onnx - threshold)) <= line:
        verdict = "on the line"
    elif (row.by_torch > threshold) != (row.by_onnx > threshold):
        verdict = "flipped"
    return SampleCheck(
        name=row.sample.name,
        defective=row.sample.defective,
        torch_score=row.by_torch,
        onnx_score=row.by_onnx if math.isfinite(row.by_onnx) else None,
        map_error=row.map_error,
        verdict=verdict,
    )


def refuse_problems(verification: Verification) -> None:
    """Raises `VerificationFailed` where something is wrong."""
    problems = verification.problems()
    if problems:
        raise VerificationFailed(
            "the bundle does not give what torch gives:\n"
            + "\n".join(problems)
            + "\nexport the stages concerned in a finer precision (--precision); docs/export.md says what "
            "the bounds are for"
        )


def verify_bundle(run: Path, bundle: Bundle, tolerances: Tolerances, progress: Progress) -> Verification:
    """Verify a bundle as it is, with the threshold that it has, by the run that it was exported from.

    What it finds is in the result; `refuse_problems` makes an error of it. Raises `VerificationFailed` where
    nothing can be compared: the bundle is not of this run, or has no calibration; `LintFailed`,
    `TrainingError`, `RunnerError`.
    """
    model, info = load_model(run)
    _refuse_stranger(bundle, model, info, run)
    if bundle.calibration is None:
        raise VerificationFailed(
            f"{bundle.path}: has no calibration, so there is no threshold at which a verdict could flip; "
            "calibrate it first"
        )
    findings = lint_bundle(bundle)
    refuse_errors(findings)
    golden = load_golden(run)
    measured = measure(model, bundle, golden, score=info.config.score, progress=progress)
    return verified(
        bundle.manifest,
        measured,
        threshold=bundle.calibration.threshold,
        good_scores=load_log(run).validation_scores,
        tolerances=tolerances,
        findings=findings,
        ranges=fp16_ranges(bundle, golden),
    )


def _refuse_stranger(bundle: Bundle, model: AnomalyModel, info: RunInfo, run: Path) -> None:
    manifest = bundle.manifest
    own = [stage.spec.model_copy(update={"precision": "fp32"}) for stage in model.stages()]
    its = [stage.model_copy(update={"precision": "fp32"}) for stage in manifest.stages]
    different = [
        what
        for what, here, there in (
            ("product", info.product, manifest.product),
            ("preprocessing", info.preprocessing, manifest.preprocessing),
            ("stages", own, its),
            ("score", info.config.score, manifest.score),
        )
        if here != there
    ]
    if different:
        raise VerificationFailed(
            f"{bundle.path}: was not exported from {run}: {', '.join(different)} differ; give the run that "
            "the manifest's provenance names"
        )


def _sessions(bundle: Bundle) -> dict[str, Any]:
    """One per file, under the settings that the device has; `Runner` offers no stage by itself."""
    return {
        file: ort.InferenceSession(
            str(bundle.path / file), session_options(), providers=["CPUExecutionProvider"]
        )
        for file in {stage.file for stage in bundle.manifest.stages}
    }


def _versions() -> dict[str, str]:
    return {
        "edge-inspect": __version__,
        "torch": str(torch.__version__),
        "onnx": version("onnx"),
        "onnxruntime": ort.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
