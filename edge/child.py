"""`python -m edge.child PARENT COMMAND…`: become COMMAND, and die when the process PARENT does.

A context manager can't end its child when its own process is killed with -9; the kernel can (prctl(2),
PR_SET_PDEATHSIG, which outlives the exec). The child has a process group of its own, so that a Ctrl-C in
the terminal reaches the parent alone, who ends its children in the right order.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str]) -> None:
    """Never returns; raises `SystemExit` where the parent is gone already, `OSError` without prctl."""
    parent, command = int(arguments[0]), list(arguments[1:])
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    os.setpgid(0, 0)
    if os.getppid() != parent:  # it died before we asked to be told
        raise SystemExit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
