"""`python -m tests.endurance.chaos`, `make chaos`: what a plant can do to a line, and what is counted then.

A daemon under a supervisor, on a small disk of its own; a cable between it and a real mosquitto; a PLC that
triggers beside the broker; and, as a process of its own, a subscriber that counts. What happens, and after
which part, follows from the seed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.broker import LocalBroker
from edge.disk import sync_folder
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_ledger import Ledger
from edge.outbox_repeats import Waiting
from edge.testing import CuttableProxy, Heard, Listener
from tests.edge.small_disk import fill, image_of_ext4, mounted
from tests.endurance.cell import TOPICS, write_rig
from tests.endurance.counted import Counted, lines_of, mistakes_of
from tests.endurance.door import Plc
from tests.endurance.supervisor import Supervisor

__all__ = ["WHOLE", "Plan", "chaos"]

_EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "mosquitto" / "mosquitto.conf"
_OF_KEEPING = ("persistence", "persistent_client", "autosave", "max_queued", "max_packet_size")
_TWICE = "twice"
_KILLS = ("as it is heard", "power", "disk hangs", "moment", _TWICE)
_PER_S = 60.0
_UNANSWERED_MAX = 4
_ANSWER_S = 1.0
_WHILE_BUSY = 40
_DISK_MB = 128
_WATCHDOG_S = 15.0
_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much happens; everything else follows from `seed`. Of the kills some are a loss of power."""

    verdicts: int = 5000
    kills: int = 30
    broker_kills: int = 10
    cuts: int = 20
    full_disks: int = 1
    seed: int = 7

    def schedule(self) -> list[str]:
        """What happens, in its order; between two there are equally many parts."""
        doubles = self.kills // (len(_KILLS) + 1)
        events = [f"kill: {how}" for how in islice(cycle(_KILLS), self.kills - doubles)]
        events += ["broker"] * self.broker_kills
        events += [f"cable: {('cut', 'half open')[number % 2]}" for number in range(self.cuts)]
        events += ["disk"] * self.full_disks
        random.Random(self.seed).shuffle(events)
        return events


WHOLE = Plan()


