"""One training run, from a data set to a checkpoint."""

from __future__ import annotations

import math
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import torch

from edge.camera.sample import Sample
from edge.errors import DatasetError, TrainingError
from edge.sealed import file_sha256
from edge.trained_on import TrainedOn
from edge.version import __version__
from train.checkpoint import MODEL_FILE, RunInfo, TrainingLog, load_log, load_model, save_run
from train.config import TrainConfig
from train.crossing import FOLDS_FOLDER, config_of_fold, digest_of, folds_of, mirrored, of_all_parts
from train.datasets import DataSet, name_of
from train.golden import choose_golden
from train.good_parts import GoodParts, Progress, Task
from train.loop.checkpoints import CHECKPOINT_FOLDER, Checkpoints
from train.loop.claim import SCRATCH_FOLDER, Claim, claimed, digests_of, machine_of
from train.loop.descent import Loop
from train.loop.workers import Workers
from train.methods import Method, build_method
from train.predictor import score_of
from train.resolving import measure_jitter, resolve_plan
from train.views import FeatureCache, prepare

__all__ = ["CHECKPOINT_STEPS", "Progress", "Task", "train_run", "use_cpu_well"]

CHECKPOINT_STEPS = 50


def train_run(
    data: DataSet,
    config: TrainConfig,
    out: Path,
    *,
    cache: FeatureCache,
    progress: Progress,
    note: dict[str, str | int],
    workers: Workers | None = None,
    resume: bool = False,
    checkpoint_steps: int = CHECKPOINT_STEPS,
) -> RunInfo:
    """Train on the good parts of a data set and write the run to `out`, which must not hold one yet.

    The same data, configuration and machine give the same weights. `note` joins the provenance. `workers`
    are the processes that train together, each of which calls this; None is this one, on the CPU. Every
    `checkpoint_steps` steps the descent can be gone on with: with `resume` an unfinished run in `out` is,
    if it was begun with the same data, configuration and machine, to the same weights as without the
    interruption; where there is none, it begins.

    With `config.cross_folds` a run for each fold is made first, below `out`, and taken away in the end.

    Raises `DatasetError` and `TrainingError`; nothing is written then but checkpoints and folds.
    """
    workers = workers or Workers()
    progress = progress if workers.is_first else _Unseen()
    loop = _Loop(cache, progress, workers, resume, checkpoint_steps)
    if (out / MODEL_FILE).exists():
        raise TrainingError(f"{out}: holds a run already; choose another folder")
    if config.cross_folds is None:
        return _train(data, config, out, note, loop, scores=None)
    scores = _scored_by_others(data, config, out, loop)
    info = _train(of_all_parts(data), config, out, note, loop, scores=scores)
    with workers.together():
        if workers.is_first:
            shutil.rmtree(out / FOLDS_FOLDER, ignore_errors=True)
    return info


@dataclass(frozen=True, slots=True)
class _Loop:
    """How a run is made, which decides nothing of what comes out."""

    cache: FeatureCache
    progress: Progress
    workers: Workers
    resume: bool
    checkpoint_steps: int


def _scored_by_others(data: DataSet, config: TrainConfig, out: Path, loop: _Loop) -> dict[str, float]:
    """The score of each good part by the model of its fold, which was trained without it."""
    scores: dict[str, float] = {}
    alone = config_of_fold(config)
    for number, fold in enumerate(folds_of(data, config.cross_folds or 0)):
        folder = out / FOLDS_FOLDER / str(number)
        parts = digest_of(fold)
        if not (folder / MODEL_FILE).exists():
            _train(fold, alone, folder, {"fold": number, "parts": parts}, loop, scores=None)
        elif not loop.resume:
            raise TrainingError(
                f"{out}: holds the folds of an unfinished run; go on with --resume, or delete the folder"
            )
        else:
            info = load_model(folder)[1]
            if info.config != alone or info.provenance.get("parts") != parts:
                raise TrainingError(
                    f"{folder}: was trained with another configuration, or on other parts; delete {out} and "
                    "begin anew"
                )
        scores |= load_log(folder).validation_scores
    return scores


