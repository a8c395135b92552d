"""The frames of the last judged parts on disk: each whole or not there, and never more than the limits."""

from __future__ import annotations

import errno
import hashlib
import logging
import re
import shutil
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edge.camera.sample import Sample
from edge.captures import CaptureInfo, CaptureNote, encoded_images, read_depth
from edge.capturing.room import too_little_free
from edge.errors import CaptureError
from edge.frame import Frame
from edge.inspection import Outcome
from edge.outbox_space import free_bytes

__all__ = ["RecentStore", "StoredFrame"]

_log = logging.getLogger(__name__)

_NAME = re.compile(r"\d{13,}-\d{8,}")
_PART = "part.json"
_SHARE_OF_PASSED = 4


class _PartFile(BaseModel):
    """What lies beside the two images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    info: CaptureInfo
    note: CaptureNote
    size_bytes: dict[str, int]


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """One of them, without its images."""

    result_id: str
    name: str
    passed: bool
    size_bytes: int


class RecentStore:
    """A folder for each part: `rgb.png`, `depth.png` and `part.json`, named `<epoch>-<seq>`.

    At most `parts_max`, `max_bytes` together, and none while less than `keep_free_bytes` of the disk is free.
    The oldest passed part goes first; where passed ones are no more than a quarter, the oldest of the others:
    rejected ones that nobody labels must not keep all passed ones out.

    One process has the folder, and one thread uses it. Nothing is synced, so that no verdict waits for it:
    what a loss of power leaves is told by sizes and sha256. `OSError` comes through.
    """

    def __init__(self, folder: Path, *, parts_max: int, max_bytes: int, keep_free_bytes: int) -> None:
        self.folder = folder
        self._parts_max = parts_max
        self._max_bytes = max_bytes
        self._keep_free_bytes = keep_free_bytes
        self._passed: OrderedDict[str, StoredFrame] = OrderedDict()
        self._others: OrderedDict[str, StoredFrame] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._passed) + len(self._others)

    def open(self) -> int:
        """Look at what there is, and remove what is not whole; gives how many that were."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._passed.clear()
        self._others.clear()
        self.size_bytes = torn = 0
        for path in sorted(self.folder.iterdir()):
            if not path.is_dir() or not _NAME.fullmatch(path.name.removeprefix(".")):
                continue  # nothing of ours
            part = None if path.name.startswith(".") else self._whole(path)
            if part is None:
                shutil.rmtree(path)
                torn += 1
            else:
                self._add(part)
        return torn

    def ids(self) -> tuple[str, ...]:
        """The results whose frames are here."""
        return (*self._passed, *self._others)

    def find(self, result_id: str) -> StoredFrame | None:
        """Its frame; None where there is none, or none any more."""
        return self._passed.get(result_id) or self._others.get(result_id)

    def keep(self, order: tuple[int, int], frame: Frame, info: CaptureInfo, note: CaptureNote) -> list[str]:
        """Keep the frame of the verdict (epoch, seq) of that `note`; gives the results whose frames went.

        Where the frame itself is the least important, it is among them. Raises `CaptureError` where 16 bits
        can't hold its depth, or it is larger than all that may be kept.
        """
        result_id = note.result_id
        if result_id is None or self.find(result_id) is not None:
            raise CaptureError(f"the frame of result {result_id} is here already, or is of none")
        images = encoded_images(frame)
        digests = {kind: hashlib.sha256(data).hexdigest() for kind, data in images.items()}
        note = note.model_copy(update={"sha256": digests})
        sizes = {kind: len(data) for kind, data in images.items()}
        part_json = _PartFile(info=info, note=note, size_bytes=sizes).model_dump_json().encode()
        files = {f"{kind}.png": data for kind, data in images.items()} | {_PART: part_json}
        size_bytes = sum(len(data) for data in files.values())
        if size_bytes > self._max_bytes:
            raise CaptureError(
                f"a frame needs {size_bytes / 2**20:.1f} MiB, and captures.recent_max_mb is "
                f"{self._max_bytes >> 20}; raise it, or set captures.recent_parts to 0"
            )
        part = StoredFrame(
            result_id, f"{order[0]:013d}-{order[1]:08d}", note.outcome is Outcome.PASS, size_bytes
        )
        gone = self.make_room(part)
        if part.result_id not in gone:
            self._write(part.name, files)
            self._add(part)
        return gone

    def make_room(self, coming: StoredFrame | None = None) -> list[str]:
        """Let go what is more than the limits allow, with `coming` if given; gives the results of what went.

        Raises `OSError` (ENOSPC) where all of it would not be enough for `coming`.
        """
        gone: list[str] = []
        parts, size_bytes = (0, 0) if coming is None else (1, coming.size_bytes)
        while (
            len(self) + parts > self._parts_max
            or self.size_bytes + size_bytes > self._max_bytes
            or free_bytes(self.folder) < self._keep_free_bytes + size_bytes
        ):
            victim = self._least_important(coming)
            if victim is None:
                if coming is None:
                    break
                raise OSError(errno.ENOSPC, too_little_free(self.folder, self._keep_free_bytes))
            gone.append(victim.result_id)
            if victim is coming:
                break
            self.remove(victim.result_id)
        return gone

    def read(self, result_id: str) -> tuple[Frame, CaptureInfo, CaptureNote]:
        """The frame and what is known of it; raises `CaptureError` where it is gone, or no longer whole."""
        found = self.find(result_id)
        if found is None:
            raise CaptureError(f"the frame of result {result_id} is not kept")
        path = self.folder / found.name
        part = self._part_of(path)
        if part is None:
            raise CaptureError(f"{path}: its {_PART} can't be read; remove it")
        sample = Sample(
            part_id=result_id,
            split=None,
            defect=None,
            source=str(path),
            rgb_path=path / "rgb.png",
            depth_path=path / "depth.png",
            mask_path=None,
            depth_unit_m=part.info.depth_unit_m,
            intrinsics=part.info.intrinsics.intrinsics(),
            read_depth=read_depth,
        )
        for kind, image in (("rgb", sample.rgb_path), ("depth", sample.depth_path)):
            if hashlib.sha256(image.read_bytes()).hexdigest() != part.note.sha256.get(kind):
                raise CaptureError(f"{image}: is not what was written; a loss of power may have cut it off")
        return sample.frame(), part.info, part.note

    def remove(self, result_id: str) -> None:
        """Let its frame go, if it is here."""
        found = self.find(result_id)
        if found is None:
            return
        path = self.folder / found.name
        (path / _PART).unlink(missing_ok=True)  # first: without it the rest is nothing
        shutil.rmtree(path)
        (self._passed if found.passed else self._others).pop(result_id)
        self.size_bytes -= found.size_bytes

    def _least_important(self, coming: StoredFrame | None) -> StoredFrame | None:
        """What goes next, perhaps `coming` itself; None where nothing is left to go but a rejected one."""
        coming_passed = coming is not None and coming.passed
        passed = len(self._passed) + coming_passed
        parts = len(self) + (coming is not None)
        if passed > parts // _SHARE_OF_PASSED or not self._others:
            oldest = next(iter(self._passed.values()), coming if coming_passed and self._others else None)
            if oldest is not None:
                return oldest
        return next(iter(self._others.values()), None)

    def _add(self, part: StoredFrame) -> None:
        (self._passed if part.passed else self._others)[part.result_id] = part
        self.size_bytes += part.size_bytes

    def _write(self, name: str, files: dict[str, bytes]) -> None:
        new = self.folder / f".{name}"
        try:
            new.mkdir()
            for file, data in files.items():
                (new / file).write_bytes(data)
            new.rename(self.folder / name)
        except OSError:
            shutil.rmtree(new, ignore_errors=True)  # the error that led here is the one to tell
            raise

    def _whole(self, path: Path) -> StoredFrame | None:
        part = self._part_of(path)
        if part is None or part.note.result_id is None or part.note.result_id in self.ids():
            return None
        sizes = {file.name: file.stat().st_size for file in path.iterdir()}
        if any(sizes.get(f"{kind}.png") != size for kind, size in part.size_bytes.items()):
            return None
        return StoredFrame(
            part.note.result_id, path.name, part.note.outcome is Outcome.PASS, sum(sizes.values())
        )

    @staticmethod
    def _part_of(path: Path) -> _PartFile | None:
        try:
            return _PartFile.model_validate_json((path / _PART).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
