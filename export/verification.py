"""What a bundle was verified by: `verification.json`, with every number that decided."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edge.bundle import Precision
from edge.selftest import TOLERANCES

__all__ = [
    "VERIFICATION_FILE",
    "Range",
    "SampleCheck",
    "ScoreCheck",
    "StageCheck",
    "TensorError",
    "Tolerance",
    "Tolerances",
    "Verification",
]

VERIFICATION_FILE = "verification.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tolerance(_Frozen):
    """Bounds of a precision: of a tensor's error in its own standard deviations, and of the score's drift in
    its margin (see `ScoreCheck`)."""

    tensor: float = Field(gt=0)
    score: float = Field(gt=0)


class Tolerances(_Frozen):
    """Bounds for each precision; docs/export.md gives the reason of each.

    A tensor's are those of the self-test on the device: it leaves no less room than the workstation.
    """

    fp32: Tolerance = Tolerance(tensor=TOLERANCES["fp32"], score=1e-3)
    fp16: Tolerance = Tolerance(tensor=TOLERANCES["fp16"], score=0.5)
    int8: Tolerance = Tolerance(tensor=TOLERANCES["int8"], score=0.5)

    def of(self, precision: Precision) -> Tolerance:
        """The bounds of one precision."""
        by_name: dict[Precision, Tolerance] = {"fp32": self.fp32, "fp16": self.fp16, "int8": self.int8}
        return by_name[precision]


class TensorError(_Frozen):
    """The largest difference of a tensor over all samples: as it is, and in standard deviations of what torch
    gives for that sample. Values that are not finite are counted, and left out of both."""

    max_abs: float = Field(ge=0)
    of_spread: float = Field(ge=0)
    not_finite: int = Field(default=0, ge=0)

    def within(self, bound: float) -> bool:
        """Whether everything is finite and within the bound."""
        return self.not_finite == 0 and self.of_spread <= bound


class StageCheck(_Frozen):
    """One stage, fed with what torch feeds it: the error of its outputs is its own alone."""

    name: str
    file: str
    precision: Precision
    tolerance: float
    outputs: dict[str, TensorError]


class Range(_Frozen):
    """The largest absolute value of a stage's FP16 tensors, where, and on which input; FP16 ends at 65504."""

    stage: str
    tensor: str
    input: str
    peak: float = Field(ge=0, lt=65504)


class SampleCheck(_Frozen):
    """One golden sample through the whole chain. A score is None where it is not finite."""

    name: str
    defective: bool
    torch_score: float
    onnx_score: float | None
    map_error: float = Field(ge=0)
    verdict: Literal["same", "on the line", "flipped"]


class ScoreCheck(_Frozen):
    """The scores of all samples at the bundle's threshold.

    `spread` is the standard deviation of the scores of the good parts held out, by torch. `drift` is the
    largest difference of a sample's score; `drift_of_margin` the largest in that sample's margin, which is
    its distance from the threshold by torch, but at least one spread. A sample is on
    the line where one of its two scores lies within `line` of the threshold. `nearest_pass` and
    `nearest_fail` are how far the nearest sample off the line lies from it, on either side, in spreads: how
    sharp the check was.
    """

    threshold: float
    spread: float = Field(gt=0)
    line: float = Field(gt=0)
    drift: float = Field(ge=0)
    drift_of_margin: float = Field(ge=0)
    tolerance: float = Field(gt=0)
    nearest_pass: float | None
    nearest_fail: float | None


class Verification(_Frozen):
    """A bundle held against the torch model that it was exported from."""

    schema_version: Literal[1] = 1
    product: str
    method: str
    precision: Precision
    """The coarsest of the stages'; its tolerance bounds the whole."""
    versions: dict[str, str]
    good_samples: int
    defective_samples: int
    stages: tuple[StageCheck, ...]
    chain_tolerance: float
    chain: dict[str, TensorError]
    """Each tensor with the stages one after the other: the errors of those before it are in it."""
    scores: ScoreCheck
    samples: tuple[SampleCheck, ...]
    fp16_ranges: tuple[Range, ...] = ()
    """Of the stages that are fp16."""
    warnings: tuple[str, ...] = ()
    """What the lint of operators warns of."""

    @property
    def flipped(self) -> tuple[SampleCheck, ...]:
        """The samples that get another verdict than by torch."""
        return tuple(sample for sample in self.samples if sample.verdict == "flipped")

    def problems(self) -> tuple[str, ...]:
        """What is wrong, a sentence each; nothing where the bundle is verified."""
        found = [
            f"stage {stage.name!r} ({stage.precision}) gives {_said(tensor, error)}, allowed "
            f"{stage.tolerance:g}"
            for stage in self.stages
            for tensor, error in stage.outputs.items()
            if not error.within(stage.tolerance)
        ]
        found += [
            f"the chain of stages gives {_said(tensor, error)}, allowed {self.chain_tolerance:g}"
            for tensor, error in self.chain.items()
            if not error.within(self.chain_tolerance)
        ]
        broken = [sample.name for sample in self.samples if sample.onnx_score is None]
        if broken:
            found.append(f"the score of {', '.join(broken)} is not finite")
        scores = self.scores
        if scores.drift_of_margin > scores.tolerance:
            found.append(
                f"scores drift by up to {scores.drift:.3g}, one by {scores.drift_of_margin:.2g} of its "
                f"margin, allowed {scores.tolerance:g}"
            )
        found += [
            f"{sample.name} gets another verdict: score {sample.onnx_score}, by torch {sample.torch_score}, "
            f"threshold {scores.threshold}"
            for sample in self.flipped
        ]
        return tuple(found)


def _said(tensor: str, error: TensorError) -> str:
    if error.not_finite:
        return f"{error.not_finite} values of {tensor!r} that are not finite"
    return f"{tensor!r} {error.of_spread:.2g} standard deviations off"
