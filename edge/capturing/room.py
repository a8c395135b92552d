"""Whether the disk has room for what a rig keeps while it inspects, and what to say where it has not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from edge.disk import is_no_space
from edge.errors import CaptureError, EdgeError
from edge.outbox_space import free_bytes
from edge.reasons import reason_of

__all__ = ["DISK_FULL", "check_room", "disk_reason", "too_little_free"]

DISK_FULL = "disk_full"


def check_room(folder: Path, keep_free_bytes: int) -> None:
    """Raises `CaptureError`, by its reason `disk_full`, where less than that is free on the folder's disk."""
    if free_bytes(folder) < keep_free_bytes:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise CaptureError(f"{folder}: {too_little_free(folder, keep_free_bytes)}") from full


def too_little_free(folder: Path, keep_free_bytes: int) -> str:
    """How much is free on the folder's disk, and how much should be, in words."""
    free_mb, keep_mb = free_bytes(folder) >> 20, keep_free_bytes >> 20
    return f"{free_mb} MiB are free, and outbox.keep_free_mb wants {keep_mb} left"


def disk_reason(error: OSError | EdgeError, otherwise: str) -> str:
    """Why a frame is not kept, as one stable word: `disk_full`, the error's own, or `otherwise`."""
    if _is_full(error):
        return DISK_FULL
    return reason_of(error) if isinstance(error, EdgeError) else otherwise


def _is_full(error: BaseException | None) -> bool:
    """Whether it is, or came of, a disk without room."""
    while error is not None:
        if isinstance(error, OSError) and is_no_space(error):
            return True
        error = error.__cause__
    return False
