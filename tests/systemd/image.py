"""A small Debian that the real unit boots in: made once, kept in the user's cache, only ever read afterwards.

::

    python -m tests.systemd.image

Where it can't be made (no root, no debootstrap, no mirror) this says why and goes on, and the tests that boot
are skipped; with CI set it fails.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from rich.logging import RichHandler

__all__ = ["IMAGE", "main", "must_boot", "reason_against"]

_log = logging.getLogger("systemd-image")

_SUITE = "bookworm"  # its systemd, 252, also boots where the host still has the first version of cgroups
_PACKAGES = (
    # What boots, what a Python from elsewhere links to, and the broker that the password is for.
    *("systemd", "systemd-sysv", "dbus", "udev"),
    *("libssl3", "libsqlite3-0", "libffi8", "libexpat1", "libreadline8", "libgomp1"),
    *("mosquitto", "mosquitto-clients"),
)
_MIRROR = "http://deb.debian.org/debian"

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
IMAGE = _CACHE / "edge-inspect" / f"systemd-{_SUITE}-1"
"""Raise the number when the packages change."""


def reason_against() -> str | None:
    """Why no Debian can be made and booted here, or None where it can."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return "systemd boots on Linux with glibc"
    if os.geteuid() != 0:
        return "systemd-nspawn needs root"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [
        command for command in ("systemd-nspawn", "debootstrap") if shutil.which(command, path=path) is None
    ]
    if missing:
        return f"no {', '.join(missing)}; on Debian and Ubuntu: apt-get install systemd-container debootstrap"
    return None


def must_boot() -> bool:
    """CI skips nothing of this."""
    return bool(os.environ.get("CI"))


def main() -> int:
    """Make the image if it is not there; 1 where it can't be made and has to be."""
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_time=False, show_path=False)]
    )
    reason = reason_against()
    if reason is None and not IMAGE.is_dir():
        reason = _make()
    if reason is None:
        return 0
    _log.warning("%s; the tests that boot systemd will %s", reason, "fail" if must_boot() else "be skipped")
    return int(must_boot())


def _make() -> str | None:
    """Why it could not be made, or None."""
    partial = IMAGE.with_name(f"{IMAGE.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    _log.info("making a Debian of 230 MB in %s; it takes one to four minutes, once", IMAGE)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
    done = subprocess.run(
        [*command, _SUITE, str(partial), _MIRROR],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env=dict(os.environ, PATH=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", LC_ALL="C.UTF-8"),
    )
    if done.returncode != 0:
        return f"debootstrap ended with {done.returncode}:\n{done.stdout[-1500:]}"
    shutil.rmtree(partial / "var/cache/apt/archives", ignore_errors=True)
    partial.rename(IMAGE)
    return None


if __name__ == "__main__":
    sys.exit(main())
