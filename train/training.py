"""One training run, from a data set to a checkpoint."""

from __future__ import annotations

import os
import platform
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from edge.errors import DatasetError, TrainingError
from edge.preprocessing import Preprocessing
from edge.version import __version__
from train.checkpoint import MODEL_FILE, RunInfo, TrainingLog, save_run
from train.config import TrainConfig
from train.datasets import DataSet, name_of
from train.features import load_backbone
from train.fitting import fit, steps_of
from train.model import DistillationModel
from train.predictor import score_of
from train.views import FeatureCache, largest_part_px, prepare, views_of

__all__ = ["Progress", "Task", "train_run", "use_cpu_well"]

GOLDEN_SAMPLES = 3


class Task(Protocol):
    """One bar: `advance(n)` after n more steps."""

    def __call__(self, steps: int) -> None: ...


class Progress(Protocol):
    """Whoever shows how far training is."""

    def task(self, name: str, total: int) -> AbstractContextManager[Task]:
        """A bar of that many steps."""


def train_run(
    data: DataSet,
    config: TrainConfig,
    out: Path,
    *,
    cache: FeatureCache,
    progress: Progress,
    note: dict[str, str | int],
) -> RunInfo:
    """Train on the good parts of a data set and write the run to `out`, which must not hold one yet.

    The same data, configuration and machine give the same weights. `note` joins the provenance. Raises
    `DatasetError` and `TrainingError`; nothing is written then.
    """
    if (out / MODEL_FILE).exists():
        raise TrainingError(f"{out}: holds a run already; choose another folder")
    for name, samples in (("train", data.train), ("validation", data.validation)):
        if not samples:
            raise DatasetError(
                f"{data.name}: no good parts in {name}; at least one is needed to train on, and one to "
                "calibrate on"
            )
    torch.manual_seed(config.seed)
    preprocessing = _preprocessing(data, config, progress)
    backbone = load_backbone(config.backbone, preprocessing.map_cells)
    # The weights follow from the seed alone, whatever timm drew for a network that was then overwritten.
    torch.manual_seed(config.seed)
    model = DistillationModel(config, preprocessing, backbone)

    angles_deg = [360.0 * k / config.rotations for k in range(config.rotations)]
    with progress.task("features", len(data.train) * len(angles_deg)) as advance:
        views = views_of(
            data.train,
            preprocessing,
            inputs=config.inputs,
            angles_deg=angles_deg,
            backbone=backbone,
            cache=cache,
            progress=advance,
        )
    teacher_steps, student_steps = steps_of(model, len(views.parts))
    with progress.task("teacher and student", teacher_steps + student_steps) as advance:
        curves = fit(model, views, lambda _phase, _loss: advance(1))

    wanted = frozenset(config.inputs) | {"mask"}
    scores: dict[str, float] = {}
    golden: dict[str, dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]] = {}
    with progress.task("held-out good parts", len(data.validation)) as advance:
        for sample in data.validation:
            prepared = prepare(sample, preprocessing, wanted)
            scores[name_of(sample)] = score_of(model, prepared)
            if len(golden) < GOLDEN_SAMPLES:
                golden[name_of(sample)] = {name: np.array(array) for name, array in prepared.tensors.items()}
            advance(1)
    info = RunInfo(
        product=data.name,
        config=config,
        preprocessing=preprocessing,
        backbone_sha256=backbone.sha256,
        provenance=_provenance(data, config, note),
    )
    log = TrainingLog(teacher_loss=curves.teacher, student_loss=curves.student, validation_scores=scores)
    save_run(out, model, info, log, golden)
    return info


def use_cpu_well(threads: int | None = None) -> None:
    """Give torch the cores that this process may use, and subnormal numbers as zero: they slow a CPU down."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)


def _preprocessing(data: DataSet, config: TrainConfig, progress: Progress) -> Preprocessing:
    plan = config.preprocessing
    if plan.framing.mode != "part" or plan.framing.window_px != "auto":
        return plan.resolve(None)
    whole = plan.model_copy(update={"framing": plan.framing.model_copy(update={"mode": "whole"})}).resolve(
        None
    )
    with progress.task("size of the parts", len(data.train)) as advance:
        longest = largest_part_px(data.train, whole, plan.framing.upright, advance)
    return plan.resolve(16 * max(1, round(longest * plan.framing.margin / 16)))


def _provenance(
    data: DataSet, config: TrainConfig, note: dict[str, str | int]
) -> dict[str, str | int | float | bool]:
    return {
        "trained_by": f"edge-inspect {__version__}",
        "trained_utc": _now().isoformat(timespec="seconds"),
        "data": data.name,
        "train_parts": len(data.train),
        "validation_parts": len(data.validation),
        "seed": config.seed,
        "torch": str(torch.__version__),
        "timm": version("timm"),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        **note,
    }


def _now() -> datetime:
    """The wall clock, or SOURCE_DATE_EPOCH (reproducible-builds.org) where a build is to be repeatable."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    if fixed is None:
        return datetime.now(timezone.utc)
    try:
        return datetime.fromtimestamp(int(fixed), timezone.utc)
    except (ValueError, OverflowError, OSError) as error:
        raise TrainingError(f"SOURCE_DATE_EPOCH is {fixed!r}, must be seconds since 1970") from error
