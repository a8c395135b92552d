"""Feature maps kept between runs, under what they were computed from and with."""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge.errors import TrainingError
from train.features import Backbone

__all__ = ["FeatureCache"]

_KEPT_SHARE = 0.9
"""What is left after the oldest entries were removed: not every entry pays for the next one's room."""


class FeatureCache:
    """Feature maps on disk, under the sha256 of what they were computed from and with.

    A key is that of the picture's bytes and the backbone, so a renamed file is found and a changed one is
    not; what a GPU computed differs in the last bits and has keys of its own. A damaged entry is computed
    anew. Beyond `limit_bytes` the entries that were not used for longest are removed; None keeps all.
    `folder` None keeps nothing.
    """

    def __init__(self, folder: Path | None, limit_bytes: int | None = None) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._size_bytes: int | None = None  # counted when the first entry is written

    def features(self, backbone: Backbone, picture: npt.NDArray[np.uint8]) -> Tensor:
        """(C, m, m) features of a picture (1, S, S, 3), on the CPU.

        Raises `TrainingError` where the cache can't be written.
        """
        if self._folder is None:
            return _compute(backbone, picture)
        device = backbone.mean.device.type
        key = hashlib.sha256(backbone.sha256.encode())
        key.update(b"" if device == "cpu" else device.encode())
        key.update(np.ascontiguousarray(picture).tobytes())
        digest = key.hexdigest()
        path = self._folder / digest[:2] / f"{digest}.npy"
        shape = (backbone.channels, backbone.cells, backbone.cells)
        try:
            stored = np.load(path, allow_pickle=False)
            if stored.shape == shape and stored.dtype == np.float32:
                os.utime(path)  # used now; many file systems don't say when a file was read
                return torch.from_numpy(stored)
        except (OSError, ValueError, EOFError):
            pass  # not there, or damaged: compute it
        features = _compute(backbone, picture)
        self._write(self._folder, path, features.numpy())
        return features

    def _write(self, folder: Path, path: Path, features: npt.NDArray[np.float32]) -> None:
        temporary = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.save(file, features)
            temporary.replace(path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise TrainingError(
                f"{path}: the feature cache can't be written ({error.strerror}); free the disk, name another "
                "folder with --cache, or keep none with --no-cache"
            ) from error
        if self._limit_bytes is None:
            return
        if self._size_bytes is None:
            self._size_bytes = sum(size for _, size, _ in _entries(folder))
        else:
            self._size_bytes += features.nbytes
        if self._size_bytes > self._limit_bytes:
            self._size_bytes = _trim(folder, round(_KEPT_SHARE * self._limit_bytes))


def _entries(folder: Path) -> list[tuple[int, int, Path]]:
    """When each entry was used last (ns), its size (bytes), its path; other processes trim, too."""
    found = []
    for path in folder.glob("*/*.npy"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        found.append((status.st_mtime_ns, status.st_size, path))
    return found


def _trim(folder: Path, limit_bytes: int) -> int:
    entries = sorted(_entries(folder))
    size = sum(entry[1] for entry in entries)
    for _, entry_bytes, path in entries:
        if size <= limit_bytes:
            break
        path.unlink(missing_ok=True)
        size -= entry_bytes
    return size


def _compute(backbone: Backbone, picture: npt.NDArray[np.uint8]) -> Tensor:
    with torch.no_grad():
        features: Tensor = backbone(torch.from_numpy(np.array(picture)).to(backbone.mean.device))[0]
    return features.cpu()
