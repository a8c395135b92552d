"""What the user who inspects may touch: groups and device nodes.

A service whose user is not in `video` and `render` finds no GPU at boot, while it works for whoever tried it
by hand. NVIDIA asks for both groups; on Jetson Linux 36 /dev/nvmap is 0440 root:video, /dev/dri/renderD128
0660 root:render.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge.doctor.board import Board
from edge.doctor.machine import Machine
from edge.doctor.people import User, may_use, owner_of, user_of
from edge.doctor.report import Details, Finding, Level, error, note, ok, warning

__all__ = ["access"]

_GPU_NODES = {  # pattern → whether it must be writable, too
    "/dev/nvmap": False,
    "/dev/nvgpu/igpu*/ctrl": True,
    "/dev/nvhost-*-gpu": True,
    "/dev/host1x-fence": True,
    "/dev/nvidia[0-9]*": True,
    "/dev/nvidiactl": True,
    "/dev/nvidia-uvm": True,
    "/dev/dri/renderD*": True,
}
"""What CUDA opens on a Jetson (Orin and Thor) or a PC."""

_CAMERA_NODES = {"/dev/video*": True}
_FOR_DEBUGGING = ("/dev/nvhost-dbg-", "/dev/nvhost-prof-", "/dev/nvhost-ctxsw-")
"""These belong to the group `debug`; CUDA works without them."""

_WHAT_FOR = {
    "video": "cameras and the GPU",
    "render": "the GPU",
    "plugdev": "USB devices",
    "gpio": "digital outputs",
}


def access(
    machine: Machine, board: Board, user: User | None, *, needs_gpu: bool, needs_camera: bool
) -> Iterator[Finding]:
    """Groups and device nodes as `user` has them; what is needed and not allowed is an error."""
    if user is None:
        yield note(
            "access", "user", "The user database does not say who this is.", "Check the output of `id`."
        )
        return
    who = f"{user.name} (uid {user.uid})"
    yield ok(
        "access",
        "user",
        f"Looked at for user {who}, in {', '.join(sorted(user.groups)) or 'no group'}.",
        user=user.name,
        uid=user.uid,
        groups=tuple(sorted(user.groups)),
    )
    yield from _session(machine, user)
    if user.uid == 0:
        yield note(
            "access",
            "root",
            "Root may use every device; a service should run as a user of its own.",
            "Look at that user: edge-doctor --user NAME.",
        )
        return
    yield from _groups(machine, board, user, needs_gpu=needs_gpu, needs_camera=needs_camera)
    if board.is_jetson or needs_gpu:
        yield from _nodes(machine, user, "gpu_nodes", "GPU", _GPU_NODES, needed=needs_gpu)
    yield from _nodes(machine, user, "video_nodes", "video", _CAMERA_NODES, needed=needs_camera)


def _session(machine: Machine, user: User) -> Iterator[Finding]:
    stored = user_of(machine, user.name) if user.is_current else None
    late = sorted(stored.groups - user.groups) if stored else []
    if late:
        yield warning(
            "access",
            "session",
            f"{user.name} was put into {', '.join(late)} after this session began.",
            "Log out and in again, or reboot.",
            late=tuple(late),
        )


def _groups(
    machine: Machine, board: Board, user: User, *, needs_gpu: bool, needs_camera: bool
) -> Iterator[Finding]:
    existing = {line.partition(":")[0] for line in (machine.text("/etc/group") or "").splitlines()}
    wanted = {
        "video": Level.ERROR if (needs_gpu and board.is_jetson) or needs_camera else Level.WARNING,
        "render": Level.ERROR if needs_gpu and board.is_jetson else Level.WARNING,
        "plugdev": Level.NOTE,
        "gpio": Level.NOTE,
    }
    if not board.is_jetson:
        wanted = {"video": wanted["video"], "plugdev": Level.NOTE} if needs_camera else {}
    for group, level in wanted.items():
        if group in existing and group not in user.groups:
            yield Finding(
                subject="access",
                check=f"group_{group}",
                level=level,
                what=f"{user.name} is not in the group {group}, which may use {_WHAT_FOR[group]}.",
                remedy=f"sudo usermod -aG {group} {user.name}, then start the service, or log in, again.",
            )


def _nodes(
    machine: Machine, user: User, check: str, what: str, patterns: dict[str, bool], *, needed: bool
) -> Iterator[Finding]:
    allowed, closed = [], []
    for pattern, write in patterns.items():
        for name in machine.names(pattern):
            path = machine.path(name)
            try:
                if name.startswith(_FOR_DEBUGGING):
                    continue
                if may_use(path, user, write=write):
                    allowed.append(name)
                else:
                    closed.append(f"{name} ({owner_of(machine, path)})")
            except OSError:
                continue  # it was unplugged between the two looks
    details: Details = {"allowed": tuple(allowed), "closed": tuple(closed)}
    if closed:
        groups = sorted({each.rpartition(":")[2].rstrip(")") for each in closed} - {"root"})
        remedy = (
            f"sudo usermod -aG {','.join(groups)} {user.name}, then start the service, or log in, again."
            if groups
            else "They are root's alone: give them to a group by a udev rule."
        )
        shown = ", ".join(closed[:3]) + (f" and {len(closed) - 3} more" if len(closed) > 3 else "")
        make = error if needed else warning
        yield make(
            "access",
            check,
            f"{user.name} may not use {shown}.",
            remedy,
            **details,
        )
    elif allowed:
        yield ok("access", check, f"{user.name} may use all {len(allowed)} {what} devices.", **details)
    elif needed:
        yield error(
            "access",
            check,
            f"There is no {what} device in /dev.",
            "Check the driver (`sudo dmesg`); a container needs --device, or --runtime nvidia for a GPU.",
            **details,
        )
