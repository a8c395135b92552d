"""What a self-test found, as data; apart from `edge.selftest`, so that it can be read without numpy."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["SampleResult", "SelftestResult", "Verdict"]

Verdict = Literal["pass", "fail"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SampleResult(_Model):
    """One golden sample on this device, against what torch made of it.

    `map_error` is the largest difference of the anomaly map, `score_drift` the difference of the score,
    both in standard deviations of the expected map over the sample. `problem` says in a sentence what went
    wrong; the numbers are then those that could still be had, None where there are none. The verdicts are
    None without a threshold. `seconds` is the time of the run that was compared, the second one.

    Scores and verdicts are by the calibration's region rules; where a zone's threshold scales the map, so are
    the standard deviations of `score_drift`. `not_judged` says which rules they are without, or why there is
    no score; there is then no verdict.
    """

    name: str
    map_error: float | None = None
    expected_score: float | None = None
    score: float | None = None
    score_drift: float | None = None
    expected_verdict: Verdict | None = None
    verdict: Verdict | None = None
    seconds: float | None = Field(default=None, ge=0)
    problem: str | None = None
    not_judged: str | None = None

    @property
    def flipped(self) -> bool:
        """Whether the part would get another verdict here than on the workstation."""
        return self.verdict != self.expected_verdict


class SelftestResult(_Model):
    """All golden samples of a bundle on one backend; it is passed where no sample has a problem.

    `precision` is the coarsest of the bundle's stages: it decides on `tolerance`, the bound of `map_error`
    and of `score_drift`. `runtime` names what ran. `load_seconds` is what it took to load the stages, or to
    build their engines.
    """

    bundle: str
    model_sha256: str
    backend: Literal["onnx", "tensorrt"]
    runtime: str
    precision: Literal["fp32", "fp16", "int8"]
    tolerance: float = Field(gt=0)
    threshold: float | None
    load_seconds: float = Field(ge=0)
    samples: tuple[SampleResult, ...]

    @property
    def passed(self) -> bool:
        return bool(self.samples) and all(sample.problem is None for sample in self.samples)
