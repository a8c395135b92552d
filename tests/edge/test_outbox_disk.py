"""The outbox on a disk that is full, and on one whose power fails."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from edge.errors import OutboxFull
from edge.messages import PictureInfo, PictureKind, Verdict
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_ledger import Ledger
from edge.testing import sample_verdict
from tests.edge.outbox_worker import write
from tests.edge.small_disk import fill, image_of_ext4, mounted

MIB = 1 << 20
SETTINGS = OutboxConfig(keep_free_mb=0, pictures_max_mb=16)

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.edge.outbox_worker"])


@pytest.fixture(params=["ext4", "tmpfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    image = image_of_ext4(tmp_path / "disk.img", 128) if request.param == "ext4" else None
    with mounted(tmp_path / "disk", image=image, size_mb=128) as at:
        yield at


def large(seq: int) -> Verdict:
    return sample_verdict(seq, regions=1).model_copy(update={"detail": "x" * 60_000})


def picture(outbox: Outbox, verdict: Verdict, size_bytes: int) -> bool:
    data = bytes(size_bytes)
    info = PictureInfo(
        kind=PictureKind.HEATMAP,
        result_id=verdict.result_id,
        epoch=verdict.epoch,
        seq=verdict.seq,
        encoding="image/jpeg",
        width_px=8,
        height_px=8,
        low=None,
        high=None,
        colour_map=None,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return outbox.add_picture(info, data)


def test_a_full_disk_takes_pictures_then_ballast_and_ledger_and_nothing_that_waits(
    disk: Path,
) -> None:
    folder = disk / "outbox"
    now_ns = [0]
    with Outbox(folder, SETTINGS, clock_ns=lambda: now_ns[0]) as outbox, Ledger(folder) as ledger:
        assert outbox.status.ballast_bytes == 32 * MIB
        kept: list[str] = []
        for seq in range(160):
            verdict = large(seq)
            kept.append(outbox.commit(verdict).result_id)
            if seq < 20:
                assert picture(outbox, verdict, MIB // 2)
        old = kept[:120]
        outbox.acknowledge(outbox.unacknowledged(120))
        waiting = kept[120:]

        gone: list[set[str]] = []  # what had to go, in this order
        for number in itertools.count(1):
            fill(disk)
            verdict = large(len(kept))
            try:
                outbox.commit(verdict)
            except OutboxFull:
                break
            kept.append(verdict.result_id)
            waiting.append(verdict.result_id)
            if number % 20 == 0:
                now_ns[0] += 2 * 10**9
                outbox.maintain()
            there = {
                "pictures": any((folder / "pictures").iterdir()),
                "ballast": (folder / "ballast").exists(),
                "oldest": ledger.find(old[0]),
                "newest": ledger.find(old[-1]),
            }
            new = {name for name, it in there.items() if not it}.difference(*gone)
            gone += [new] if new else []
        assert gone == [{"pictures"}, {"ballast", "oldest"}, {"newest"}]

        # All that wait are there, in their order, and not the one that was refused.
        found = [each.verdict.result_id for each in outbox.unacknowledged(10_000)]
        assert found == waiting
        assert not set(found) & set(old)
        now_ns[0] += 2 * 10**9
        outbox.maintain()
        assert any("free some space" in alarm for alarm in outbox.status.alarms)

        (disk / "hog").unlink()
        outbox.commit(verdict)  # there is room again, and it goes on
        now_ns[0] += 2 * 10**9
        outbox.maintain()
        assert outbox.status.ballast_bytes == 32 * MIB
        assert outbox.status.alarms == ()
        waiting.append(verdict.result_id)
    with Outbox(folder, SETTINGS) as again:
        assert [each.verdict.result_id for each in again.unacknowledged(10_000)] == waiting


def test_a_disk_full_of_what_waits_gets_out_of_it_by_acknowledgements(disk: Path) -> None:
    with Outbox(disk / "outbox", SETTINGS) as outbox:
        long = sample_verdict(0).model_copy(update={"detail": "x" * 500_000})
        kept = 0
        while True:
            verdict = long.model_copy(update={"seq": kept, "result_id": str(kept)})
            try:
                outbox.commit(verdict)
            except OutboxFull:
                break
            kept += 1
        assert kept > 150
        acknowledged = 0
        while waiting := outbox.unacknowledged(20):
            acknowledged += outbox.acknowledge(waiting)
        assert acknowledged == kept
        outbox.commit(verdict)
        assert [each.verdict.seq for each in outbox.unacknowledged(9)] == [kept]


def test_a_full_disk_at_the_start(disk: Path) -> None:
    folder = disk / "outbox"
    with Outbox(folder, SETTINGS) as outbox:
        outbox.commit(large(0))
    fill(disk)
    with Outbox(folder, SETTINGS) as outbox:
        outbox.commit(large(1))
        assert len(outbox.unacknowledged(9)) == 2


def test_pictures_leave_room_on_the_disk(disk: Path) -> None:
    config = OutboxConfig(keep_free_mb=60, pictures_max_mb=1000)
    now_ns = [0]
    with Outbox(disk / "outbox", config, clock_ns=lambda: now_ns[0]) as outbox:
        verdicts = [sample_verdict(seq) for seq in range(60)]
        for verdict in verdicts:
            outbox.commit(verdict)
            picture(outbox, verdict, MIB)
            assert shutil.disk_usage(disk).free >= 59 * MIB  # and what the verdicts take beside
        assert 10 < outbox._pictures.count < 60
        with (disk / "other").open("wb") as other:
            other.write(bytes(20 * MIB))
        for _ in range(3):
            now_ns[0] += 2 * 10**9
            outbox.maintain()
        assert shutil.disk_usage(disk).free >= 59 * MIB
        assert outbox.status.pictures_evicted >= 20


def said_before_the_stop(pid: int, heard: Connection) -> list[str]:
    os.kill(pid, signal.SIGSTOP)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)
    said = []
    while heard.poll(0):
        said.append(heard.recv())
    return said


@pytest.mark.slow
@pytest.mark.parametrize("durable", [True, False])
def test_a_loss_of_power(tmp_path: Path, durable: bool) -> None:
    """What the image holds while its file system runs is what a disk holds when the power fails.

    Not synced, verdicts are lost: the test can tell.
    """
    chosen = random.Random(4)
    lost = 0
    for run in range(3):
        image = image_of_ext4(tmp_path / f"{run}.img", 48)
        after = tmp_path / f"{run}-after.img"
        with mounted(tmp_path / "before", image=image) as disk:
            heard, told = FORKS.Pipe(duplex=False)
            worker = FORKS.Process(target=write, args=(disk / "outbox", told, durable))
            worker.start()
            told.close()
            assert worker.pid is not None
            try:
                said = [heard.recv() for _ in range(chosen.randrange(5, 50))]
                time.sleep(chosen.uniform(0, 0.05))
                said += said_before_the_stop(worker.pid, heard)
                subprocess.run(["cp", "--sparse=always", str(image), str(after)], check=True)
            finally:
                os.kill(worker.pid, signal.SIGKILL)
                worker.join()
                heard.close()
        with (
            mounted(tmp_path / "after", image=after) as disk,
            Outbox(disk / "outbox", SETTINGS) as outbox,
        ):
            assert outbox.status.set_aside == ()
            kept = [each.verdict.result_id for each in outbox.unacknowledged(1_000_000)]
            assert kept[: len(said)] == said[: len(kept)]
        lost += len(set(said) - set(kept))
    assert (lost == 0) is durable
