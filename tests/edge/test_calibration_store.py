"""The rig's own calibrations: each version whole or not there, under kills, on a full disk, and damaged."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from edge.calibration_file import calibration_text
from edge.calibration_store import CalibrationStore
from edge.errors import CalibrationDamaged, CalibrationNotKept, VersionUnknown
from tests.edge.calibration_worker import MODEL, die_at_sync, version, work
from tests.edge.small_disk import fill, mounted

KILLS = 6
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.edge.calibration_worker"])


def file_of(state: Path, number: int) -> Path:
    return state / "calibrations" / MODEL / f"{number:06d}.yaml"


def test_the_highest_version_is_in_force_and_the_others_are_kept(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    assert (store.in_force(MODEL), store.versions(MODEL)) == (None, ())
    for number in (3, 4, 10):
        stored = store.add(version(number))
        assert stored.calibration == version(number)
        assert store.in_force(MODEL) == stored
    assert store.versions(MODEL) == (3, 4, 10)
    assert store.read(MODEL, 3).calibration == version(3)
    assert file_of(tmp_path, 3).read_text() == calibration_text(version(3))
    assert store.in_force("6" * 64) is None
    with pytest.raises(VersionUnknown, match="no version 5 for this model; it has 3, 4, 10"):
        store.read(MODEL, 5)


def test_a_version_is_never_written_again(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    store.add(version(1))
    with pytest.raises(CalibrationNotKept, match="version 1 is kept already for this model"):
        store.add(version(1).model_copy(update={"threshold": 9.0}))
    assert store.read(MODEL, 1).calibration == version(1)


def test_without_a_state_folder_there_is_none_and_none_is_kept() -> None:
    store = CalibrationStore(None)
    assert store.in_force(MODEL) is None
    with pytest.raises(CalibrationNotKept, match=r"daemon\.state_dir"):
        store.add(version(1))


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (
            calibration_text(version(2)).replace("threshold: 2.0", "threshold: 9.0"),
            "edited by hand or damaged",
        ),
        (calibration_text(version(2))[:-9], "edited by hand or damaged"),
        ("", "edited by hand or damaged"),
        (calibration_text(version(3)), "says that it is version 3"),
        (calibration_text(version(2, model="6" * 64)), "was found for model 666666666666…"),
    ],
)
def test_a_damaged_one_is_refused_and_says_how_to_mend_it(tmp_path: Path, damaged: str, words: str) -> None:
    store = CalibrationStore(tmp_path)
    store.add(version(1))
    store.add(version(2))
    file_of(tmp_path, 2).write_text(damaged)
    with pytest.raises(CalibrationDamaged, match=words) as caught:
        store.in_force(MODEL)
    assert str(file_of(tmp_path, 2)) in str(caught.value)
    assert "move it out of its folder: version 1 is in force then" in str(caught.value)
    assert store.read(MODEL, 1).calibration == version(1)
    file_of(tmp_path, 2).unlink()
    file_of(tmp_path, 1).write_text(damaged)
    with pytest.raises(CalibrationDamaged, match="the calibration of recipe or bundle is in force then"):
        store.in_force(MODEL)


def test_on_a_full_disk_the_one_before_stays_in_force(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", size_mb=1) as disk:
        store = CalibrationStore(disk)
        store.add(version(1))
        fill(disk)
        with pytest.raises(CalibrationNotKept, match="No space left on device"):
            store.add(version(2))
        found = store.in_force(MODEL)
        assert found is not None
        assert found.calibration == version(1)
        assert [path.name for path in file_of(disk, 1).parent.iterdir()] == ["000001.yaml"]
        (disk / "hog").unlink()
        store.add(version(2))
        assert store.versions(MODEL) == (1, 2)


def names(state: Path) -> list[str]:
    return sorted(path.name for path in file_of(state, 1).parent.iterdir())


@pytest.mark.parametrize(("sync", "in_force"), [(1, 1), (2, 2)])
def test_a_kill_before_the_file_or_its_name_is_on_disk(tmp_path: Path, sync: int, in_force: int) -> None:
    store = CalibrationStore(tmp_path)
    store.add(version(1))
    worker = FORKS.Process(target=die_at_sync, args=(tmp_path, 2, sync))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    found = store.in_force(MODEL)
    assert found is not None
    assert found.calibration == version(in_force)
    assert any(name.endswith(".tmp") for name in names(tmp_path)) is (sync == 1)
    store.add(version(3))
    assert names(tmp_path) == [
        f"{number:06d}.yaml" for number in (1, 2, 3) if number <= in_force or number == 3
    ]


def test_a_kill_at_any_moment_leaves_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    chosen, store = random.Random(5), CalibrationStore(tmp_path)
    for _ in range(KILLS):
        heard, told = FORKS.Pipe(duplex=False)
        worker = FORKS.Process(target=work, args=(tmp_path, told))
        worker.start()
        told.close()
        said = [heard.recv()]
        time.sleep(chosen.uniform(0, 0.05))
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        assert worker.exitcode == -signal.SIGKILL
        while True:
            try:
                said.append(heard.recv())
            except (EOFError, ConnectionError):
                break
        heard.close()
        kept = store.versions(MODEL)
        # What was said is there; of the next one the file may be there before it could be said.
        assert max(kept, default=0) - said[-1] in (0, 1)
        assert list(kept) == list(range(1, len(kept) + 1))
        if kept:
            found = store.in_force(MODEL)
            assert found is not None
            assert found.calibration == version(kept[-1])
    last = store.versions(MODEL)[-20:]
    assert all(store.read(MODEL, number).calibration == version(number) for number in last)
