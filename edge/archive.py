"""A bundle as one .zip: packed to the same bytes each time, unpacked as if a stranger had sent it."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from edge.bundle import UNLISTED_FILES, Bundle, load_bundle
from edge.bundle_files import MAX_FILE_BYTES, stays_inside
from edge.disk import sync_folder
from edge.errors import ArchiveInvalid, BundleError, FileTooLarge, PathEscapes, ZipBomb
from edge.signature import PublicKey

__all__ = ["ArchiveLimits", "pack_bundle", "unpack_bundle"]

_CHUNK = 1 << 20
_NEVER_OVER = "a bundle is never written over, choose another place"
_AGAIN = "copy it again, or pack it anew with `edge-export pack`"

# Letters, digits, dots and dashes: no hidden files, and no two names that some file system takes for one.
_PORTABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}){0,3}")

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a .zip can tell
_UNIX = 3
_MODE = stat.S_IFREG | 0o644
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_END = b"PK\x05\x06"
_END_BYTES = 22
_END64 = b"PK\x06\x07"
_END64_BYTES = 20
_ENTRY_BYTES = 46 + 512


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """How much an archive may unpack to, by what it says of itself and by what comes out of it.

    `max_ratio` is how many times its packed size a file may have, beyond the first `free_bytes`, and all
    of them together: weights shrink to nine tenths, golden samples are packed already.
    """

    max_files: int = 1000
    max_file_bytes: int = MAX_FILE_BYTES
    max_total_bytes: int = 4 * 10**9
    max_ratio: int = 100
    free_bytes: int = 1 << 20


def pack_bundle(folder: Path, archive: Path) -> Bundle:
    """Write a bundle, verified, as a .zip that did not exist before: whole or not at all.

    The same bundle gives the same bytes on every machine: files in the order of their names, without dates,
    not compressed (weights hardly shrink, and compressors differ). Raises what `load_bundle` raises, and
    `BundleError` where it can't be written.
    """
    bundle = load_bundle(folder)
    names = sorted({*bundle.manifest.files, *(name for name in UNLISTED_FILES if (folder / name).exists())})
    for name in names:
        if not _PORTABLE.fullmatch(name):
            raise ArchiveInvalid(
                f"{folder / name}: has a name that not every system can hold; use letters, digits, '.', '_' "
                "and '-' alone"
            )
    with _written(archive), archive.open("xb") as file:
        try:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=False) as packed:
                for name in names:
                    _pack(packed, bundle, name)
            file.flush()
            os.fsync(file.fileno())
        except (OSError, BundleError, KeyboardInterrupt):
            archive.unlink()
            raise
        except zipfile.LargeZipFile as error:
            archive.unlink()
            raise FileTooLarge(
                f"{folder}: is too large for a .zip ({error}); copy the folder as it is"
            ) from error
    return bundle


def unpack_bundle(
    archive: Path,
    into: Path,
    limits: ArchiveLimits = ArchiveLimits(),
    trusted_keys: Sequence[PublicKey] | None = None,
) -> Bundle:
    """Unpack a bundle's .zip into a folder that did not exist before: whole and verified, or not at all.

    Everything is unpacked beside `into`, loaded by `load_bundle` with `trusted_keys`, and only then put in
    its place. Raises `ArchiveInvalid` where the .zip is none, or holds links, two names for one file or
    anything but files; `PathEscapes` where a name leads out; `ZipBomb` and `FileTooLarge` for what is beyond
    `limits`, before it is unpacked; what `load_bundle` raises; `BundleError` where it can't be written.
    """
    with _written(into):
        if into.exists() or into.is_symlink():
            raise FileExistsError
    with _opened(archive, limits) as packed:
        members = _checked(archive, packed, limits)
        with _written(into), _draft(into) as draft:
            _check_room(into, sum(member.file_size for member in members))
            for member in members:
                _unpack(archive, packed, member, draft / member.filename)
            bundle = load_bundle(draft, trusted_keys)
            _sync_folders(draft)
            draft.rename(into)
            sync_folder(into.parent)
    return replace(bundle, path=into)


def _pack(packed: zipfile.ZipFile, bundle: Bundle, name: str) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = _UNIX
    info.external_attr = _MODE << 16
    data = bundle.read(name) if name in bundle.manifest.files else (bundle.path / name).read_bytes()
    packed.writestr(info, data)


@contextmanager
def _opened(archive: Path, limits: ArchiveLimits) -> Iterator[zipfile.ZipFile]:
    """The archive, once its directory is known to be small; damage of any kind is an `ArchiveInvalid`."""
    try:
        with open(archive, "rb", opener=_open_no_wait) as file:
            _check_size(archive, file, limits)
            with zipfile.ZipFile(file) as packed:
                yield packed
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError
    ) as error:  # fmt: skip  # zipfile tells of damage in all these ways
        raise ArchiveInvalid(f"{archive}: is not a .zip that can be unpacked ({error}); {_AGAIN}") from error
    except OSError as error:
        raise ArchiveInvalid(
            f"{archive}: can't be read ({error.strerror or error}); check the path, or {_AGAIN}"
        ) from error


def _check_size(archive: Path, file: BinaryIO, limits: ArchiveLimits) -> None:
    """Look at the last record before `zipfile` does, which would read a directory of any length."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise ArchiveInvalid(f"{archive}: is not a file; name the bundle's .zip")
    if status.st_size > limits.max_total_bytes:
        raise FileTooLarge(
            f"{archive}: has {status.st_size} bytes, more than the {limits.max_total_bytes} that a bundle may"
        )
    file.seek(-min(status.st_size, _END_BYTES + _END64_BYTES), os.SEEK_END)
    tail = file.read()
    end = tail[-_END_BYTES:]
    if not end.startswith(_END) or not end.endswith(b"\0\0") or len(end) != _END_BYTES:
        raise ArchiveInvalid(f"{archive}: is not a .zip, is cut short, or has a comment at its end; {_AGAIN}")
    if tail.startswith(_END64):
        raise ArchiveInvalid(f"{archive}: is a .zip in the format for more than 4 GB; {_AGAIN}")
    directory_bytes = int.from_bytes(end[12:16], "little")
    if directory_bytes > limits.max_files * _ENTRY_BYTES:
        raise ZipBomb(
            f"{archive}: has a directory of {directory_bytes} bytes, which is more than {limits.max_files} "
            "files take"
        )


