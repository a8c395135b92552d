"""A run's claim on its folder: one process group at a time, and an unfinished run goes on as it began.

::

    <run>/unfinished.json      what the run is made with and from; goes when it is complete
    <run>/checkpoint/          see train.loop.checkpoints; goes, too
    <run>/.scratch/            feature maps; made anew by whoever goes on
    <run>/.lock                held by the process that trains
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from edge.camera.sample import Sample
from edge.disk import lock_file
from edge.errors import DatasetError, TrainingError
from edge.sealed import file_sha256, write_atomically
from edge.version import __version__
from train.loop.checkpoints import CHECKPOINT_FOLDER
from train.loop.workers import Workers

__all__ = [
    "CLAIM_FILE",
    "SCRATCH_FOLDER",
    "CantGoOn",
    "Claim",
    "claimed",
    "digests_of",
    "machine_of",
    "tidy",
]

CLAIM_FILE = "unfinished.json"
SCRATCH_FOLDER = ".scratch"
_LOCK_FILE = ".lock"
_MOST_DIFFERENCES = 6


class CantGoOn(TrainingError):
    """What lies in the folder is no beginning of this run; it can only be begun anew."""


class Claim(BaseModel):
    """What decides the weights of a run: configuration, parts (name → digest of its files), machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["edge-inspect.unfinished.1"] = "edge-inspect.unfinished.1"
    config: dict[str, JsonValue]
    train: dict[str, str]
    held_out: dict[str, str]
    machine: dict[str, JsonValue]


def machine_of(workers: Workers) -> dict[str, JsonValue]:
    """What of the machine the last bits of the weights depend on."""
    return {
        "software": __version__,
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "accelerator": workers.accelerator,
        "precision": workers.precision,
        "workers": workers.count,
    }


def digests_of(samples: Sequence[Sample], advance: Callable[[int], None]) -> dict[str, str]:
    """Each part's name → digest of what its colour and depth files hold; raises `DatasetError`."""
    found = {}
    for sample in samples:
        digest = hashlib.sha256()
        for path in (sample.rgb_path, sample.depth_path):
            try:
                digest.update(file_sha256(path).encode())
            except OSError as error:
                raise DatasetError(f"{path}: can't be read ({error.strerror}); restore it") from error
        found[sample.part_id] = digest.hexdigest()[:16]
        advance(1)
    return found


@contextmanager
def claimed(out: Path, claim: Claim, *, resume: bool, finished: Path) -> Iterator[Path]:
    """Hold the folder of a run; gives the folder for scratch files.

    An unfinished run there goes on with `resume`, if configuration, data and machine are the same. When
    the file `finished` stands there at the end, what is left of the way is removed; after an error only
    what no `resume` could use. Raises `TrainingError`.
    """
    try:
        with _locked(out):
            if finished.exists():
                raise TrainingError(f"{out}: holds a run already; choose another folder")
            _begin(out, claim, resume)
            try:
                yield _fresh_scratch(out)
            finally:
                tidy(out, finished)
    finally:
        with suppress(OSError):
            out.rmdir()  # where nothing came of it


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    lock = out / _LOCK_FILE
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        try:
            handle = lock_file(lock)
        except BlockingIOError as error:
            raise TrainingError(
                f"{out}: another process is training into it; wait for it, or choose another folder"
            ) from error
    try:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(handle)  # and with it the lock, as when the process is killed


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{out}: training's files can't be written ({error.strerror})") from error


def _fresh_scratch(out: Path) -> Path:
    scratch = out / SCRATCH_FOLDER
    with _writing(out):
        if scratch.exists():
            shutil.rmtree(scratch)
        scratch.mkdir()
    return scratch


def _begin(out: Path, claim: Claim, resume: bool) -> None:
    path = out / CLAIM_FILE
    if not path.exists():
        if (out / CHECKPOINT_FOLDER).exists():
            raise CantGoOn(f"{out}: holds checkpoints without {CLAIM_FILE}; choose another folder")
        with _writing(out):
            write_atomically(path, claim.model_dump_json(indent=1).encode())
        return
    if not resume:
        raise TrainingError(
            f"{out}: holds an unfinished run; go on with --resume, or delete the folder to begin anew"
        )
    try:
        before = Claim.model_validate_json(path.read_bytes())
    except (ValidationError, ValueError) as error:
        raise CantGoOn(f"{path}: is damaged; delete {out} and begin anew") from error
    said = _differences(before, claim)
    if said:
        more = f", and {len(said) - _MOST_DIFFERENCES} more" if len(said) > _MOST_DIFFERENCES else ""
        raise CantGoOn(
            f"{out}: can't go on, for the weights would not be those of an uninterrupted run: "
            f"{'; '.join(said[:_MOST_DIFFERENCES])}{more}. Give it back what it began with, or begin anew in "
            "another folder"
        )


def _differences(before: Claim, now: Claim) -> list[str]:
    said = [
        f"{key} was {old!r}, is {new!r}"
        for key, old, new in (
            *_changed(before.config, now.config, ""),
            *_changed(before.machine, now.machine, ""),
        )
    ]
    for what, old_parts, new_parts in (
        ("to train on", before.train, now.train),
        ("held out", before.held_out, now.held_out),
    ):
        said += [f"{part} {what} is gone" for part in old_parts.keys() - new_parts.keys()]
        said += [f"{part} {what} is new" for part in new_parts.keys() - old_parts.keys()]
        both = old_parts.keys() & new_parts.keys()
        said += [f"{part}: its files changed" for part in sorted(both) if old_parts[part] != new_parts[part]]
        if not said and list(old_parts) != list(new_parts):
            said.append(f"the parts {what} come in another order")
    return said


def _changed(
    before: Mapping[str, JsonValue], now: Mapping[str, JsonValue], prefix: str
) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changed(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", old, new


def tidy(out: Path, finished: Path) -> None:
    """Remove what is left of the way to a finished run; of another what no `resume` could use."""
    shutil.rmtree(out / SCRATCH_FOLDER, ignore_errors=True)
    checkpoints = out / CHECKPOINT_FOLDER
    if finished.exists():
        for left in (CLAIM_FILE, _LOCK_FILE):
            (out / left).unlink(missing_ok=True)
        shutil.rmtree(checkpoints, ignore_errors=True)
    elif not checkpoints.exists():
        (out / CLAIM_FILE).unlink(missing_ok=True)
