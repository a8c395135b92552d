"""One training run, from a data set to a checkpoint."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from edge.errors import DatasetError, TrainingError
from edge.version import __version__
from train.checkpoint import MODEL_FILE, RunInfo, TrainingLog, save_run
from train.config import TrainConfig
from train.datasets import DataSet, name_of
from train.good_parts import GoodParts, Progress, Task
from train.methods import build_method
from train.predictor import score_of
from train.resolving import resolve_plan
from train.views import FeatureCache

__all__ = ["Progress", "Task", "train_run", "use_cpu_well"]

GOLDEN_SAMPLES = 3


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
    preprocessing = resolve_plan(data.train, config.preprocessing, progress)
    model = build_method(config.method, preprocessing, config.seed)
    with _scratch_below(out) as scratch:
        good = GoodParts(
            data.train, data.validation, preprocessing, cache=cache, scratch=scratch, progress=progress
        )
        curves = model.fit(good, config.seed)

    scores: dict[str, float] = {}
    golden: dict[str, dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]] = {}
    with progress.task("held-out good parts", len(data.validation)) as advance:
        for sample, prepared in good.held_out_prepared(model.wanted):
            scores[name_of(sample)] = score_of(model, prepared, config.score)
            if len(golden) < GOLDEN_SAMPLES:
                golden[name_of(sample)] = {name: np.array(array) for name, array in prepared.tensors.items()}
            advance(1)
    info = RunInfo(
        product=data.name,
        config=config,
        preprocessing=preprocessing,
        backbone_sha256=tuple(backbone.sha256 for backbone in model.backbones()),
        provenance=_provenance(data, config, note),
    )
    log = TrainingLog(curves=dict(curves), validation_scores=scores)
    save_run(out, model, info, log, golden)
    return info


@contextmanager
def _scratch_below(out: Path) -> Iterator[Path]:
    """A folder for feature maps, on the disk that the run is written to; /tmp may be in memory."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".scratch-") as folder:
            yield Path(folder)
    except OSError as error:
        raise TrainingError(f"{out}: training's files can't be written ({error.strerror})") from error
    finally:
        with suppress(OSError):
            out.rmdir()  # where nothing came of it


def use_cpu_well(threads: int | None = None) -> None:
    """Give torch the cores that this process may use, and subnormal numbers as zero: they slow a CPU down."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)


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
