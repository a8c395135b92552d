"""Users and what they may do with a device node."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from edge.doctor.machine import Machine

__all__ = ["User", "may_use", "owner_of", "user_of"]

_TIMEOUT_S = 10.0
_USER = re.compile(r"uid=(\d+)\(([^)]*)\)")
_GROUPS = re.compile(r"groups=(\S+)")
_GROUP = re.compile(r"(\d+)(?:\(([^)]*)\))?")


@dataclass(frozen=True, slots=True)
class User:
    """A user and all groups; `is_current` where the groups are those of this process."""

    name: str
    uid: int
    groups: frozenset[str]
    gids: frozenset[int]
    is_current: bool


def user_of(machine: Machine, name: str | None = None) -> User | None:
    """That user, as the machine's user database has it; without a name the one who runs this process.

    The two differ for a user who was put into a group after logging in: the process does not have it yet.
    """
    answer = machine.run(("id", *((name,) if name else ())), _TIMEOUT_S)
    found, groups = _USER.search(answer.out), _GROUPS.search(answer.out)
    if not answer.succeeded or found is None:
        return None
    pairs = _GROUP.findall(groups[1]) if groups else []
    return User(
        name=found[2],
        uid=int(found[1]),
        groups=frozenset(group for _, group in pairs if group),
        gids=frozenset(int(number) for number, _ in pairs),
        is_current=name is None,
    )


def may_use(path: Path, user: User, *, write: bool = True) -> bool:
    """Whether that user may read (and write) the file; raises `OSError` where it can't be looked at."""
    if user.is_current and user.uid == os.getuid():
        return os.access(path, os.R_OK | (os.W_OK if write else 0))
    # Of another user only the mode can be asked; an access list (getfacl) may give more.
    found = path.stat()
    if user.uid == 0:
        return True
    if user.uid == found.st_uid:
        readable, writable = stat.S_IRUSR, stat.S_IWUSR
    elif found.st_gid in user.gids:
        readable, writable = stat.S_IRGRP, stat.S_IWGRP
    else:
        readable, writable = stat.S_IROTH, stat.S_IWOTH
    wanted = readable | (writable if write else 0)
    return found.st_mode & wanted == wanted


def owner_of(machine: Machine, path: Path) -> str:
    """Mode and owner for people: "crw-rw---- root:video"; raises `OSError`."""
    found = path.stat()
    users, groups = (_names(machine, f"/etc/{file}") for file in ("passwd", "group"))
    user, group = users.get(found.st_uid, str(found.st_uid)), groups.get(found.st_gid, str(found.st_gid))
    return f"{stat.filemode(found.st_mode)} {user}:{group}"


def _names(machine: Machine, name: str) -> dict[int, str]:
    """Number → name of /etc/passwd or /etc/group; the first of two names counts."""
    names: dict[int, str] = {}
    for line in (machine.text(name) or "").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdigit():
            names.setdefault(int(fields[2]), fields[0])
    return names
