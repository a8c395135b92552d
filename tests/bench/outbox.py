"""`python -m tests.bench.outbox [FOLDER]`: what keeping a verdict costs, on the disk of that folder."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from edge.clock import utc_now
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_records import TriggerInHand
from edge.testing import sample_verdict

__all__ = ["outbox_times_ms"]

_BARE_BYTES = 24 * 1024  # about what a commit writes
_BARE_FILE_BYTES = 30 * _BARE_BYTES
_BATCH = 16


def outbox_times_ms(folder: Path, parts: int) -> dict[str, list[float]]:
    """Milliseconds of each step for so many parts; they take turns, so that the disk treats them alike."""
    times: dict[str, list[float]] = {
        "write and sync 24 KB": [],
        "begin": [],
        "finish": [],
        "acknowledge 16": [],
    }

    def timed(name: str, act: Callable[[], object]) -> None:
        start_ns = time.perf_counter_ns()
        act()
        times[name].append((time.perf_counter_ns() - start_ns) / 1e6)

    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        bare = os.open(Path(temporary) / "bare", os.O_CREAT | os.O_RDWR)
        os.pwrite(bare, bytes(_BARE_FILE_BYTES), 0)
        os.fsync(bare)
        with Outbox(Path(temporary) / "outbox", OutboxConfig()) as outbox:
            for seq in range(parts):
                trigger = TriggerInHand(str(uuid.uuid4()), "command", utc_now(), None, 7)
                verdict = sample_verdict(seq, regions=2)
                at = seq * _BARE_BYTES % _BARE_FILE_BYTES

                timed("write and sync 24 KB", partial(_write_and_sync, bare, at))
                timed("begin", partial(outbox.begin, trigger))
                timed("finish", partial(outbox.finish, trigger.trigger_id, verdict))
                if seq % _BATCH == _BATCH - 1:
                    waiting = outbox.unacknowledged(_BATCH)
                    timed("acknowledge 16", partial(outbox.acknowledge, waiting))
        os.close(bare)
    return times


def _write_and_sync(file: int, at: int) -> None:
    os.pwrite(file, os.urandom(_BARE_BYTES), at)
    os.fdatasync(file)


def main(
    folder: Annotated[Path, typer.Argument(help="on the disk to measure")] = Path(),
    parts: Annotated[int, typer.Option(min=100)] = 500,
) -> None:
    """Print medians and 99th percentiles, in milliseconds."""
    table = Table("", "p50 ms", "p99 ms")
    for name, times in outbox_times_ms(folder, parts).items():
        table.add_row(name, *(f"{np.percentile(times, percent):.2f}" for percent in (50, 99)))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
