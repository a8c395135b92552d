"""What several who write to disk ask of it: a lock on a file, and whether an error says that it is full."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

__all__ = ["is_no_space", "lock_file", "sync_folder"]


def is_no_space(error: OSError) -> bool:
    """Whether it says that there is no room: on the disk, or in a quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def lock_file(path: Path) -> int:
    """Take the lock on a file (flock(2)), made where it is missing; the descriptor holds it.

    It ends with the process, however that ends. Raises `BlockingIOError` where another holds it, and
    `OSError` where the file can't be used.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def sync_folder(folder: Path) -> None:
    """Bring the names of its files to disk, which syncing the files does not; raises `OSError`."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