def _train(
    data: DataSet,
    config: TrainConfig,
    out: Path,
    note: dict[str, str | int],
    loop: _Loop,
    *,
    scores: Mapping[str, float] | None,
) -> RunInfo:
    """One run; `scores` of its good parts where others than its model have given them."""
    workers, progress, cache = loop.workers, loop.progress, loop.cache
    resume, checkpoint_steps = loop.resume, loop.checkpoint_steps
    if (out / MODEL_FILE).exists():
        raise TrainingError(f"{out}: holds a run already; choose another folder")
    for name, samples in (("train", data.train), ("validation", data.validation)):
        if not samples:
            raise DatasetError(
                f"{data.name}: no good parts in {name}; at least one is needed to train on, and one to "
                "calibrate on"
            )
    with _run_folder(data, config, out, workers, progress, resume=resume) as scratch:
        preprocessing = resolve_plan(data.train, config.preprocessing, progress)
        # A part held out that can't be used is found now, and not after hours.
        with workers.together(), progress.task("held-out good parts", len(data.validation)) as advance:
            for number in workers.share(len(data.validation)):
                prepare(data.validation[number], preprocessing, frozenset())
                advance(workers.count)
        method, found = config.method, dict(note)
        jitter_deg = measure_jitter(data.train, method, preprocessing, progress)
        if jitter_deg is not None:
            method = method.resolved(jitter_deg)
            found["jitter_deg"] = ", ".join(f"{angle:g}" for angle in jitter_deg)
        model = build_method(method, preprocessing, config.seed)
        checkpoints = Checkpoints(
            out / CHECKPOINT_FOLDER, every_steps=checkpoint_steps, write=workers.is_first
        )
        good = GoodParts(
            data.train,
            data.validation,
            preprocessing,
            cache=cache,
            scratch=scratch,
            progress=progress,
            loop=Loop(workers, checkpoints),
            score=config.score,
        )
        curves = model.fit(good, config.seed)
        info = RunInfo(
            product=data.name,
            config=config,
            preprocessing=preprocessing,
            backbone_sha256=tuple(backbone.sha256 for backbone in model.backbones()),
            provenance=_provenance(data, config, found, workers),
        )
        with workers.together():
            if workers.is_first:
                _finish(out, model, info, dict(curves), good, scores=scores)
    return info


def _finish(
    out: Path,
    model: Method,
    info: RunInfo,
    curves: dict[str, tuple[float, ...]],
    good: GoodParts,
    *,
    scores: Mapping[str, float] | None,
) -> None:
    """Score the parts held out, where nobody has, and write the run."""
    found, rate, seed = dict(scores or {}), info.config.false_reject_rate, info.config.seed
    if scores is None:
        found = _scores_of_held_out(model, info, good)
        golden = choose_golden(good, found, rate, model.wanted, seed=seed)
    else:
        golden = choose_golden(good, found, rate, model.wanted, seed=seed, seen_as=mirrored)
    seen = TrainedOn(train=_digests(good.train), held_out=_digests(good.held_out if scores is None else ()))
    log = TrainingLog(curves=curves, validation_scores=found, trained_on=seen)
    save_run(out, model, info, log, golden)


def _scores_of_held_out(model: Method, info: RunInfo, good: GoodParts) -> dict[str, float]:
    scores: dict[str, float] = {}
    with good.progress.task("scores of good parts", len(good.held_out)) as advance:
        for sample, prepared in good.held_out_prepared(model.wanted):
            score = score_of(model, prepared, info.config.score)
            if not math.isfinite(score):
                raise TrainingError(f"{sample.rgb_path}: its score is {score}; check image and depth")
            scores[name_of(sample)] = score
            advance(1)
    return scores


def _digests(samples: Sequence[Sample]) -> tuple[str, ...]:
    """The sha256 of each colour picture's file, sorted; raises `DatasetError`."""
    found = set()
    for sample in samples:
        try:
            found.add(file_sha256(sample.rgb_path))
        except OSError as error:
            raise DatasetError(f"{sample.rgb_path}: can't be read ({error.strerror}); restore it") from error
    return tuple(sorted(found))


class _Unseen:
    """Progress of a worker that is not the first."""

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        yield lambda steps: None


@contextmanager
def _run_folder(
    data: DataSet, config: TrainConfig, out: Path, workers: Workers, progress: Progress, *, resume: bool
) -> Iterator[Path]:
    """Claim the folder of the run, for all workers; gives the folder for scratch files."""
    with ExitStack() as stack:
        with workers.together():
            if workers.is_first:
                with progress.task("files", len(data.train) + len(data.validation)) as advance:
                    claim = Claim(
                        config=config.model_dump(mode="json"),
                        train=digests_of(data.train, advance),
                        held_out=digests_of(data.validation, advance),
                        machine=machine_of(workers),
                    )
                stack.enter_context(claimed(out, claim, resume=resume, finished=out / MODEL_FILE))
        yield out / SCRATCH_FOLDER


def use_cpu_well(threads: int | None = None) -> None:
    """Give torch the cores that this process may use, and subnormal numbers as zero: they slow a CPU down."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)


def _provenance(
    data: DataSet, config: TrainConfig, note: dict[str, str | int], workers: Workers
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
        "accelerator": workers.accelerator,
        "precision": workers.precision,
        "workers": workers.count,
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
