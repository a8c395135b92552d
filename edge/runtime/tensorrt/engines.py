"""Engines on disk: one file each, named by all that it depends on, with a sidecar that a person can read.

An engine runs under the TensorRT, on the GPU and for the graph that it was built with. Its key holds all
of them, so an update of JetPack or a new bundle finds no engine and builds one; one that is damaged, or
that TensorRT refuses all the same, is deleted and built anew, and a warning says why.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edge.errors import RunnerError
from edge.runtime.tensorrt.gpu import GpuIdentity
from edge.runtime.tensorrt.locking import FolderLock
from edge.runtime.tensorrt.options import BuildOptions
from edge.sealed import write_atomically

__all__ = ["EngineCache", "EngineKey", "EngineRecord", "StoredEngine"]

_log = logging.getLogger(__name__)

_SHA256 = r"^[0-9a-f]{64}$"
_MIB = 1 << 20


class EngineKey(BaseModel):
    """All that an engine depends on. `digest` names its file; it changes with any part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    onnx_sha256: str = Field(pattern=_SHA256)
    tensorrt: str = Field(min_length=1)
    gpu: GpuIdentity
    options: BuildOptions

    @property
    def digest(self) -> str:
        """The sha256 (hex) of the key's parts, in whatever order they were given."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


class EngineRecord(BaseModel):
    """The sidecar: what an engine is, where it comes from, and what its bytes must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    onnx: str
    key: EngineKey
    plan_sha256: str = Field(pattern=_SHA256)
    plan_bytes: int = Field(gt=0)
    build_s: float = Field(ge=0)
    built_at: datetime
    edge_inspect: str


@dataclass(frozen=True, slots=True)
class StoredEngine:
    """An engine as it lies on disk: its plan and its record."""

    plan: bytes
    record: EngineRecord


class EngineCache:
    """A folder of engines: `<digest>.plan` and `<digest>.json`.

    Who reads takes no lock: the sidecar is written last and names the plan's sha256. Who writes or deletes
    holds `lock`, which is for one process (and thread) at a time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = FolderLock(folder)

    def plan_path(self, key: EngineKey) -> Path:
        return self.folder / f"{key.digest}.plan"

    def record_path(self, key: EngineKey) -> Path:
        return self.folder / f"{key.digest}.json"

    def load(self, key: EngineKey) -> StoredEngine | str | None:
        """The engine, None where there is none, or, in a sentence, why the one that is there can't be used.

        Raises `RunnerError` where the folder can't be read.
        """
        plan_path, record_path = self.plan_path(key), self.record_path(key)
        try:
            text = _read(record_path)
            plan = _read(plan_path)
        except OSError as error:
            raise RunnerError(
                f"{error.filename}: can't be read ({error.strerror}); check who may read the engines, or let "
                "runtime.engines_dir name another folder"
            ) from error
        if text is None and plan is None:
            return None
        if text is None or plan is None:
            return f"its {'sidecar' if text is None else 'plan'} is missing"
        try:
            record = EngineRecord.model_validate_json(text)
        except ValueError as error:  # pydantic's ValidationError is one
            return f"its sidecar can't be read ({str(error).splitlines()[0]})"
        if record.key != key:
            return "its sidecar tells of another engine"
        if len(plan) != record.plan_bytes or hashlib.sha256(plan).hexdigest() != record.plan_sha256:
            return "its bytes differ from the sha256 in its sidecar"
        return StoredEngine(plan, record)

    def store(self, plan: bytes, record: EngineRecord) -> None:
        """Write an engine; hold `lock`. Raises `RunnerError` where it can't be written."""
        try:
            write_atomically(self.plan_path(record.key), plan)
            write_atomically(self.record_path(record.key), f"{record.model_dump_json(indent=2)}\n".encode())
        except OSError as error:
            raise RunnerError(
                f"{self.plan_path(record.key)}: the engine of {record.onnx} ({len(plan) / _MIB:.1f} MiB) "
                f"can't be written ({error.strerror}); free some space (edge-build --prune removes engines "
                "that no bundle uses), or let runtime.engines_dir name another folder"
            ) from error

    def discard(self, key: EngineKey, why: str) -> None:
        """Delete an engine and say so; hold `lock`."""
        _log.warning("%s: %s; it is deleted and built anew", self.plan_path(key), why)
        self._delete(key.digest)

    def check_room(self, onnx_path: Path) -> None:
        """That the folder can be written and has room, before minutes go into a build.

        An engine is about as large as its graph; twice that, and a few MiB, must be free. Raises
        `RunnerError`.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            needed = 2 * onnx_path.stat().st_size + 8 * _MIB
            status = os.statvfs(self.folder)
        except OSError as error:
            raise self._unwritable(error) from error
        free = status.f_bavail * status.f_frsize
        if free < needed:
            raise RunnerError(
                f"{self.folder}: {free / _MIB:.0f} MiB are free, the engine of {onnx_path.name} may need "
                f"{needed / _MIB:.0f}; free some space (edge-build --prune removes engines that no bundle "
                "uses), or let runtime.engines_dir name another folder"
            )

    def prune(self, keep: Iterable[EngineKey]) -> tuple[Path, ...]:
        """Delete every engine but those, and what a killed build left; gives the plans that are gone.

        Raises `RunnerError` where one can't be deleted.
        """
        kept = {key.digest for key in keep}
        if not self.folder.is_dir():
            return ()
        with self.lock.held():
            found = {path.stem for pattern in ("*.plan", "*.json") for path in self.folder.glob(pattern)}
            engines = {stem for stem in found if _is_digest(stem)}
            gone = sorted(engines - kept)
            for digest in gone:
                self._delete(digest)
            return tuple(self.folder / f"{digest}.plan" for digest in gone)

    def _delete(self, digest: str) -> None:
        try:
            # The sidecar last: a plan without one is known for a leftover.
            for suffix in (".json", ".plan"):
                (self.folder / f"{digest}{suffix}").unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> RunnerError:
        return RunnerError(
            f"{self.folder}: engines can't be kept there ({error.strerror}); let runtime.engines_dir name a "
            "folder that this user may write"
        )


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _is_digest(stem: str) -> bool:
    return len(stem) == 64 and set(stem) <= set("0123456789abcdef")
