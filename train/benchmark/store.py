"""Results on disk: one file a job, whole or not there, under the key of all that decides it.

::

    <out>/
      results/<key>.json    a job's result and its sha256
      started.jsonl         a line for each job that was started
      work/<key>/           a job at work, or of a worker that was killed: its next start goes on there
      runs/<key>/           checkpoints, where they are kept
      table.md, benchmark.html, results.json, results.csv
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from edge.errors import ConfigError, TrainingError
from edge.sealed import write_atomically
from train.benchmark.job import Job, JobResult
from train.loop.claim import SCRATCH_FOLDER

__all__ = ["ResultStore"]


class ResultStore:
    """The results below a folder; one `edge-benchmark` at a time may write there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep others out; the lock goes with the process, however it ends.

        Raises `ConfigError` where another process has it, `TrainingError` where nothing can be written.
        """
        try:
            (self.folder / "results").mkdir(parents=True, exist_ok=True)
            file = (self.folder / ".lock").open("w")
        except OSError as error:
            raise TrainingError(f"{self.folder}: can't be written ({error.strerror})") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(
                    f"{self.folder}: another edge-benchmark is at work there; wait for it, or name "
                    "another folder"
                ) from error
            for scratch in self.folder.glob(f"work/*/run/{SCRATCH_FOLDER}"):  # of workers that were killed
                shutil.rmtree(scratch, ignore_errors=True)
            yield

    def load(self, job: Job) -> JobResult | None:
        """The result of a job, None where it has none yet.

        Raises `TrainingError` for a damaged file: a table of what may be wrong is worse than none.
        """
        path = self._path(job)
        try:
            envelope = json.loads(path.read_bytes())
            result = JobResult.model_validate(envelope["result"])
            whole = envelope["sha256"] == _sha256(result) and result.key == job.key
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TrainingError(f"{path}: can't be read ({error.strerror})") from error
        except (ValueError, LookupError, TypeError, ValidationError) as error:
            raise TrainingError(_damaged(path)) from error
        if not whole:
            raise TrainingError(_damaged(path))
        return result

    def save(self, result: JobResult) -> None:
        """Write a result so that it is there whole or not at all; raises `TrainingError`."""
        path = self.folder / "results" / f"{result.key}.json"
        envelope = {"sha256": _sha256(result), "result": result.model_dump(mode="json")}
        self.write(path, json.dumps(envelope, indent=1))

    def write(self, path: Path, text: str) -> None:
        """Any text below the folder, atomically; raises `TrainingError`."""
        try:
            write_atomically(path, text.encode())
        except OSError as error:
            raise TrainingError(f"{path}: can't be written ({error.strerror})") from error

    def _path(self, job: Job) -> Path:
        return self.folder / "results" / f"{job.key}.json"


def _sha256(result: JobResult) -> str:
    return hashlib.sha256(json.dumps(result.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def _damaged(path: Path) -> str:
    return f"{path}: is damaged, or was edited; remove it, and the job is done again"
