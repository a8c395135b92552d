"""One training and evaluation of a benchmark, and the key under which its result is found again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from edge.camera.sample import Sample
from edge.errors import DatasetError, TrainingError
from edge.sealed import file_sha256
from edge.version import __version__
from train.benchmark.subset import with_parts
from train.checkpoint import MODEL_FILE, RunInfo, load_log, load_model
from train.config import TrainConfig
from train.datasets import DataSet, DatasetOptions, Format, name_of, open_dataset
from train.evaluation import EvaluationOptions, Figures, evaluate, predictor_of_run
from train.feature_cache import FeatureCache
from train.good_parts import Task
from train.loop.claim import CantGoOn, tidy
from train.loop.workers import Hardware, Workers
from train.training import train_run, use_cpu_well

__all__ = ["DataSource", "Job", "JobResult", "Workshop", "listing_sha256", "run_job"]

FORMAT = "edge-inspect.benchmark.1"
STARTED_FILE = "started.jsonl"


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where a data set lies and how it is read."""

    path: Path
    layout: Format
    options: DatasetOptions

    def open(self, category: str, held_out_share: float, parts: int | None) -> DataSet:
        """A category, with so many good parts; raises `DatasetError`, `ConfigError`."""
        data = open_dataset(self.path, self.layout, category, held_out_share, self.options)
        return with_parts(data, parts, held_out_share)


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a worker works with: the benchmark's folder, a feature cache, threads, a device; not in the key.

    With `keep_runs` a job's checkpoint stays in `runs/<key>`.
    """

    out: Path
    cache: Path | None
    cache_bytes: int | None = None
    threads: int = 1
    accelerator: Literal["cpu", "cuda", "auto"] = "cpu"
    keep_runs: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A category, a method with its configuration (the seed in it), a number of good parts (None: all)."""

    source: DataSource
    category: str
    method: str
    config: TrainConfig
    parts: int | None
    evaluation: EvaluationOptions
    listing: str
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    version: str = __version__

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def label(self) -> str:
        """For people: what the job is, in a line."""
        parts = "" if self.parts is None else f" · {self.parts} parts"
        return f"{self.category} · {self.method} · seed {self.seed}{parts}"

    @property
    def key(self) -> str:
        """The sha256 (hex) of all that decides the result; neither names of methods nor where the data lies.

        Of the data set it holds the listing: names, labels, sizes of files, units and intrinsics.
        """
        options = asdict(self.source.options)
        # What the one says is in the listing; the other only bounds what is taken for a mistake.
        del options["layout_file"], options["depth_range_m"]
        said = {
            "format": FORMAT,
            "version": self.version,
            "category": self.category,
            "layout": self.source.layout,
            "options": options,
            "listing": self.listing,
            "parts": self.parts,
            "precision": self.precision,
            "config": self.config.model_dump(mode="json"),
            "evaluation": self.evaluation.model_dump(mode="json", exclude={"kept_maps_bytes"}),
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


class JobResult(BaseModel):
    """What came of a job. `steps` by phase; `provenance` is the run's own.

    `train_seconds` is None where training went on that another worker had begun: nobody saw all of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    category: str
    method: str
    seed: int
    train_parts: int
    held_out_parts: int
    test_parts: int
    figures: Figures
    steps: dict[str, int]
    train_seconds: float | None
    evaluate_seconds: float
    provenance: dict[str, str | int | float | bool]


def listing_sha256(source: DataSource, data: DataSet) -> str:
    """The sha256 (hex) of a data set's listing: a part more, less, relabelled or of another size changes it.

    The file that describes the folders belongs to it. The pictures themselves are not read: that would take
    longer than many a training. Raises `DatasetError`.
    """

    def line(split: str, sample: Sample) -> list[object]:
        files = (sample.rgb_path, sample.depth_path, sample.mask_path)
        sizes = [None if path is None else path.stat().st_size for path in files]
        optics = asdict(sample.intrinsics)
        return [split, name_of(sample), sample.defect, sizes, sample.depth_unit_m, sorted(optics.items())]

    splits = {"train": data.train, "held out": data.validation, "test": data.test}
    described = source.options.layout_file
    try:
        lines = [line(split, sample) for split, samples in splits.items() for sample in samples]
        listing = {"lines": lines, "layout_file": None if described is None else file_sha256(described)}
    except OSError as error:
        raise DatasetError(f"{error.filename}: can't be read ({error.strerror}); restore it") from error
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def run_job(job: Job, workshop: Workshop) -> JobResult:
    """Train, evaluate, and clear away what lay about; raises what the two of them raise."""
    if job.version != __version__:
        raise TrainingError(
            f"this worker has edge-inspect {__version__}, the benchmark was started with {job.version}; "
            "install one version everywhere"
        )
    use_cpu_well(workshop.threads)
    with _run_folder(job, workshop) as run:
        data = job.source.open(job.category, job.config.held_out_share, job.parts)
        if listing_sha256(job.source, data) != job.listing:
            raise DatasetError(
                f"{job.source.path}: {job.category} has changed since the benchmark was started"
            )
        was_there = run.exists()
        started = time.perf_counter()
        provenance = _trained(data, job, run, workshop)
        trained = time.perf_counter()
        evaluation = evaluate(predictor_of_run(run), data.test, lambda steps: None, job.evaluation)
        judged = time.perf_counter()
        curves = load_log(run).curves
    return JobResult(
        key=job.key,
        category=job.category,
        method=job.method,
        seed=job.seed,
        train_parts=len(data.train),
        held_out_parts=len(data.validation),
        test_parts=len(data.test),
        figures=evaluation.figures,
        steps={phase: len(curve) for phase, curve in curves.items()},
        train_seconds=None if was_there else trained - started,
        evaluate_seconds=judged - trained,
        provenance=provenance,
    )


def _trained(data: DataSet, job: Job, run: Path, workshop: Workshop) -> dict[str, str | int | float | bool]:
    """Train the job's run; gives its provenance. What a killed worker left there goes on where it can.

    Where it can't (other threads, another torch), it is begun anew: the key asks for neither.
    """

    def train() -> RunInfo:
        return train_run(
            data,
            job.config,
            run,
            cache=FeatureCache(workshop.cache, workshop.cache_bytes),
            progress=_Silent(),
            note={"job": job.key},
            workers=Workers(Hardware(accelerator=workshop.accelerator, precision=job.precision)),
            resume=True,
        )

    if (run / MODEL_FILE).exists():  # the worker was killed while it evaluated
        tidy(run, run / MODEL_FILE)
        return load_model(run)[1].provenance
    try:
        return train().provenance
    except CantGoOn:
        shutil.rmtree(run)
        return train().provenance


@contextmanager
def _run_folder(job: Job, workshop: Workshop) -> Iterator[Path]:
    """The folder for the run, with what a killed worker left there; it goes when the job is done."""
    work = workshop.out / "work" / job.key
    try:
        work.mkdir(parents=True, exist_ok=True)
        with (workshop.out / STARTED_FILE).open("a", encoding="utf-8") as file:
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            file.write(
                json.dumps({"started": now, "job": job.label, "key": job.key, "pid": os.getpid()}) + "\n"
            )
        try:
            yield work / "run"
            if workshop.keep_runs:
                kept = workshop.out / "runs" / job.key
                shutil.rmtree(kept, ignore_errors=True)
                kept.parent.mkdir(exist_ok=True)
                (work / "run").replace(kept)
            shutil.rmtree(work, ignore_errors=True)
        finally:
            with suppress(OSError):
                work.rmdir()  # where nothing came of it
    except OSError as error:
        raise TrainingError(f"{workshop.out}: can't be worked in ({error.strerror})") from error


class _Silent:
    """Progress of a job: nobody watches a worker."""

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        yield lambda steps: None