def _checked(archive: Path, packed: zipfile.ZipFile, limits: ArchiveLimits) -> list[zipfile.ZipInfo]:
    """The files to unpack; folders come of themselves."""
    members = packed.infolist()
    if len(members) > limits.max_files:
        raise ZipBomb(f"{archive}: holds {len(members)} files, {limits.max_files} are allowed")
    seen: dict[str, str] = {}
    for member in members:
        _check_name(archive, member)
        _check_kind(archive, member)
        _check_bytes(archive, member, limits)
        plain = member.filename.rstrip("/").casefold()
        if plain in seen:
            raise ArchiveInvalid(
                f"{archive}: holds {seen[plain]!r} and {member.filename!r}, which can be one file; {_AGAIN}"
            )
        seen[plain] = member.filename
    files = [member for member in members if not member.is_dir()]
    for member in files:
        inside = next((name for name in seen if name.startswith(f"{member.filename.casefold()}/")), None)
        if inside is not None:
            raise ArchiveInvalid(
                f"{archive}: {member.filename!r} is a file and holds {seen[inside]!r}; {_AGAIN}"
            )
    total = sum(member.file_size for member in files)
    packed_bytes = sum(member.compress_size for member in files)
    size = archive.stat().st_size
    allowed = min(limits.max_total_bytes, limits.free_bytes + limits.max_ratio * size)
    if total > allowed or packed_bytes > size:
        raise ZipBomb(
            f"{archive}: its {size} bytes would unpack to {total}; {allowed} are allowed, and no byte may "
            "stand for two files"
        )
    return files


def _check_name(archive: Path, member: zipfile.ZipInfo) -> None:
    name = member.orig_filename  # zipfile itself ends a name at its first zero byte
    if not stays_inside(name) or re.match("[A-Za-z]:", name):
        raise PathEscapes(f"{archive}: file {name!r} leads out of the bundle; it was not unpacked")
    if not _PORTABLE.fullmatch(name.removesuffix("/")):
        raise ArchiveInvalid(
            f"{archive}: file {name!r} has a name that a bundle's file can't have (letters, digits, '.', '_' "
            f"and '-', at most three folders deep); {_AGAIN}"
        )


def _check_kind(archive: Path, member: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    wanted = stat.S_IFDIR if member.is_dir() else stat.S_IFREG
    if kind not in (0, wanted):
        what = "a link" if kind == stat.S_IFLNK else "neither a file nor a folder"
        raise ArchiveInvalid(f"{archive}: {member.filename!r} is {what}; pack the file itself")
    if member.flag_bits & 1:
        raise ArchiveInvalid(f"{archive}: {member.filename!r} is encrypted; pack it without a password")
    if member.compress_type not in _METHODS:
        raise ArchiveInvalid(
            f"{archive}: {member.filename!r} is compressed by method {member.compress_type}, must be stored "
            f"or deflated; {_AGAIN}"
        )


def _check_bytes(archive: Path, member: zipfile.ZipInfo, limits: ArchiveLimits) -> None:
    if member.file_size > limits.max_file_bytes:
        raise FileTooLarge(
            f"{archive}: {member.filename!r} has {member.file_size} bytes, at most {limits.max_file_bytes} "
            "are allowed; it was not unpacked"
        )
    if member.file_size > limits.free_bytes + limits.max_ratio * member.compress_size:
        raise ZipBomb(
            f"{archive}: {member.filename!r} would unpack from {member.compress_size} to {member.file_size} "
            f"bytes, more than {limits.max_ratio} times as many; it was not unpacked"
        )


def _unpack(archive: Path, packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        for chunk in _chunks(archive, packed, member):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        written = file.tell()
    if written != member.file_size:
        raise ArchiveInvalid(
            f"{archive}: {member.filename!r} unpacks to {written} bytes, {member.file_size} are promised; "
            f"{_AGAIN}"
        )


def _chunks(archive: Path, packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """What a file holds; zipfile gives no more than its size, which was checked, and compares its CRC."""
    try:
        with packed.open(member) as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except OSError as error:  # also an offset before the first byte
        raise ArchiveInvalid(
            f"{archive}: {member.filename!r} can't be read ({error.strerror or error}); {_AGAIN}"
        ) from error


@contextmanager
def _draft(into: Path) -> Iterator[Path]:
    """A folder beside `into`, gone at the end if nobody moved it."""
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=f".{into.name}.") as beside:
        draft = Path(beside) / "bundle"
        draft.mkdir()
        yield draft


def _check_room(into: Path, needed: int) -> None:
    free = shutil.disk_usage(into.parent).free
    if needed > free:
        raise BundleError(
            f"{into}: needs {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free; make room and try again"
        )


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """What goes wrong with writing `path`, in a sentence."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileExistsError) and os.path.lexists(path):
            raise BundleError(f"{path}: exists already; {_NEVER_OVER}") from error
        raise BundleError(
            f"{path}: can't be written ({error.strerror or error}); nothing was left there: make room, or "
            "choose another place"
        ) from error


def _sync_folders(folder: Path) -> None:
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_folder(path)


def _open_no_wait(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
