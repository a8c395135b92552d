"""One fault after the other, on the whole daemon: one trigger, one verdict, and it goes on inspecting."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge.broker import LocalBroker, find_mosquitto
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_ledger import Ledger
from edge.outbox_records import StoredVerdict
from edge.outbox_repeats import Waiting
from tests.edge.small_disk import fill, mounted
from tests.endurance.cell import EXPOSURE_US, write_rig
from tests.endurance.line import Line
from tests.endurance.rig_process import CAMERA, MODEL
from tests.endurance.small_camera import Switch
from tests.endurance.supervisor import Supervisor
from tests.tiny_bundle import make_tiny_bundle

KILLS = 50
PER_S = 20.0
WATCHDOG_S = 10.0
DISK_MB = 64
JUDGED = {"pass", "fail"}
BUSY = {"error overrun", "no_decision stale_frame"}
"""What a machine that others keep busy may say now and then."""
WALL_CLOCK = Path(__file__).with_name("wall_clock.c")
DAY_S = 86_400

needs_mosquitto = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)


@dataclass
class Cell:
    """The daemon under its supervisor, the line that triggers it, and what can be broken of it."""

    folder: Path
    state: Path
    rig: Path
    line: Line
    daemon: Supervisor
    camera: Switch
    model: Switch
    clock: Path
    kept: dict[int, StoredVerdict] = field(default_factory=dict)
    """By their positions, all that the ledger ever had: a full disk takes what the broker has."""

    def now(self) -> int:
        """The number of the next trigger."""
        return self.line.sent

    def inspects(self, since: int | None = None) -> None:
        """It judges a part that was triggered from now on."""
        self.line.wait_for_outcome("pass", self.now() if since is None else since, 3)

    def look(self) -> None:
        """Take down what the ledger holds."""
        with Ledger(self.state / "outbox") as ledger:
            self.kept |= {each.position: each for each in ledger.after(0, sys.maxsize)}


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    with ExitStack() as stack:
        state = tmp_path / "state"
        if os.geteuid() == 0:
            stack.enter_context(mounted(state, size_mb=DISK_MB))
        else:
            state.mkdir()
        broker = stack.enter_context(LocalBroker("mosquitto"))
        line = stack.enter_context(Line(broker))
        rig = write_rig(
            tmp_path, broker.port, state_dir=state, outbox={"keep_free_mb": 4, "pictures_max_mb": 8}
        )
        command = [sys.executable, "-m", "tests.endurance.rig_process", str(rig), str(tmp_path)]
        daemon = stack.enter_context(Supervisor(command, tmp_path / "log", watchdog_s=WATCHDOG_S))
        clock = tmp_path / "clock"
        clock.write_text("0", encoding="ascii")
        yield Cell(
            tmp_path,
            state,
            rig,
            line,
            daemon,
            Switch(tmp_path / CAMERA),
            Switch(tmp_path / MODEL),
            clock,
        )


def camera_stalls_for_10_s(cell: Cell) -> None:
    since = cell.now()
    cell.camera.set("stalled")
    time.sleep(10)
    fired = cell.now() - since
    cell.camera.set("")
    cell.inspects()
    said = cell.line.outcomes_since(since)
    assert said["error no_frame"] >= fired / 2, (said, fired)  # the last two seconds' had time left
    assert ("Error", "camera_stalled") in cell.line.states


def camera_disappears_and_returns_with_other_options(cell: Cell) -> None:
    since = cell.now()
    cell.camera.set("unplugged")
    cell.line.wait_for_outcome("error no_frame", since)
    assert cell.line.machine["state"] == "Error"
    assert cell.line.machine["reason"] in ("camera_lost", "camera_not_found")
    cell.camera.set("elsewhere")
    cell.inspects()
    cell.camera.set("")
    options = cell.line.health["camera"]["details"]
    assert float(options["exposure"]) == EXPOSURE_US  # not the factory's
    assert options["enable_auto_exposure"] == "0"


def camera_delivers_garbage(cell: Cell) -> None:
    cell.camera.set("noise")
    time.sleep(0.5)
    first = cell.now()
    cell.line.wait_for(lambda: cell.line.outcomes_since(first).total() >= 10, "words on noise")
    said = cell.line.outcomes_since(first)
    assert not said["pass"], said
    cell.camera.set("torn")
    cell.line.wait_for_outcome("error no_frame", cell.now(), 5)
    cell.camera.set("")
    cell.inspects()


def camera_jumps_in_time(cell: Cell) -> None:
    # Forward it is seen that its clock has jumped; back, its frames might as well be a day old.
    for word, counter in (("jumped", "time_jumps"), ("", "stale_frames")):
        before = cell.line.health["camera"][counter]
        cell.camera.set(word)
        cell.line.wait_for(lambda c=counter, n=before: cell.line.health["camera"][c] > n, counter)
        cell.inspects()  # by a clock that goes on from where it is now


def model_raises(cell: Cell) -> None:
    since = cell.now()
    cell.model.set("raises")
    cell.line.wait_for_outcome("error runner_failed", since, 10)
    cell.model.set("")
    cell.inspects()


def model_returns_nan(cell: Cell) -> None:
    since = cell.now()
    cell.model.set("nan")
    cell.line.wait_for_outcome("error not_finite", since, 10)
    cell.model.set("")
    cell.inspects()


def model_hangs(cell: Cell, how: str) -> None:
    """Until the watchdog ends the process; the next one finds a model that works."""
    ends = len(cell.daemon.ends)
    cell.model.set(how)
    cell.daemon.wait_for_end(ends + 1)
    code, barked = cell.daemon.ends[-1]
    assert barked, (code, cell.daemon.tail())
    cell.model.set("")
    cell.daemon.wait_until_ready()
    cell.inspects()


def clock_jumps_a_day(cell: Cell) -> None:
    since = cell.now()
    for shift_s in (DAY_S, -DAY_S, 0):
        cell.clock.write_text(str(shift_s), encoding="ascii")
        cell.inspects()
        cell.line.wait_for(lambda before=cell.line.health: cell.line.health is not before, "health")
        cell.inspects()
    assert set(cell.line.outcomes_since(since)) <= JUDGED | BUSY
    days = {said["creation_time"][:10] for said in cell.line.heard.values()}
    assert len(days) >= 3  # it did jump


def recipe_is_replaced_by_a_broken_one(cell: Cell) -> None:
    since = cell.now()
    for name, broken in (("other", "wrong_shape"), ("main", "unknown_tensor")):
        folder = cell.folder / f"bundle-{name}"
        good = folder.rename(cell.folder / f"good-{name}")
        make_tiny_bundle(folder, broken=broken)  # type: ignore[arg-type]  # two of its words
        answer = cell.line.order("recipe", f"broken-{name}", recipe=name)
        assert (answer["status"], answer["recipe"]) == ("refused", "main"), answer
        cell.inspects()
        shutil.rmtree(folder)
        good.rename(folder)
    assert cell.line.order("recipe", "mended", recipe="other")["status"] == "done"
    assert cell.line.order("recipe", "back", recipe="main")["status"] == "done"
    assert set(cell.line.outcomes_since(since)) <= JUDGED | BUSY


def disk_fills(cell: Cell) -> None:
    line = cell.line
    cell.look()
    fill(cell.state)
    cell.inspects()  # the ballast makes room
    fill(cell.state)
    cell.inspects()  # and where that is taken too, verdicts that the broker has
    (cell.state / "hog").unlink()
    cell.inspects()
    line.wait_for(lambda: line.health["outbox"]["alarms"] == [], "ballast that is back")
    line.halt()  # so that nothing is written that would make room
    fill(cell.state)
    cell.daemon.kill()
    cell.daemon.wait_until_ready()
    line.run(PER_S)
    cell.inspects()
    (cell.state / "hog").unlink()
    cell.inspects()


def killed_at_random_moments(cell: Cell) -> None:
    chosen = random.Random(50)
    ready = 0
    for _ in range(KILLS):
        if chosen.random() < 0.7:
            cell.daemon.wait_until_ready()
            ready += 1
            cell.line.wait_for_outcome("pass", cell.now(), chosen.randrange(1, 4))
            time.sleep(chosen.uniform(0, 0.05))
        else:
            time.sleep(chosen.uniform(0, 2))
        cell.daemon.kill()
    cell.daemon.wait_until_ready()
    cell.inspects()
    assert ready > KILLS / 3


def clock_that_can_be_set(cell: Cell) -> bool:
    """From the next start on, the wall clock is off by what the file says; whether that can be had."""
    compiler = shutil.which("cc")
    if compiler is None and "CI" not in os.environ:
        return False
    library = cell.folder / "wall_clock.so"
    subprocess.run([compiler or "cc", "-shared", "-fPIC", "-o", library, WALL_CLOCK], check=True)
    cell.daemon.environment |= {"LD_PRELOAD": str(library), "WALL_CLOCK_SHIFT": str(cell.clock)}
    return True


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.timeout(1800)  # three minutes, on two cores that have nothing else to do
def test_every_trigger_has_one_verdict_whatever_happens(cell: Cell) -> None:
    line, daemon = cell.line, cell.daemon
    daemon.wait_until_ready()
    line.run(PER_S)
    cell.inspects()

    for fault in (
        camera_stalls_for_10_s,
        camera_disappears_and_returns_with_other_options,
        camera_delivers_garbage,
        camera_jumps_in_time,
        model_raises,
        model_returns_nan,
        recipe_is_replaced_by_a_broken_one,
    ):
        fault(cell)
    assert daemon.ends == []  # none of these ends it
    model_hangs(cell, "freezes")
    clock = clock_that_can_be_set(cell)
    model_hangs(cell, "hangs")
    if clock:
        clock_jumps_a_day(cell)
        del cell.daemon.environment["LD_PRELOAD"]
    if os.geteuid() == 0:
        disk_fills(cell)  # as root alone can mount one
    killed_at_random_moments(cell)

    line.halt()
    cell.inspects(since=line.fire_some(10))
    cell.look()
    stored = {each.result_id for each in cell.kept.values()}
    line.wait_for(lambda: stored <= line.heard.keys(), "verdict that is kept")
    code, _ = daemon.stop()
    assert code == 0, daemon.tail()

    cell.look()
    of_part = Counter(json.loads(each.payload)["part_id"] for each in cell.kept.values())
    ids = {each.result_id for each in cell.kept.values()}
    assert {part for part, count in of_part.items() if count > 1} == set()  # none has two
    assert set(line.accepted.values()) - ids == set()  # each that was promised one has it
    assert line.heard.keys() == ids  # and all are at the broker
    with Outbox(cell.state / "outbox", OutboxConfig(keep_free_mb=0)) as opened:
        assert opened.in_hand() == ()
        assert opened.unacknowledged(1, which=Waiting.NEW) == []  # the broker has each, if it loses none
        assert opened.status.set_aside == ()
    assert line.outcomes_since(0)["error interrupted"] > 0  # some were in hand when it ended
    assert len(line.accepted) > 500
    if not clock or os.geteuid() != 0:
        pytest.skip("all held; but to set the clock needs a C compiler, and to fill a disk root")
