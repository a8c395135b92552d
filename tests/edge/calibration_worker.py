"""What a rig does with its calibrations, in a process of its own that is killed in the midst of it."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from pathlib import Path

from edge.calibration import Calibration
from edge.calibration_store import CalibrationStore

MODEL = "5" * 64


def version(number: int, *, model: str = MODEL) -> Calibration:
    """One whose threshold is its number."""
    return Calibration(
        calibration_id=f"version-{number}",
        version=number,
        model_sha256=model,
        threshold=float(number),
        false_reject_rate=0.02,
        good_parts=200,
        good_scores=tuple(number * part / 200 for part in range(200)),
        created_utc=datetime(2030, 1, 1, tzinfo=timezone.utc),
    )


def work(state: Path, told: Connection) -> None:
    """Add one version after the other until killed; say which are kept, once they are."""
    store = CalibrationStore(state)
    stored = store.in_force(MODEL)
    begin = 1 if stored is None else stored.calibration.version + 1
    told.send(begin - 1)
    for number in itertools.count(begin):
        store.add(version(number))
        told.send(number)


def die_at_sync(state: Path, number: int, sync: int) -> None:
    """Add a version, and be killed where bytes are brought to disk for the `sync`-th time."""
    left = itertools.count(sync - 1, -1)
    really: Callable[[int], None] = os.fsync

    def fsync(handle: int) -> None:
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        really(handle)

    os.fsync = fsync  # type: ignore[assignment]  # this process ends with it
    CalibrationStore(state).add(version(number))
