"""A booted machine: systemd-nspawn over the image and a layer of its own, which is gone when it is."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pytest
from typing_extensions import Self

from tests.systemd.image import IMAGE

__all__ = ["Machine"]

_REPOSITORY = Path(__file__).parents[2]
_PATIENCE_S = 180.0
"""How long the slowest thing may take on a busy machine; nothing is measured by it."""

_UP = {"initializing", "starting", "running", "degraded"}

# In a mount namespace of its own: whatever ends this process takes the layer's mount with it.
_ENTER = """
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
shift 2
exec "$@"
"""


class Machine:
    """`files` is seen as /mnt/files inside, the project as /mnt/project, and this Python as /opt/python."""

    def __init__(self, folder: Path, files: Path) -> None:
        self._folder = folder
        self._files = files
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._log = folder / "console.log"
        for name in ("upper", "work", "root"):
            (folder / name).mkdir(parents=True)

    def prepare(self, script: str) -> str:
        """What a shell script prints that runs as root in the machine before it boots."""
        done = subprocess.run(
            self._nspawn("/bin/bash", "-euc", script),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * _PATIENCE_S,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"preparing ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge.child", str(os.getpid()), *self._nspawn("--boot")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.wait("the machine's first process", self._find_leader)
        self.wait("systemd", lambda: self.run("systemctl", "is-system-running", check=False) in _UP)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()  # systemd-nspawn asks the machine to power off
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
            return
        process.kill()
        process.wait()

    def run(self, *command: str, check: bool = True, timeout_s: float = _PATIENCE_S) -> str:
        """What a command prints that runs as root in the booted machine."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._leader), "--all", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8"},
        )
        if check and done.returncode != 0:
            pytest.fail(f"{command} ended with {done.returncode}\n{done.stdout}\n{self.journal()[-6000:]}")
        return done.stdout.strip()

    def show(self, name: str, unit: str = "edge-daemon") -> str:
        """A property of a unit, as systemd has it."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit)

    def journal(self, unit: str = "edge-daemon") -> str:
        """All that the unit and systemd about it have said, with its levels in front of each line."""
        return self.run("journalctl", "--no-pager", "--unit", unit, "--output=cat", check=False)

    def wait(self, what: str, until: Callable[[], object]) -> None:
        """Until `until` gives something true."""
        last_s = time.monotonic() + _PATIENCE_S
        while not until():
            process = self._process
            if process is None or process.poll() is not None or time.monotonic() > last_s:
                journal = self.journal() if self._leader else ""
                console = self._log.read_text(errors="replace")
                pytest.fail(f"no {what} after {_PATIENCE_S:g} s\n{console[-3000:]}\n{journal[-6000:]}")
            time.sleep(0.1)

    def _find_leader(self) -> bool:
        """The host's number of the process that is 1 inside."""
        if self._process is None:
            return False
        for status in Path("/proc").glob("[0-9]*/status"):
            with suppress(OSError):
                fields = dict(
                    line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line
                )
                if int(fields["PPid"]) == self._process.pid and fields["NSpid"].split()[1:] == ["1"]:
                    self._leader = int(status.parent.name)
                    return True
        return False

    def _nspawn(self, *arguments: str) -> list[str]:
        # A venv's Python stands on another, and ProtectHome= hides that where it lies in a home directory.
        python = Path(os.path.realpath(sys.base_prefix))
        packages = sysconfig.get_path("purelib")
        inside = Path("/opt/python") / Path(sysconfig.get_path("stdlib")).relative_to(sys.base_prefix)
        return [
            *("/usr/bin/unshare", "--mount", "--propagation", "private"),
            *("/bin/sh", "-c", _ENTER, "sh", str(IMAGE), str(self._folder)),
            *("systemd-nspawn", "--quiet", f"--directory={self._folder / 'root'}"),
            # nspawn's own filter would hide whether the unit's lets the clock be asked.
            "--system-call-filter=adjtimex clock_adjtime",
            *("--private-network", f"--machine=edge-{os.getpid()}", "--register=no", "--keep-unit"),
            *("--link-journal=no", "--as-pid2" if "--boot" not in arguments else "--kill-signal=SIGRTMIN+3"),
            *(f"--bind-ro={python}:/opt/python", f"--bind-ro={packages}:{inside / 'site-packages'}"),
            *(f"--bind-ro={_REPOSITORY}:/mnt/project", f"--bind-ro={self._files}:/mnt/files"),
            *arguments,
        ]
