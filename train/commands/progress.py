"""Progress bars on stderr, so that stdout stays for results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from train.good_parts import Task

__all__ = ["Bars"]


class Bars:
    """`train.training.Progress` by rich."""

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        bars = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        with bars:
            number = bars.add_task(name, total=total)
            yield lambda steps: bars.advance(number, steps)
