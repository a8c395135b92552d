"""The choice among configurations, on the probe and never on a test split.

::

    <out>/
      <candidate>/      a run like any other, one for each
      choice.json       what each was worth, best first; comes last
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, RootModel, field_validator

from edge.camera.sample import Sample
from edge.errors import ConfigError, DatasetError, TrainingError
from edge.sealed import write_atomically
from train.checkpoint import MODEL_FILE, load_model
from train.config import TrainConfig
from train.datasets import DataSet
from train.evaluation import Predictor, evaluate, predictor_of_run
from train.feature_cache import FeatureCache
from train.good_parts import Progress
from train.loop.workers import Workers
from train.patching import Patch, patched_config
from train.probe import ProbeConfig, probe_of
from train.resolving import resolve_plan
from train.training import CHECKPOINT_STEPS, train_run

__all__ = ["Candidates", "Choice", "ProbeFigures", "candidate_config", "choose", "probe_figures"]

CHOICE_FILE = "choice.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Candidates(RootModel[dict[str, dict[str, JsonValue]]]):
    """Name → what a candidate changes of the configuration; `{}` changes nothing."""

    model_config = ConfigDict(frozen=True)

    @field_validator("root")
    @classmethod
    def _can_be_folders(cls, root: dict[str, dict[str, JsonValue]]) -> dict[str, dict[str, JsonValue]]:
        if not root:
            raise ValueError("names no candidate")
        wrong = [name for name in root if not _NAME.fullmatch(name)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no name for a folder; take letters, digits, '.', '_', '-'")
        return root


class ProbeFigures(BaseModel):
    """What a model is worth on the probe; `figure` is the mean of the other two."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    i_auroc: float
    aupro_5: float

    @property
    def figure(self) -> float:
        return (self.i_auroc + self.aupro_5) / 2


class Choice(BaseModel):
    """The candidates' figures, best first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    probe_parts: int
    figures: dict[str, ProbeFigures]

    @property
    def best(self) -> str:
        return next(iter(self.figures))


def probe_figures(predictor: Predictor, probe: Sequence[Sample]) -> ProbeFigures:
    """The figures of any predictor on a probe (`train.probe.probe_of`), at the frames' resolution.

    Raises `DatasetError` as `evaluate`, and where no sample has a mask.
    """
    figures = evaluate(predictor, probe, lambda steps: None).figures
    if figures.aupro_5 is None:
        raise DatasetError("nothing is marked as defective on the probe; make it with train.probe.probe_of")
    return ProbeFigures(i_auroc=figures.i_auroc, aupro_5=figures.aupro_5)


def choose(
    data: DataSet,
    base: TrainConfig,
    candidates: Candidates,
    out: Path,
    *,
    cache: FeatureCache,
    progress: Progress,
    workers: Workers | None = None,
    resume: bool = False,
    checkpoint_steps: int = CHECKPOINT_STEPS,
    probe: ProbeConfig | None = None,
) -> Choice:
    """Train each candidate on the training parts, into `out`, and rank them on the one probe.

    With `resume`, candidates that are trained already are taken as they are. Raises `ConfigError` where a
    candidate's configuration is wrong, before anything is trained, and as `train_run`.
    """
    workers = workers or Workers()
    configs = {name: candidate_config(base, name, patch) for name, patch in candidates.root.items()}
    for name, config in configs.items():
        run = out / name
        if resume and (run / MODEL_FILE).exists():
            _check_same(run, config)
            continue
        train_run(
            data,
            config,
            run,
            cache=cache,
            progress=progress,
            note={"candidate": name},
            workers=workers,
            resume=resume,
            checkpoint_steps=checkpoint_steps,
        )
    preprocessing = resolve_plan(data.train, base.preprocessing, progress)
    samples = probe_of(data.validation, preprocessing, probe or ProbeConfig(), base.seed)
    found: dict[str, ProbeFigures] = {}
    with workers.together(), progress.task("probe", len(configs)) as advance:
        for name in configs if workers.is_first else ():
            found[name] = probe_figures(predictor_of_run(out / name), samples)
            advance(1)
    found = workers.of_first(found)
    ranked = dict(sorted(found.items(), key=lambda entry: -entry[1].figure))  # of equals the first named
    choice = Choice(probe_parts=len(samples), figures=ranked)
    if workers.is_first:
        try:
            write_atomically(out / CHOICE_FILE, choice.model_dump_json(indent=1).encode())
        except OSError as error:
            raise TrainingError(f"{out / CHOICE_FILE}: can't be written ({error.strerror})") from error
    return choice


def candidate_config(base: TrainConfig, name: str, patch: Patch) -> TrainConfig:
    """The configuration with a candidate's changes; raises `ConfigError`.

    Another method than the base's begins from that method's defaults.
    """
    if "held_out_share" in patch:
        raise ConfigError(f"candidate {name!r}: held_out_share must be the same for all; set it in --config")
    return patched_config(base, [patch], f"candidate {name!r}")


def _check_same(run: Path, config: TrainConfig) -> None:
    if load_model(run)[1].config != config:
        raise TrainingError(
            f"{run}: was trained with another configuration; delete it, or rename the candidate"
        )
