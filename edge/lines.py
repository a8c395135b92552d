"""A file of lines that only grows, in pieces of a bounded size, of which the oldest go."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from edge.disk import sync_folder

__all__ = ["Lines"]


class Lines:
    """Lines that are added at the end of `path`; any thread may add, one process does.

    A piece that would grow beyond `piece_bytes` is renamed (`audit.jsonl` → `audit.1.jsonl`, and that one
    to `audit.2.jsonl`, …) and the oldest of more than `pieces` is removed. What a crash, or a full disk,
    left of a line that was never whole stays a line of its own, which readers pass over.
    """

    def __init__(self, path: Path, *, piece_bytes: int, pieces: int) -> None:
        self._path = path
        self._piece_bytes = piece_bytes
        self._pieces = pieces
        self._lock = threading.Lock()
        self._whole = False  # whether the last line is known to have ended

    def add(self, line: bytes, *, durable: bool) -> None:
        """Write one line; with `durable` it is on disk when this returns. Raises `OSError`.

        After an error nothing of it is there, as far as the disk lets that be.
        """
        with self._lock:
            handle, new = self._append(line)
        try:
            if durable:
                os.fsync(handle)  # outside the lock: who only adds does not wait for the disk
                if new:
                    sync_folder(self._path.parent)
        finally:
            os.close(handle)

    def read(self) -> Iterator[bytes]:
        """All lines that are kept, the oldest first, without their ends; raises `OSError`."""
        for number in range(self._pieces - 1, -1, -1):
            try:
                with self._piece(number).open("rb") as file:
                    yield from (line.rstrip(b"\n") for line in file)
            except FileNotFoundError:
                continue

    def _append(self, line: bytes) -> tuple[int, bool]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = self._open()
        try:
            size = os.fstat(handle).st_size
            if size and size + len(line) >= self._piece_bytes:
                os.close(handle)
                handle = -1
                self._turn_over()
                handle, size = self._open(), 0
            torn = size > 0 and not self._whole and os.pread(handle, 1, size - 1) != b"\n"
            self._whole = False
            data = (b"\n" if torn else b"") + line + b"\n"
            try:
                if os.write(handle, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(handle, size)
                raise
            self._whole = True
        except BaseException:
            if handle >= 0:
                os.close(handle)
            raise
        return handle, size == 0

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _turn_over(self) -> None:
        for number in range(self._pieces - 1, 0, -1):
            before = self._piece(number - 1)
            if before.exists():
                before.replace(self._piece(number))

    def _piece(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_suffix(f".{number}{self._path.suffix}")
