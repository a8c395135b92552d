"""The folder of one lot, while one process adds captures to it."""

from __future__ import annotations

import errno
import os
import re
from datetime import datetime, timezone
from pathlib import Path

from edge.camera.sample import Sample
from edge.captures import (
    CAPTURE_FILE,
    GOOD,
    CaptureInfo,
    CaptureNote,
    check_label,
    list_captures,
    next_number,
    write_capture,
    write_capture_info,
)
from edge.disk import is_no_space, lock_file, sync_folder
from edge.errors import CaptureError
from edge.frame import Frame
from edge.sealed import write_atomically

__all__ = ["TORN", "UNDONE", "CaptureFolder"]

UNDONE = ".undone"
"""Captures that somebody took back."""

TORN = ".torn"
"""What a crash left of captures that were never whole."""

_LOCK = ".capture.lock"
_FILE = re.compile(r"(\d+)\.(?:rgb\.png|depth\.png|mask\.png|note\.json)")
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


class CaptureFolder:
    """A lot that captures are added to. Numbers go on after those that are there; nothing is overwritten.

    `open`, then `keep` and `undo`, then `close`; a second process is refused meanwhile. Raises `CaptureError`
    throughout.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = 0
        self._info: CaptureInfo | None = None
        self._lock: int | None = None
        self._count = 0

    def check(self) -> None:
        """Raises where captures can't go there; changes nothing."""
        if not self.path.exists() or (self.path / CAPTURE_FILE).exists():
            return
        if not self.path.is_dir():
            raise CaptureError(f"{self.path}: is no folder; name another with --out")
        if any(not path.name.startswith(".") for path in self.path.iterdir()):
            raise CaptureError(
                f"{self.path}: holds something already and no {CAPTURE_FILE}, so it is no folder of "
                "captures; name a new folder with --out"
            )

    def open(self, info: CaptureInfo) -> tuple[Sample, ...]:
        """Begin, or go on where it was stopped: what is there already, checked from its headers.

        What a crash left of captures that were never whole is moved to `.torn` and counted in `torn`.
        Raises where the folder is another camera's, or another process is at it.
        """
        self.check()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
            write_capture_info(self.path, info)
            self._tidy()
            there = list_captures(self.path) if any(self.path.glob("[!.]*/*.rgb.png")) else ()
        except OSError as error:
            self.close()
            raise CaptureError(f"{self.path}: can't be used ({error.strerror}); see to its rights") from error
        except BaseException:
            self.close()
            raise
        self._info = info
        self._count = len(there)
        return there

    def keep(self, label: str, frame: Frame, info: CaptureInfo, note: CaptureNote) -> Sample:
        """Add a frame; when this returns it is on disk, whole.

        `info` as the camera is now: it must be what it was. Raises, and what was kept before stays.
        """
        if self._info is None:
            raise CaptureError(f"{self.path}: is not open")
        if different := info.differences(self._info):
            raise CaptureError(
                f"{self.path}: the camera is not what it was ({'; '.join(different)}); set it as it was, "
                "or use a new folder"
            )
        try:
            sample = write_capture(self.path, label, frame, note=note)
        except CaptureError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and (is_no_space(cause) or cause.errno == errno.EFBIG):
                raise CaptureError(
                    f"{error}; the {self._count} captures of before are whole: free some space and run the "
                    "same command again, it goes on"
                ) from error
            raise
        self._count += 1
        return sample

    def undo(self, sample: Sample) -> Path:
        """Move a capture's files aside; the folder in which they are now."""
        label, number = sample.rgb_path.parent.name, sample.rgb_path.name.split(".")[0]
        try:
            moved_to = self._move_aside(UNDONE, label, number)
        except OSError as error:
            raise CaptureError(f"{sample.rgb_path}: can't be moved ({error.strerror})") from error
        self._count -= 1
        return moved_to

    def relabel(self, rgb_path: Path, label: str, note: CaptureNote) -> Sample:
        """Move a capture to the next free number of another label, with a new note; or renew its note alone.

        At every moment it is under one of the two labels, whole. A mask goes along; a good part has none,
        so there it is moved to `.undone`.
        """
        check_label(label)
        group, number = rgb_path.parent, rgb_path.name.split(".")[0]
        written: list[Path] = []
        try:
            if label == group.name:
                write_atomically(group / f"{number}.note.json", note.model_dump_json().encode())
                return self._of(rgb_path)
            target = self.path / label
            if not target.exists():
                target.mkdir()
                sync_folder(self.path)
            new = next_number(target)
            kinds = ["depth.png", *(["mask.png"] if label != GOOD else [])]
            there = {kind: group / f"{number}.{kind}" for kind in kinds}
            beside = {kind: path.read_bytes() for kind, path in there.items() if path.exists()}
            for kind, data in (beside | {"note.json": note.model_dump_json().encode()}).items():
                written.append(target / f"{new}.{kind}")
                write_atomically(written[-1], data)
            sync_folder(target)
            # Now it changes over: where its rgb is, there it is.
            moved = rgb_path.rename(target / f"{new}.rgb.png")
            written.clear()
            sync_folder(target)
            for kind in (*kinds, "note.json"):
                (group / f"{number}.{kind}").unlink(missing_ok=True)
            if (group / f"{number}.mask.png").exists():
                self._move_aside(UNDONE, group.name, number)
            sync_folder(group)
        except OSError as error:
            for path in written:
                path.unlink(missing_ok=True)
            raise CaptureError(f"{rgb_path}: can't be moved to {label} ({error.strerror})") from error
        return self._of(moved)

    def close(self) -> None:
        """Let others at the folder; harmless when called twice."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _of(self, rgb_path: Path) -> Sample:
        return next(sample for sample in list_captures(self.path) if sample.rgb_path == rgb_path)

    def _locked(self) -> int:
        try:
            return lock_file(self.path / _LOCK)
        except BlockingIOError as error:
            raise CaptureError(
                f"{self.path}: another edge-capture writes into it; end that one, or name another folder"
            ) from error

    def _tidy(self) -> None:
        """Nobody else writes here: what is not whole now never will be."""
        groups = [path for path in self.path.iterdir() if path.is_dir() and not path.name.startswith(".")]
        for folder in (self.path, *groups):
            for path in folder.iterdir():
                if _TEMPORARY.fullmatch(path.name):
                    path.unlink()
        self.torn = 0
        for group in groups:
            numbers = {found[1] for path in group.iterdir() if (found := _FILE.fullmatch(path.name))}
            for number in sorted(numbers):
                if not (group / f"{number}.rgb.png").exists():
                    self._move_aside(TORN, group.name, number)
                    self.torn += 1

    def _move_aside(self, where: str, label: str, number: str) -> Path:
        group = self.path / label
        files = [
            path for path in group.iterdir() if (found := _FILE.fullmatch(path.name)) and found[1] == number
        ]
        # The rgb first: without it the capture is none, whatever happens in between.
        files.sort(key=lambda path: not path.name.endswith(".rgb.png"))
        target = self._new_folder(
            self.path / where, f"{label}-{number}-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}"
        )
        for path in files:
            path.rename(target / path.name)
        for folder in (group, target):
            sync_folder(folder)
        return target

    @staticmethod
    def _new_folder(parent: Path, name: str) -> Path:
        parent.mkdir(exist_ok=True)
        for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
            try:
                (parent / f"{name}{suffix}").mkdir()
            except FileExistsError:
                continue
            return parent / f"{name}{suffix}"
        raise FileExistsError(errno.EEXIST, "a thousand folders of this name are there")
