"""Room on disk: how much there is, and a file that only takes some, to be given up when it is full."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from edge.disk import is_no_space, lock_file
from edge.errors import OutboxInUse, OutboxUnwritable

__all__ = ["Ballast", "free_bytes", "lock_folder"]

_log = logging.getLogger(__name__)


class Ballast:
    """`size_bytes` on the disk of `path`, really allocated; given up when every byte counts.

    It comes back, by `restore`, once there is room for it twice, and `keep_free_bytes` beside.
    """

    def __init__(self, path: Path, size_bytes: int, keep_free_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._keep_free_bytes = keep_free_bytes

    @property
    def held_bytes(self) -> int:
        """How much there is to give up."""
        try:
            return self._path.stat().st_blocks * 512
        except FileNotFoundError:
            return 0

    def drop(self) -> bool:
        """Give the room back; False where there was none left to give. Raises `OutboxUnwritable`."""
        held = self.held_bytes
        if not held:
            return False
        try:
            self._path.unlink()
        except OSError as error:
            raise OutboxUnwritable(f"{self._path}: can't be removed ({error.strerror})") from error
        _log.critical(
            "%s: the disk is full; %d MiB of ballast were given up so that verdicts can still be written: "
            "free some space",
            self._path.parent,
            held >> 20,
        )
        return True

    def restore(self) -> bool:
        """Take the room again where there is enough; whether the ballast is there now.

        Raises `OutboxUnwritable` where the disk refuses for another reason than room.
        """
        if self.held_bytes >= self._size_bytes:
            return True
        if free_bytes(self._path.parent) < self._keep_free_bytes + 2 * self._size_bytes:
            return False
        try:
            self._path.unlink(missing_ok=True)  # a smaller one, of another configuration
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
                os.fsync(file.fileno())
        except OSError as error:
            self._path.unlink(missing_ok=True)
            if is_no_space(error):
                return False
            raise OutboxUnwritable(
                f"{self._path}: can't be written ({error.strerror}); check the disk and the folder's rights"
            ) from error
        _log.info("%s: %d MiB of ballast", self._path, self._size_bytes >> 20)
        return True


def free_bytes(folder: Path) -> int:
    """What a process without privileges may still write there; raises `OutboxUnwritable`."""
    try:
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise OutboxUnwritable(f"{folder}: can't be looked at ({error.strerror}); check the disk") from error


def lock_folder(folder: Path) -> int:
    """A lock on the folder, made where it is missing; it ends with the process, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock_file(folder / "outbox.lock")
    except BlockingIOError as error:
        raise OutboxInUse(
            f"{folder}: another process has this outbox open; stop it, or give each rig a daemon.state_dir "
            "of its own"
        ) from error
    except OSError as error:
        raise OutboxUnwritable(
            f"{folder}: can't be used ({error.strerror}); check the disk and the folder's rights"
        ) from error
