"""The files of a bundle as bytes on a disk: names that stay inside, no links, no more than was promised."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from edge.errors import BundleCorrupt, FileChanged, FileTooLarge, PickleRefused

__all__ = [
    "MAX_FILE_BYTES",
    "FileSpec",
    "check_file",
    "files_of",
    "read_bounded",
    "read_file",
    "refuse_pickle",
    "stays_inside",
]

MAX_FILE_BYTES = 2**31 - 1
"""No ONNX file can be larger: protobuf counts its bytes in 31 bits."""

_CHUNK = 1 << 20
_AGAIN = "copy the bundle again, or export it anew"

# From protocol 2 on a pickle says so in its first byte; protocols 0 and 1 are text, and only a name tells.
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_PICKLED_SUFFIXES = frozenset({".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".dill"})


class FileSpec(BaseModel):
    """What a file of the bundle must be, byte for byte."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


def stays_inside(name: str) -> bool:
    """Whether a file's name, with / between its parts, can't lead out of the folder that it starts at."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and not set("\\\0") & set(name)


def files_of(folder: Path) -> set[str]:
    """The names of all files below `folder`; raises `BundleCorrupt` for a link or a device, `OSError`."""
    found = set()
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise BundleCorrupt(
                f"{path}: is a link, its bytes lie elsewhere; copy the file itself into the bundle"
            )
        if stat.S_ISREG(mode):
            found.add(path.relative_to(folder).as_posix())
        elif not stat.S_ISDIR(mode):
            raise BundleCorrupt(f"{path}: is neither a file nor a folder; remove it, or {_AGAIN}")
    return found


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The bytes of a small file, also through a link.

    Raises `BundleCorrupt` where it can't be read, `FileTooLarge` where it holds more than
    `max_bytes`: no more than those are read.
    """
    with _opened(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise FileTooLarge(f"{path}: holds more than {max_bytes} bytes, more than such a file can; {_AGAIN}")
    return data


def read_file(path: Path, spec: FileSpec) -> bytes:
    """The bytes of a file, verified: what is returned is what was hashed.

    Raises `BundleCorrupt` where it can't be read, `FileChanged` where it is not what `spec` says.
    """
    with _opened(path, spec) as file:
        data = file.read(spec.bytes + 1)
    if len(data) != spec.bytes or hashlib.sha256(data).hexdigest() != spec.sha256:
        raise _changed(path)
    return data


def check_file(path: Path, spec: FileSpec) -> None:
    """Verify a file without keeping it; raises what `read_file` does, and `PickleRefused`."""
    digest = hashlib.sha256()
    left = spec.bytes + 1
    with _opened(path, spec) as file:
        first = chunk = file.read(min(_CHUNK, left))
        while chunk:
            digest.update(chunk)
            left -= len(chunk)
            chunk = file.read(min(_CHUNK, left)) if left else b""
    if left != 1 or digest.hexdigest() != spec.sha256:
        raise _changed(path)
    refuse_pickle(first, str(path))


def refuse_pickle(data: bytes, name: str) -> None:
    """Raise `PickleRefused` where a file's name or first bytes say that it is pickled."""
    if _PICKLE.match(data) or PurePosixPath(name).suffix.lower() in _PICKLED_SUFFIXES:
        raise PickleRefused(
            f"{name}: is pickled, and reading a pickle runs what it holds; a bundle has ONNX graphs and "
            "arrays of numbers: export it anew without this file"
        )


@contextmanager
def _opened(path: Path, spec: FileSpec | None = None) -> Iterator[BinaryIO]:
    """An ordinary file, opened for reading: no pipe or device that could block, and with `spec` no link."""
    try:
        with open(path, "rb", opener=_open if spec is None else _open_no_link) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BundleCorrupt(f"{path}: is not an ordinary file; {_AGAIN}")
            if spec is not None and status.st_size != spec.bytes:
                raise _changed(path)
            yield file
    except FileNotFoundError as error:
        raise BundleCorrupt(f"{path}: is missing; {_AGAIN}") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BundleCorrupt(
                f"{path}: is a link, its bytes lie elsewhere; copy the file itself into the bundle"
            ) from error
        raise BundleCorrupt(
            f"{path}: can't be read ({error.strerror}); check that this user may read every file of the "
            "bundle, or copy it again"
        ) from error


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _changed(path: Path) -> FileChanged:
    return FileChanged(
        f"{path}: differs from the sha256 in the manifest; it is damaged or was changed: {_AGAIN}"
    )
