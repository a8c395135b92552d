"""A small file system of one's own, to fill up and to cut the power of; it needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["fill", "image_of_ext4", "mounted"]

_PIECE = 64 * 1024


def image_of_ext4(path: Path, size_mb: int) -> Path:
    """A file that holds an empty ext4; skips the test where there is no mkfs."""
    mkfs = shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if mkfs is None:
        pytest.skip("mkfs.ext4 is not installed")
    with path.open("wb") as file:
        file.truncate(size_mb << 20)
    options = ["-q", "-F", "-m", "0", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
    subprocess.run([mkfs, *options, str(path)], check=True, capture_output=True)
    return path


@contextmanager
def mounted(at: Path, *, image: Path | None = None, size_mb: int = 0) -> Iterator[Path]:
    """`image` as a loop device, or a tmpfs of that size; skips the test where it can't be mounted."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    at.mkdir(exist_ok=True)
    what = ["-o", "loop", str(image)] if image else ["-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs"]
    done = subprocess.run(["mount", *what, str(at)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a file system can't be mounted here: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


def fill(disk: Path) -> None:
    """Somebody else takes all that is free."""
    with (disk / "hog").open("ab", buffering=0) as hog:
        piece = _PIECE
        while piece:
            try:
                hog.write(bytes(piece))
            except OSError:
                piece //= 2
        try:
            os.fsync(hog.fileno())
        except OSError:
            return
