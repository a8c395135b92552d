"""From the scores of good parts to a threshold, and the file in which it is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from edge.errors import CalibrationError
from edge.sealed import plain_data, read_sealed, seal, write_atomically

__all__ = [
    "CALIBRATION_FILE",
    "MAX_GOOD_SCORES",
    "Calibration",
    "calibrate_by_quantile",
    "parse_calibration",
    "quantile_rank",
    "read_calibration",
    "read_sealed_calibration",
    "write_calibration",
]

CALIBRATION_FILE = "calibration.yaml"

MAX_GOOD_SCORES = 1000
"""So many scores are kept at most, drawn by chance: YAML is read slowly, and more say little more."""

_Finite = Annotated[float, Field(allow_inf_nan=False)]


class Calibration(BaseModel):
    """A threshold and how it was found; a score above it fails.

    `good_parts` n were scored that the model was not trained on; `false_reject_rate` is the rate asked
    for. `provisional` says that this is a plain quantile without a guarantee for the parts of tomorrow.
    `good_scores`, ascending, are the scores of those parts, or some drawn of them by chance; what the rig's
    scores are compared with (`edge.score_watch`). None where they are not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    calibration_id: str = Field(min_length=1)
    model_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    threshold: float = Field(allow_inf_nan=False)
    method: Literal["quantile"] = "quantile"
    provisional: bool = True
    false_reject_rate: float = Field(gt=0, lt=1)
    good_parts: int = Field(ge=1)
    created_utc: AwareDatetime
    good_scores: Annotated[tuple[_Finite, ...], Field(max_length=MAX_GOOD_SCORES)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        scores = self.good_scores
        if scores is not None and len(scores) > self.good_parts:
            raise ValueError(f"{len(scores)} good_scores of {self.good_parts} good_parts; calibrate again")
        return self


def quantile_rank(count: int, false_reject_rate: float) -> int:
    """Which of `count` good scores, from the smallest (1), is the threshold: ⌈(n + 1)(1 − α)⌉, at most n."""
    # Less a hair: (n + 1)(1 − α) that is whole on paper must not be rounded up because floats miss it.
    return min(count, math.ceil((count + 1) * (1.0 - false_reject_rate) - 1e-9))


def calibrate_by_quantile(
    scores: Sequence[float], *, false_reject_rate: float, model_sha256: str, created_utc: datetime
) -> Calibration:
    """A provisional threshold: the ⌈(n + 1)(1 − α)⌉-th smallest of n good scores, at most the largest.

    α is `false_reject_rate`, between 0 and 1. Raises `CalibrationError` where it is not, where there is
    no score, or one is not finite.
    """
    if not 0 < false_reject_rate < 1:
        raise CalibrationError(
            f"false_reject_rate is {false_reject_rate}; must lie between 0 and 1, such as 0.02 for 2 %"
        )
    values = np.sort(np.asarray(scores, dtype=np.float64))
    if values.size == 0:
        raise CalibrationError(
            "no score of a good part to calibrate on; hold some good parts out of training"
        )
    broken = int((~np.isfinite(values)).sum())
    if broken:
        raise CalibrationError(
            f"{broken} of {values.size} scores of good parts are NaN or infinite; export the model anew"
        )
    return Calibration(
        calibration_id=f"{created_utc:%Y%m%dT%H%M%SZ}-quantile",
        model_sha256=model_sha256,
        threshold=float(values[quantile_rank(values.size, false_reject_rate) - 1]),
        false_reject_rate=false_reject_rate,
        good_parts=values.size,
        created_utc=created_utc,
        good_scores=_some_of(values),
    )


def _some_of(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    if values.size > MAX_GOOD_SCORES:
        # By chance, and not evenly spaced: a new score must rank among them as it would among all.
        values = np.sort(np.random.default_rng(0).choice(values, MAX_GOOD_SCORES, replace=False))
    return tuple(values.tolist())


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write the sealed `calibration.yaml` of a bundle, the old one or the new one, whole."""
    text = yaml.safe_dump(calibration.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_atomically(folder / CALIBRATION_FILE, seal(text).encode())


def read_calibration(folder: Path, model_sha256: str) -> Calibration | None:
    """The calibration that lies beside a model, or None where there is none.

    Raises `BundleCorrupt` where the file was changed, `CalibrationError` where it belongs to another model.
    """
    sealed = read_sealed_calibration(folder)
    return None if sealed is None else parse_calibration(sealed[0], folder, model_sha256)


def read_sealed_calibration(folder: Path) -> tuple[str, str] | None:
    """Text and sha256 of the calibration beside a model, None where there is none; raises `BundleCorrupt`."""
    path = folder / CALIBRATION_FILE
    # A link that leads nowhere is a calibration that was lost, not one that never was.
    if not path.exists() and not path.is_symlink():
        return None
    return read_sealed(path)


def parse_calibration(text: str, folder: Path, model_sha256: str) -> Calibration:
    """What a calibration's text says of the model; raises `CalibrationError`."""
    path = folder / CALIBRATION_FILE
    try:
        calibration = Calibration.model_validate(plain_data(text))
    except ValueError as error:  # pydantic's ValidationError is one
        raise CalibrationError(
            f"{path}: is not a calibration that this version can read: {error}; calibrate again"
        ) from error
    if calibration.model_sha256 != model_sha256:
        raise CalibrationError(
            f"{path}: was found for model {calibration.model_sha256[:12]}…, this is {model_sha256[:12]}…; "
            "scores of two models can't be compared: calibrate this one"
        )
    return calibration
