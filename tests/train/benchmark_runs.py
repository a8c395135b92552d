"""What the tests of edge-benchmark share: jobs of a second, and the command as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from click.testing import Result
from typer.testing import CliRunner

from tests.small_run import TINY
from train.benchmark.job import Job, Workshop
from train.benchmark.pool import Outcome, outcome_of
from train.commands.benchmark import app

__all__ = ["Command", "Here", "kill_group", "tiny_yaml"]


def tiny_yaml(folder: Path, **changes: Any) -> Path:
    """The tiny configuration as `--config`."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY.model_dump(mode="json") | changes), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Here:
    """A pool without processes."""

    workshop: Workshop

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        for job in jobs:
            yield outcome_of(job, self.workshop)


_PROGRAM = (sys.executable, "-c", "from train.commands.benchmark import main; main()")


class Command:
    """`edge-benchmark` with its workers in a process group of its own."""

    def __init__(self, out: Path, *arguments: str) -> None:
        self.out = out
        self._words = [
            "--out",
            str(out),
            "--threads",
            "1",
            "--no-cache",
            *arguments,
        ]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*_PROGRAM, *self._words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        )

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        """To its end, in a process of its own."""
        return subprocess.run([*_PROGRAM, *self._words, *more], capture_output=True, text=True, check=False)

    def call(self, *more: str) -> Result:
        """To its end in this process, which saves a start of torch; its workers have their own."""
        return CliRunner().invoke(app, [*self._words, *more])

    def results(self) -> dict[str, tuple[int, int]]:
        """Key → inode and time of its file: neither stays where it is written again."""
        return {
            path.stem: (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in (self.out / "results").glob("*.json")
        }

    def started(self) -> list[dict[str, Any]]:
        """What was started, in order."""
        path = self.out / "started.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for(self, process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
        """Until `ready`, which must come before the process ends."""
        while not ready():
            if process.poll() is not None:
                raise AssertionError(f"ended with {process.returncode}: {process.communicate()[1]}")
            time.sleep(0.02)


def kill_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """A signal to the command and all its workers."""
    os.killpg(process.pid, number)