@dataclass
class _Plant:
    """What stands in the plant, and the names of what can befall it."""

    folder: Path
    state: Path
    disk: Path | None
    chosen: random.Random
    daemon: Supervisor
    broker: LocalBroker
    conf: list[str]
    cable: CuttableProxy
    plc: Plc
    say: Callable[[str], None]
    mounts: ExitStack
    accepted: dict[str, str] = field(default_factory=dict)
    kept: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    armed: bool = False
    sent: int = 0
    open: dict[str, float] = field(default_factory=dict)
    images: int = 0
    subscriber: subprocess.Popen[bytes] | None = None
    on_full_disk: tuple[int, int] = (0, 0)

    @property
    def heard(self) -> Path:
        """What the subscriber writes."""
        return self.folder / "heard"

    def make(self, parts: int) -> None:
        """Let so many more be accepted, at the line's pace."""
        wanted = len(self.accepted) + parts
        until_s = time.monotonic() + _PATIENCE_S
        while len(self.accepted) < wanted:
            if time.monotonic() > until_s:
                raise TimeoutError(f"{wanted - len(self.accepted)} triggers not taken\n{self.daemon.tail()}")
            self.one()

    def one(self) -> None:
        """Fire once, if not too many wait for their answers, and hear what there is."""
        now_s = time.monotonic()
        self.open = {part: s for part, s in self.open.items() if now_s - s < _ANSWER_S}
        if len(self.open) < _UNANSWERED_MAX:
            part = f"p{self.sent}"
            self.sent += 1
            if self.plc.fire(part):
                self.open[part] = now_s
        pause_s = 1 / _PER_S
        while (answered := self.plc.hear(max(0.001, now_s + pause_s - time.monotonic()))) is not None:
            self.open.pop(answered.part, None)
            if answered.result_id is not None:
                self.accepted[answered.part] = answered.result_id
            if time.monotonic() > now_s + pause_s:
                return

    def happen(self, event: str) -> None:
        kind, _, how = event.partition(": ")
        {"kill": self._kill, "broker": self._broker, "cable": self._cable, "disk": self._disk}[kind](how)

    def look(self) -> None:
        """Take down what the ledger holds: a full disk takes what the broker has."""
        with Ledger(self.state / "outbox") as ledger:
            self.kept |= {v.result_id: (v.position, v.epoch, v.seq) for v in ledger.after(0, sys.maxsize)}

    def _kill(self, how: str) -> None:
        self.daemon.wait_until_ready()
        ends = len(self.daemon.ends)
        if how == "as it is heard":
            self.armed = True
            until_s = time.monotonic() + 5.0
            while len(self.daemon.ends) == ends and time.monotonic() < until_s:
                self.one()
            self.armed = False
        if len(self.daemon.ends) > ends:
            return
        for _ in range(self.chosen.randrange(4)):
            self.one()
        time.sleep(self.chosen.uniform(0, 0.05))
        self.daemon.kill(before_next=self._lose_power if how == "power" and self.disk else None)
        if how == _TWICE:
            time.sleep(self.chosen.uniform(0, 2))
            self.daemon.kill()

    def on_verdict(self, _heard: Heard) -> None:
        pid = self.daemon.pid
        if self.armed and pid is not None:
            self.armed = False
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _kill_while_disk_hangs(self) -> None:
        """Whatever is said of a part before its verdict is on the disk is heard now, and no more true."""
        self.make(_UNANSWERED_MAX)
        subprocess.run(["fsfreeze", "--freeze", str(self.state)], check=True)
        try:
            time.sleep(self.chosen.uniform(0.3, 0.6))
            if (pid := self.daemon.pid) is not None:
                os.kill(pid, signal.SIGKILL)
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", str(self.state)], check=True)

    def _lose_power(self) -> None:
        """What was not synced is lost: the disk goes on from what its image holds at this moment."""
        self.images += 1
        image = self.folder / f"disk-{self.images}.img"
        subprocess.run(["cp", "--sparse=always", str(self.disk), str(image)], check=True)
        self.mounts.close()
        if self.disk is not None:
            self.disk.unlink()
        self.disk = image
        self.mounts.enter_context(mounted(self.state, image=image))

    def _broker(self, _how: str) -> None:
        """It dies with verdicts that it has acknowledged, not saved, and not passed on: the MES was busy."""
        self._signal_subscriber(signal.SIGSTOP)
        for _ in range(_WHILE_BUSY):
            self.one()
        self.broker.kill()
        self._signal_subscriber(signal.SIGCONT)
        for _ in range(self.chosen.randrange(60)):
            self.one()
        self.broker = LocalBroker("mosquitto", port=self.broker.port, extra=self.conf)
        self.broker.start()

    def _signal_subscriber(self, number: signal.Signals) -> None:
        if self.subscriber is not None:
            self.subscriber.send_signal(number)

    def _cable(self, how: str) -> None:
        if how == "cut":
            self.cable.cut()
            return
        self.cable.swallow()
        for _ in range(self.chosen.randrange(10, 200)):  # up to three seconds: some are noticed meanwhile
            self.one()
        self.cable.mend()

    def _disk(self, _how: str) -> None:
        if self.disk is None:
            return
        self.daemon.wait_until_ready()
        first = len(lines_of(self.heard))
        self.look()
        for _ in range(2):  # the ballast makes room, and then verdicts that the broker has
            fill(self.state)
            self.make(20)
        self.daemon.kill()  # and it starts on a full disk
        self.daemon.wait_until_ready()
        self.make(20)
        (self.state / "hog").unlink()
        sync_folder(self.state)  # or a loss of power would bring it back
        self.make(60)
        self.on_full_disk = (first, len(lines_of(self.heard)))


