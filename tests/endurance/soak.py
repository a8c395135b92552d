"""`python -m tests.endurance.soak`, `make soak`: thousands of inspections, and whether anything grows.

A daemon as a process of its own, over the small camera, its real outbox and a real broker; each inspection
is asked for over MQTT, and its verdict heard there. Beside it /proc says what the process holds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.broker import LocalBroker
from edge.outbox_ledger import Ledger
from tests.endurance.cell import QUEUE, write_rig
from tests.endurance.growth import LONG, Bar, Growth, growth_of
from tests.endurance.line import Line

__all__ = ["Sample", "Soak", "mistakes_of", "soak"]

_EVERY = 100
_IN_FLIGHT = QUEUE - 2  # one more than can wait would be an overrun
_LOOKS, _APART_S = 5, 0.005
_KIB = 1024
_STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process held after so many inspections."""

    inspections: int
    seconds: float
    resident_kib: float
    threads: int
    descriptors: int


@dataclass(frozen=True, slots=True)
class Soak:
    """One soak: its samples, what the line was told, and what the outbox held in the end.

    `kept`: per verdict in the ledger (result id, request id, epoch, seq).
    """

    samples: tuple[Sample, ...]
    accepted: dict[str, str]
    refused: Counter[str]
    heard: dict[str, tuple[int, int]]
    outcomes: Counter[str]
    kept: tuple[tuple[str, str, int, int], ...]
    exit_code: int
    stop_s: float

    def after(self, warm_up: int) -> tuple[Sample, ...]:
        """The samples after so many inspections."""
        return tuple(s for s in self.samples if s.inspections > warm_up)

    def growth(self, warm_up: int) -> Growth:
        """Of resident memory, after so many inspections."""
        warm = self.after(warm_up)
        return growth_of([s.inspections for s in warm], [s.resident_kib for s in warm])


def soak(folder: Path, inspections: int, *, progress: Callable[[Sample], None] = lambda sample: None) -> Soak:
    """Let a daemon inspect so often; `folder` is empty, and holds its outbox and its log afterwards."""
    samples: list[Sample] = []
    with LocalBroker("mosquitto") as broker, Line(broker) as line, (folder / "log").open("wb") as log:
        rig = write_rig(folder, broker.port)
        began_s = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.endurance.rig_process", str(rig)], stdout=log, stderr=log
        )

        def take(count: int) -> None:
            samples.append(_sample(process.pid, count, time.monotonic() - began_s))
            progress(samples[-1])

        try:
            line.wait_for(lambda: line.machine.get("state") == "Ready", "rig that is ready")
            line.fire_many(inspections, in_flight=_IN_FLIGHT, every=_EVERY, on_verdicts=take)
            take(len(line.heard))
            stopping_s = time.monotonic()
            process.send_signal(signal.SIGTERM)
            exit_code = process.wait(_STOP_S)
            stop_s = time.monotonic() - stopping_s
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    return Soak(
        samples=tuple(samples),
        accepted=line.accepted,
        refused=line.refused,
        heard={result_id: (said["epoch"], said["seq"]) for result_id, said in line.heard.items()},
        outcomes=Counter(said["outcome"] for said in line.heard.values()),
        kept=_kept(folder / "state" / "outbox"),
        exit_code=exit_code,
        stop_s=stop_s,
    )


def _kept(outbox: Path) -> tuple[tuple[str, str, int, int], ...]:
    with Ledger(outbox) as ledger:
        return tuple(
            (kept.result_id, json.loads(kept.payload)["request_id"], kept.epoch, kept.seq)
            for kept in ledger.after(0, sys.maxsize)
        )


def _sample(pid: int, inspections: int, seconds: float) -> Sample:
    process = Path(f"/proc/{pid}")
    pages = int((process / "statm").read_text(encoding="ascii").split()[1])
    return Sample(
        inspections=inspections,
        seconds=seconds,
        resident_kib=pages * os.sysconf("SC_PAGE_SIZE") / _KIB,
        threads=len(list((process / "task").iterdir())),
        descriptors=_open_files(process),
    )


def _open_files(process: Path) -> int:
    """What stays open: a picture that is just being written is not there each time that one looks."""
    counts = []
    for _ in range(_LOOKS):
        counts.append(len(list((process / "fd").iterdir())))
        time.sleep(_APART_S)
    return min(counts)


def main(
    inspections: Annotated[int, typer.Option(min=LONG.warm_up + 5000)] = 20_000,
    out: Annotated[Path, typer.Option(help="the picture of it: .svg or .png")] = Path("docs/images/soak.svg"),
) -> None:
    """Inspect, draw what the process held meanwhile, and end with 1 where something grew or is missing."""
    from tests.endurance.soak_picture import draw

    console = Console(stderr=True)

    def progress(sample: Sample) -> None:
        if sample.inspections % 1000 < _EVERY:
            console.log(
                f"{sample.inspections} inspections, {sample.inspections / sample.seconds:.0f}/s, "
                f"{sample.resident_kib / _KIB:.1f} MiB"
            )

    with tempfile.TemporaryDirectory() as folder:
        done = soak(Path(folder), inspections, progress=progress)
    draw(done, LONG, out)
    console.print(
        f"{done.growth(LONG.warm_up)}; {dict(done.outcomes)}; stopped in {done.stop_s:.2f} s; {out}"
    )
    mistakes = mistakes_of(done, LONG)
    for mistake in mistakes:
        console.print(mistake, style="red", markup=False)
    raise typer.Exit(bool(mistakes))


def mistakes_of(done: Soak, bar: Bar) -> list[str]:
    """What speaks against a soak, in sentences; empty where all is well."""
    warm, growth = done.after(bar.warm_up), done.growth(bar.warm_up)
    asked = len(done.accepted)
    of_request = Counter(request for _, request, _, _ in done.kept)
    ids = {result for result, _, _, _ in done.kept}
    numbers = sorted((epoch, seq) for _, _, epoch, seq in done.kept)
    threads = {s.threads for s in warm}
    descriptors = {s.descriptors for s in warm}
    checks = {
        f"the daemon ended with {done.exit_code}": done.exit_code != 0,
        f"it refused triggers: {dict(done.refused)}": bool(done.refused),
        f"{len(done.kept)} verdicts in the outbox for {asked} triggers": len(done.kept) != asked,
        "a trigger has two verdicts": any(count > 1 for count in of_request.values()),
        "a trigger that was accepted has no verdict": of_request.keys() != done.accepted.keys(),
        "a verdict has another id than was promised": ids != set(done.accepted.values()),
        "what was published is not what is kept": set(done.heard) != ids,
        "the numbers of the verdicts have gaps": [seq for _, seq in numbers] != list(range(len(numbers))),
        f"the outcomes are {dict(done.outcomes)}": set(done.outcomes) != {"pass", "fail"},
        f"the number of threads changed: {sorted(threads)}": len(threads) != 1,
        f"the number of open files changed: {sorted(descriptors)}": len(descriptors) != 1,
        f"resident memory grows: {growth}": growth.beyond(bar),
    }
    return [mistake for mistake, is_so in checks.items() if is_so]


if __name__ == "__main__":
    typer.run(main)
