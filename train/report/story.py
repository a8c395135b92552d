"""What a report tells of a model beside its figures; alone here it is known how runs and bundles keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml
from pydantic import BaseModel

from edge.bundle import Bundle
from edge.calibration import Calibration
from edge.quantile import calibrate_by_quantile
from edge.sealed import file_sha256
from train.checkpoint import MODEL_FILE, RunInfo, TrainingLog

__all__ = ["RunStory", "story_of_bundle", "story_of_run"]

_METHODS = {
    "ast": "asymmetric student-teacher",
    "msd": "multi-scale distillation",
    "memory-bank": "memory bank",
    "fusion": "fusion",
}


@dataclass(frozen=True, slots=True)
class RunStory:
    """Where a model comes from: `curves` are the losses of each phase, `held_out_scores` those of the good
    parts that gave the threshold, by name; both empty where the source does not keep them."""

    product: str
    method: str
    source: str
    configuration: str
    provenance: Mapping[str, str]
    curves: Mapping[str, tuple[float, ...]]
    held_out_scores: Mapping[str, float]
    threshold: float | None
    threshold_note: str

    @property
    def method_title(self) -> str:
        return _METHODS.get(self.method, self.method)


def story_of_run(folder: Path, label: str, info: RunInfo, log: TrainingLog) -> RunStory:
    """The story of a run; `label` is its method's name in a manifest.

    The threshold is the one that an export would put into the bundle. Raises `CalibrationError` where the
    scores of the held-out good parts allow none.
    """
    calibration = calibrate_by_quantile(
        list(log.validation_scores.values()),
        false_reject_rate=info.config.false_reject_rate,
        model_sha256=file_sha256(folder / MODEL_FILE),
        created_utc=datetime.fromisoformat(str(info.provenance["trained_utc"])),
    )
    return RunStory(
        product=info.product,
        method=label,
        source="run",
        configuration=_yaml(info.config),
        provenance=_texts({**info.provenance, "model": calibration.model_sha256}),
        curves={phase: tuple(losses) for phase, losses in log.curves.items()},
        held_out_scores=log.validation_scores,
        threshold=calibration.threshold,
        threshold_note=_note(calibration),
    )


def story_of_bundle(bundle: Bundle) -> RunStory:
    """The story of a bundle, which keeps neither losses nor the scores of the held-out parts."""
    manifest, calibration = bundle.manifest, bundle.calibration
    shown = manifest.model_dump(mode="json", include={"preprocessing", "score", "stages", "tensors"})
    return RunStory(
        product=bundle.product,
        method=bundle.method,
        source="bundle",
        configuration=yaml.safe_dump(shown, sort_keys=False, allow_unicode=True),
        provenance=_texts(
            {
                **manifest.provenance,
                **{f"licence of {what}": text for what, text in manifest.licences.items()},
                "model": bundle.model_sha256,
            }
        ),
        curves={},
        held_out_scores={},
        threshold=None if calibration is None else calibration.threshold,
        threshold_note="the bundle has no calibration" if calibration is None else _note(calibration),
    )


def _note(calibration: Calibration) -> str:
    parts = calibration.good_parts
    if calibration.false_reject_rate is None:
        return "provisional: set by hand, and no quantile of any scores"
    if calibration.method != "quantile":
        return (
            f"{calibration.method.replace('_', ' ')}, from the scores of {parts} good parts, for a "
            f"false-reject rate of {calibration.false_reject_rate:.3g}"
        )
    return (
        f"{'provisional: ' if calibration.provisional else ''}a quantile of the scores of {parts} held-out "
        f"good {'part' if parts == 1 else 'parts'}, for a false-reject rate of "
        f"{calibration.false_reject_rate:.3g}; so few parts can promise no rate below 1 in {parts + 1}"
    )


def _yaml(model: BaseModel) -> str:
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _texts(values: Mapping[str, str | int | float | bool]) -> dict[str, str]:
    return {name.replace("_", " "): str(value) for name, value in values.items()}
