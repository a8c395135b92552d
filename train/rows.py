"""Arrays of one shape in a file, read and written by number: more of them than memory holds."""

from __future__ import annotations

import errno
import math
import mmap
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge.errors import TrainingError

__all__ = ["RowFile"]


class RowFile:
    """`count` float32 arrays of `shape` in one memory-mapped file.

    The file's place on the disk is reserved when it is made, so that a full disk is an error at once and
    not a crash half-way; pages are given back after each access, so that the process does not grow with
    what it has read. Several processes may hold one file. Raises `TrainingError`.
    """

    def __init__(self, path: Path, count: int, shape: Sequence[int], *, create: bool) -> None:
        self.shape = (count, *shape)
        size = 4 * math.prod(self.shape)
        try:
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
                _reserve(path, size)
            with path.open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise TrainingError(
                f"{path}: no room for {count} arrays of {'×'.join(map(str, shape))} numbers, "
                f"{size / 1e9:.2f} GB ({error.strerror}); free the disk, or take another --out"
            ) from error
        self._rows: npt.NDArray[np.float32] = np.frombuffer(self._map, dtype=np.float32).reshape(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def put(self, start: int, rows: npt.NDArray[np.float32]) -> None:
        """Write `rows` (k, *shape) at row `start` and after it."""
        self._rows[start : start + len(rows)] = rows
        self._map.madvise(mmap.MADV_DONTNEED)

    def take(self, rows: Tensor) -> Tensor:
        """A copy of those rows, (k, *shape)."""
        taken = self._rows[rows.numpy()]
        self._map.madvise(mmap.MADV_DONTNEED)
        return torch.from_numpy(taken)


def _reserve(path: Path, size: int) -> None:
    """A new file with a place on the disk, or none; others must not find the disk filled by the attempt."""
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {free / 1e9:.2f} GB are free")
    with path.open("xb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            path.unlink()
            raise
