"""The disk: where state is kept, how much room is left, and whether it will still be there tomorrow."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edge.doctor.machine import Machine
from edge.doctor.people import User, may_use, owner_of
from edge.doctor.report import Details, Finding, error, note, ok, warning

__all__ = ["disk"]

_NEEDED_BYTES = 64 << 20  # a full disk must still take verdicts
_LITTLE_BYTES = 2 << 30  # engines, pictures and logs of some days
_FEW_FILES = 1000
_VOLATILE = {"tmpfs", "ramfs", "overlay", "squashfs"}
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"}
_WEAK = {"vfat", "exfat", "ntfs", "ntfs3", "fuseblk"}
_DISK_REMEDY = "Name another folder in daemon.state_dir of the rig's YAML, on a local disk with ext4 or XFS."


def disk(machine: Machine, user: User | None, state_dir: Path | None) -> Iterator[Finding]:
    """`state_dir` is the rig's; without one systemd's STATE_DIRECTORY, else the root file system."""
    given = state_dir or _of_systemd(machine)
    if given is None:
        yield note(
            "disk",
            "state_dir",
            "No state_dir is known; looked at the root file system.",
            "Give the rig's YAML (--config), or set daemon.state_dir there.",
        )
    wanted = (given or Path("/")).absolute()
    folder = wanted
    while not machine.path(folder).is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        space = machine.disk_space(machine.path(folder))
    except OSError as problem:
        yield error("disk", "space", f"{folder} can't be looked at ({problem.strerror}).", _DISK_REMEDY)
        return
    share = space.free_bytes / space.total_bytes if space.total_bytes else 0.0
    details: Details = {"path": str(folder), "free_bytes": space.free_bytes, "total_bytes": space.total_bytes}
    said = f"{_size(space.free_bytes)} of {_size(space.total_bytes)} ({share:.0%}) are free at {folder}."
    clear = "Remove old recordings, captures and logs (`sudo journalctl --vacuum-size=200M`)."
    if space.free_bytes < _NEEDED_BYTES:
        yield error("disk", "space", f"The disk is full: {said}", clear, **details)
    elif space.free_bytes < _LITTLE_BYTES:
        yield warning("disk", "space", said, clear, **details)
    else:
        yield ok("disk", "space", said, **details)
    if space.free_files is not None and space.free_files < _FEW_FILES:
        yield error(
            "disk",
            "files",
            f"Only {space.free_files} more files fit onto the disk of {folder}.",
            clear,
            free_files=space.free_files,
        )
    yield _file_system(machine, folder, read_only=space.read_only)
    if given is not None:
        yield _writable(machine, user, wanted, folder)


def _of_systemd(machine: Machine) -> Path | None:
    named = machine.environment.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(named) if named else None


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 1 << 30 else f"{size / 2**20:.0f} MiB"


def _file_system(machine: Machine, folder: Path, *, read_only: bool) -> Finding:
    kind, mount = "unknown", "/"
    for line in (machine.text("/proc/mounts") or "").splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        # The kernel writes spaces in names as \040; what is mounted last lies on top.
        place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[1])
        if len(place) >= len(mount) and folder.is_relative_to(place):
            kind, mount = fields[2], place
    details: Details = {"file_system": kind, "mount": mount, "read_only": read_only}
    if read_only:
        return error(
            "disk",
            "file_system",
            f"{mount} ({kind}) is mounted read-only.",
            "After an I/O error the kernel does that: look at `sudo dmesg`, check the disk; else remount.",
            **details,
        )
    if kind in _VOLATILE:
        return warning(
            "disk",
            "file_system",
            f"{folder} lies on {kind}: it is empty again after a restart.",
            _DISK_REMEDY,
            **details,
        )
    if kind in _REMOTE:
        return warning(
            "disk",
            "file_system",
            f"{folder} lies on {kind}: the rig stops with the network.",
            _DISK_REMEDY,
            **details,
        )
    if kind in _WEAK:
        return warning(
            "disk",
            "file_system",
            f"{folder} lies on {kind}, which a power cut can damage.",
            _DISK_REMEDY,
            **details,
        )
    return ok("disk", "file_system", f"{mount} is {kind}.", **details)


def _writable(machine: Machine, user: User | None, wanted: Path, folder: Path) -> Finding:
    path = machine.path(folder)
    made = "" if folder == wanted else f", where {wanted} is still to be made"
    owner = user.name if user else "USER"
    remedy = f"sudo install -d -o {owner} {wanted}, or give the unit a StateDirectory=."
    try:
        if user is not None and not may_use(path, user):
            return error(
                "disk",
                "writable",
                f"{user.name} may not write to {folder} ({owner_of(machine, path)}){made}.",
                remedy,
                path=str(folder),
            )
        if user is None or user.is_current:
            with tempfile.TemporaryFile(dir=path) as file:
                file.write(b"edge-doctor")
                os.fsync(file.fileno())
    except OSError as problem:
        return error(
            "disk",
            "writable",
            f"{folder} can't be written to ({problem.strerror}){made}.",
            remedy,
            path=str(folder),
        )
    who = user.name if user else "this user"
    return ok("disk", "writable", f"{who} may write to {folder}{made}.", path=str(folder))