def chaos(folder: Path, plan: Plan, say: Callable[[str], None] = lambda text: None) -> Counted:
    """Let all of it happen; `folder` is empty, and has the daemon's log and the subscriber's file then."""
    events = plan.schedule()
    pieces = [plan.verdicts * (n + 1) // (len(events) + 1) for n in range(len(events) + 1)]
    began_s = time.monotonic()
    with _plant(folder, random.Random(plan.seed), say) as plant, _subscriber(plant):
        plant.daemon.wait_until_ready()
        with Listener("127.0.0.1", plant.broker.port, topics=TOPICS.verdict, keep=False,
                      on_message=plant.on_verdict):  # fmt: skip
            for event, until in zip([*events, ""], pieces, strict=True):
                plant.make(max(0, until - len(plant.accepted)))
                if event:
                    say(f"{time.monotonic() - began_s:5.1f} s, {len(plant.accepted)} accepted: {event}")
                    plant.happen(event)
        plant.daemon.wait_until_ready()
        plant.look()
        _wait_for(lambda: plant.kept.keys() <= {line.result_id for line in lines_of(plant.heard)})
        exit_code, _ = plant.daemon.stop()
        plant.look()
        with Outbox(plant.state / "outbox", OutboxConfig(keep_free_mb=0)) as outbox:
            left = len(outbox.in_hand()) + len(outbox.unacknowledged(1_000_000, which=Waiting.NEW))
    return Counted(
        accepted=plant.accepted,
        kept=plant.kept,
        heard=tuple(lines_of(plant.heard)),
        on_full_disk=plant.on_full_disk,
        left=left,
        exit_code=exit_code,
        happened=Counter(events),
        with_disk=plant.disk is not None,
        starts=plant.daemon.starts,
        seconds=time.monotonic() - began_s,
    )


@contextlib.contextmanager
def _plant(folder: Path, chosen: random.Random, say: Callable[[str], None]) -> Iterator[_Plant]:
    state, kept = folder / "state", folder / "broker"
    kept.mkdir()
    conf = _keeping(kept)
    with ExitStack() as stack:
        mounts = stack.enter_context(ExitStack())
        disk = None
        state.mkdir()
        if os.geteuid() == 0:
            disk = image_of_ext4(folder / "disk-0.img", _DISK_MB)
            mounts.enter_context(mounted(state, image=disk))
        broker = LocalBroker("mosquitto", extra=conf)
        broker.start()
        cable = stack.enter_context(CuttableProxy(broker.port))
        outbox = {"keep_free_mb": 4, "pictures_max_mb": 8}
        rig = write_rig(
            folder, cable.port, state_dir=state, outbox=outbox, broker={"port": cable.port, "keepalive_s": 4}
        )
        door = folder / "door"
        command = [sys.executable, "-m", "tests.endurance.rig_process", str(rig), str(folder), str(door)]
        plc = stack.enter_context(Plc(door, folder / "plc"))
        daemon = stack.enter_context(Supervisor(command, folder / "log", watchdog_s=_WATCHDOG_S))
        plant = _Plant(folder, state, disk, chosen, daemon, broker, conf, cable, plc, say, mounts)
        try:
            yield plant
        finally:
            daemon.kill(again=False)
            plant.broker.stop()


def _keeping(folder: Path) -> list[str]:
    """The lines of the example of a plant's broker by which it keeps what it has."""
    lines = _EXAMPLE.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.startswith(_OF_KEEPING)]
    return [f"persistence_location {folder}/" if "location" in line else line for line in kept]


@contextlib.contextmanager
def _subscriber(plant: _Plant) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.endurance.subscriber", str(plant.broker.port), TOPICS.verdict]
    with (plant.folder / "subscriber.log").open("wb") as log:
        process = subprocess.Popen([*command, str(plant.heard)], stdout=log, stderr=log)
    plant.subscriber = process
    try:
        _wait_for(plant.heard.exists)
        time.sleep(1.0)
        os.kill(plant.broker.pid, signal.SIGUSR1)  # mosquitto saves: its session is there from now on
        yield
    finally:
        process.kill()
        process.wait()


def _wait_for(true: Callable[[], bool]) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while not true():
        if time.monotonic() > until_s:
            return  # what is missing is counted
        time.sleep(0.2)


def main(
    verdicts: Annotated[int, typer.Option(min=10)] = WHOLE.verdicts,
    seed: Annotated[int, typer.Option(help="what happens, and when")] = WHOLE.seed,
    share: Annotated[float, typer.Option(help="of the kills and cuts, for a shorter one")] = 1.0,
) -> None:
    """Let it happen, and end with 1 where a verdict is missing, twice or out of order."""
    console = Console(stderr=True, soft_wrap=True)
    plan = replace(
        WHOLE,
        verdicts=verdicts,
        seed=seed,
        kills=round(WHOLE.kills * share),
        broker_kills=round(WHOLE.broker_kills * share),
        cuts=round(WHOLE.cuts * share),
    )
    with tempfile.TemporaryDirectory() as folder:
        counted = chaos(Path(folder), plan, lambda text: console.print(text, markup=False, highlight=False))
    console.print(str(counted), markup=False, highlight=False)
    mistakes = mistakes_of(counted)
    for mistake in mistakes:
        console.print(mistake, style="red", markup=False)
    raise typer.Exit(bool(mistakes))


if __name__ == "__main__":
    typer.run(main)
