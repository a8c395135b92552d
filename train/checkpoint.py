"""A trained model on disk: safetensors with the configuration in its header, and what export needs beside it.

::

    <run>/
      model.safetensors     what was fitted: weights, bank, feature statistics; configuration in the header
      golden.npz            preprocessed held-out good parts, some with simulated defects (train/golden.py)
      training.json         loss curves, scores of the held-out good parts
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors

from edge.errors import TrainingError
from edge.preprocessing import Preprocessing
from edge.sealed import write_atomically
from edge.trained_on import TrainedOn
from train.config import TrainConfig
from train.golden import GOLDEN_FILE, GoldenSample, packed_golden
from train.methods import Method, build_method

__all__ = ["RunInfo", "TrainingLog", "load_log", "load_model", "save_run"]

MODEL_FILE = "model.safetensors"
LOG_FILE = "training.json"
FORMAT = "edge-inspect.run.2"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunInfo(_Frozen):
    """The header of a checkpoint: all that is needed to build the model anew, and where it comes from."""

    product: str
    config: TrainConfig
    preprocessing: Preprocessing
    backbone_sha256: tuple[str, ...]
    provenance: dict[str, str | int | float | bool]


class TrainingLog(_Frozen):
    """What training saw: curves of its phases, scores of good parts by a model not trained on them, pictures.

    The model is this run's, or with `cross_folds` in its configuration that of the part's fold.
    `trained_on` is None in a run of before.
    """

    curves: dict[str, tuple[float, ...]]
    validation_scores: dict[str, float]
    trained_on: TrainedOn | None = None


def save_run(
    folder: Path, model: Method, info: RunInfo, log: TrainingLog, golden: Sequence[GoldenSample]
) -> None:
    """Write a run; the model's file comes last, so that a folder that has it has all.

    Raises `TrainingError`.
    """
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    metadata = {"format": FORMAT, "run": info.model_dump_json()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / GOLDEN_FILE, packed_golden(golden))
        write_atomically(folder / LOG_FILE, log.model_dump_json(indent=1).encode())
        write_atomically(folder / MODEL_FILE, save_tensors(state, metadata))
    except OSError as error:
        raise TrainingError(f"{folder}: the run can't be written ({error.strerror})") from error


def load_model(folder: Path) -> tuple[Method, RunInfo]:
    """The model of a run, in eval mode, with its backbone.

    Raises `TrainingError` where the checkpoint is none, is damaged, or the backbone's weights on this
    machine are not those that it was trained with.
    """
    path = folder / MODEL_FILE
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise TrainingError(f"{path}: is of format {metadata.get('format')!r}, must be {FORMAT!r}")
            info = RunInfo.model_validate_json(metadata["run"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: no such checkpoint; make one with edge-train --out {folder}") from error
    except (OSError, SafetensorError, ValidationError, KeyError) as error:
        raise TrainingError(f"{path}: is not a checkpoint this version can read: {error}") from error
    model = build_method(info.config.method, info.preprocessing, info.config.seed)
    here = tuple(backbone.sha256 for backbone in model.backbones())
    if here != info.backbone_sha256:
        trained, found = (", ".join(f"{digest[:12]}…" for digest in d) for d in (info.backbone_sha256, here))
        raise TrainingError(
            f"{path}: was trained on backbone weights {trained}, here are {found}; install the same weights, "
            "or train again"
        )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise TrainingError(f"{path}: its weights don't fit its own configuration: {error}") from error
    model.eval()
    return model, info


def load_log(folder: Path) -> TrainingLog:
    """The training log of a run; raises `TrainingError`."""
    path = folder / LOG_FILE
    try:
        return TrainingLog.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: can't be read: {error}") from error
