"""A label makes a capture of the frame that was judged; another one moves it; nothing is lost or twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.captures import list_captures, read_note
from edge.capturing.folder import TORN, UNDONE
from edge.disk import lock_file
from edge.labelling.filing import Filed, LabelledParts
from edge.labelling.store import RecentStore
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_ledger import Ledger
from tests.edge.labelling.parts import frame_of, keep, said, store_in, verdict_of
from tests.edge.small_disk import fill, mounted
from train.datasets import DatasetOptions, open_dataset

WORKER = "tests.edge.labelling.labelling_worker"
ROOT = Path(__file__).parents[3]


class Rig:
    """A store, an outbox with twenty failed parts, and where captures go."""

    def __init__(self, folder: Path, outbox: Outbox, *, keep_free_bytes: int = 0) -> None:
        self.outbox = outbox
        self.captures = folder / "captures"
        self.recent = folder / "recent"
        self.keep_free_bytes = keep_free_bytes
        self.store = self.parts = None  # type: ignore[assignment]
        self.start()

    store: RecentStore
    parts: LabelledParts

    def start(self) -> None:
        """As at a start of the daemon."""
        self.store = store_in(self.recent)
        self.parts = LabelledParts(
            self.store, self.captures, self.outbox._folder, keep_free_bytes=self.keep_free_bytes
        )
        self.parts.recover()

    @property
    def lot(self) -> Path:
        return self.captures / "plate" / "2030-01-31-labelled"

    def label(self, seq: int, label: str, by: str = "anna", note: str | None = None) -> Filed:
        return self.parts.file(*said(self.outbox, seq, label, by, note))

    def there(self) -> dict[str, str]:
        """Each capture of the day, by its result."""
        found = {}
        for sample in list_captures(self.lot):
            note = read_note(sample)
            assert note is not None
            assert note.result_id not in found
            found[str(note.result_id)] = sample.part_id
        return found


def with_verdicts(folder: Path) -> Outbox:
    outbox = Outbox(folder, OutboxConfig(keep_free_mb=0))
    for seq in range(20):
        outbox.commit(verdict_of(seq))
    return outbox


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with with_verdicts(tmp_path / "outbox") as outbox:
        yield Rig(tmp_path, outbox)


class TestALabel:
    def test_makes_a_capture_of_the_frame_that_was_judged(self, rig: Rig) -> None:
        for seq in range(3):
            keep(rig.store, seq)
        filed = rig.label(1, "scratch", note="left edge")
        assert filed == Filed(rig.lot / "scratch" / "000.rgb.png")
        [sample] = list_captures(rig.lot)
        frame, note = sample.frame(), read_note(sample)
        np.testing.assert_array_equal(frame.rgb, frame_of(1).rgb)
        np.testing.assert_array_equal(frame.depth_m, frame_of(1).depth_m)
        assert note is not None
        assert (note.result_id, note.part_serial, note.outcome, note.score) == (
            "result-1",
            "P-1",
            "fail",
            1.5,
        )
        [given] = note.labels
        assert (given.label, given.labelled_by, given.note) == ("scratch", "anna", "left edge")
        assert rig.store.ids() == ("result-0", "result-2")
        assert rig.label(0, "good").file == rig.lot / "good" / "000.rgb.png"
        assert rig.label(2, "scratch").file == rig.lot / "scratch" / "001.rgb.png"

    def test_is_read_by_training(self, rig: Rig) -> None:
        for seq in range(8):
            keep(rig.store, seq)
            rig.label(seq, "dent" if seq < 2 else "good")
        data = open_dataset(rig.captures / "plate", "captures", None, 0.34, DatasetOptions())
        assert {sample.defect for sample in data.test} == {None, "dent"}
        assert (len(data.train), len(data.validation), len(data.test)) == (4, 2, 8)

    def test_of_a_frame_that_is_gone_makes_none(self, rig: Rig) -> None:
        for seq in range(9):
            keep(rig.store, seq)
        assert rig.label(0, "scratch") == Filed(reason="frame_gone")
        assert not rig.captures.exists()
        with Ledger(rig.outbox._folder) as ledger:
            assert [label.label for label in ledger.labels_of("result-0")] == ["scratch"]

    def test_another_camera_gets_a_lot_of_its_own(self, rig: Rig) -> None:
        keep(rig.store, 0, serial="1")
        keep(rig.store, 1, serial="2")
        keep(rig.store, 2, serial="1")
        lots = [str(rig.label(seq, "good").file).split("/")[-3] for seq in range(3)]
        assert lots == ["2030-01-31-labelled", "2030-01-31-labelled-2", "2030-01-31-labelled"]
        assert rig.label(1, "dent").file == rig.lot.with_name("2030-01-31-labelled-2") / "dent/000.rgb.png"


class TestAnotherLabel:
    def test_of_the_same_person_moves_it_and_back(self, rig: Rig) -> None:
        for seq in range(2):
            keep(rig.store, seq)
            rig.label(seq, "good")
        assert rig.label(0, "scratch").file == rig.lot / "scratch" / "000.rgb.png"
        assert rig.there() == {"result-0": "scratch/000", "result-1": "good/001"}
        note = read_note(list_captures(rig.lot)[1])
        assert note is not None
        assert [given.label for given in note.labels] == ["scratch"]
        assert set(note.sha256) == {"rgb", "depth"}
        assert rig.label(0, "good").file == rig.lot / "good" / "002.rgb.png"
        assert rig.there() == {"result-0": "good/002", "result-1": "good/001"}
        np.testing.assert_array_equal(list_captures(rig.lot)[1].frame().depth_m, frame_of(0).depth_m)
        assert not (rig.lot / TORN).exists()
        assert not list((rig.lot / "scratch").iterdir())

    def test_of_another_person_a_part_is_bad_where_anybody_names_a_defect(self, rig: Rig) -> None:
        keep(rig.store, 0)
        where = [
            str(rig.label(0, label, by).file).split("/")[-2]
            for by, label in [
                ("anna", "good"),
                ("ben", "scratch"),
                ("anna", "good"),
                ("anna", "dent"),
                ("anna", "good"),
                ("ben", "good"),
            ]
        ]
        assert where == ["good", "scratch", "scratch", "dent", "scratch", "good"]
        [sample] = list_captures(rig.lot)
        note = read_note(sample)
        assert note is not None
        assert [(one.labelled_by, one.label) for one in note.labels] == [("anna", "good"), ("ben", "good")]

    def test_a_mask_goes_along_to_another_defect_and_aside_for_a_good_part(self, rig: Rig) -> None:
        keep(rig.store, 0)
        rig.label(0, "scratch")
        mask = np.full(frame_of(0).depth_m.shape, 255, np.uint8)
        cv2.imwrite(str(rig.lot / "scratch" / "000.mask.png"), mask)
        rig.label(0, "dent")
        [sample] = list_captures(rig.lot)
        assert (sample.part_id, bool(sample.mask().all())) == ("dent/000", True)
        rig.label(0, "good")
        assert rig.there() == {"result-0": "good/000"}
        [aside] = (rig.lot / UNDONE).rglob("*.png")
        assert aside.name == "000.mask.png"

    def test_what_a_person_took_away_is_gone(self, rig: Rig) -> None:
        keep(rig.store, 0)
        rig.label(0, "scratch")
        for path in (rig.lot / "scratch").iterdir():
            path.unlink()
        assert rig.label(0, "good").reason == "frame_gone"


class TestWhereItCanNotBeFiled:
    def test_while_somebody_collects_there_the_frame_stays_for_the_next_start(self, rig: Rig) -> None:
        for seq in range(2):
            keep(rig.store, seq)
        rig.label(0, "good")
        holder = lock_file(rig.lot / ".capture.lock")
        try:
            filed = rig.label(1, "dent")
            assert (filed.file, filed.reason) == (None, "capture_error")
            assert "another edge-capture writes into it" in str(filed.detail)
        finally:
            os.close(holder)
        assert rig.store.ids() == ("result-1",)
        rig.start()
        assert rig.there() == {"result-0": "good/000", "result-1": "dent/000"}

    def test_where_little_is_free(self, tmp_path: Path) -> None:
        with with_verdicts(tmp_path / "outbox") as outbox:
            rig = Rig(tmp_path, outbox)
            keep(rig.store, 0)
            rig.parts = LabelledParts(rig.store, rig.captures, outbox._folder, keep_free_bytes=1 << 60)
            assert rig.label(0, "dent").reason == "disk_full"
            rig.start()
            assert rig.there() == {"result-0": "dent/000"}

    def test_on_a_full_disk_the_label_stands_and_nothing_of_the_capture(self, tmp_path: Path) -> None:
        with with_verdicts(tmp_path / "outbox") as outbox, mounted(tmp_path / "disk", size_mb=2) as disk:
            rig = Rig(disk, outbox)
            for seq in range(2):
                keep(rig.store, seq)
            rig.label(0, "good")
            fill(disk)
            for seq in range(2):  # one to be moved, one to be made
                assert (filed := rig.label(seq, "dent")).file is None, seq
                assert filed.reason == "disk_full"
            assert rig.there() == {"result-0": "good/000"}
            (disk / "hog").unlink()
            assert rig.label(0, "dent").file == rig.lot / "dent" / "000.rgb.png"
            rig.start()
            assert rig.there() == {"result-0": "dent/000", "result-1": "dent/001"}


class TestCrashes:
    def test_a_move_that_was_cut_off_is_under_one_label_and_tidied(self, rig: Rig) -> None:
        for seq in range(2):
            keep(rig.store, seq)
            rig.label(seq, "good")
        # As it is between two of its steps: first before the rgb goes over, then after it.
        (rig.lot / "dent").mkdir()
        for kind in ("depth.png", "note.json"):
            data = (rig.lot / "good" / f"000.{kind}").read_bytes()
            (rig.lot / "dent" / f"000.{kind}").write_bytes(data)
            (rig.lot / "dent" / f"001.{kind}").write_bytes((rig.lot / "good" / f"001.{kind}").read_bytes())
        (rig.lot / "good" / "001.rgb.png").rename(rig.lot / "dent" / "001.rgb.png")
        (rig.recent / "filing").write_text(str(rig.lot))
        rig.start()
        assert rig.there() == {"result-0": "good/000", "result-1": "dent/001"}
        assert not (rig.recent / "filing").exists()

    def test_a_label_that_a_crash_came_before_is_filed_at_the_start(self, rig: Rig) -> None:
        for seq in range(3):
            keep(rig.store, seq)
            rig.label(seq, "good")
        keep(rig.store, 3)
        for seq, label in ((0, "dent"), (3, "scratch"), (0, "scratch")):
            said(rig.outbox, seq, label)
        rig.start()
        assert rig.there() == {
            "result-0": "scratch/001",
            "result-1": "good/001",
            "result-2": "good/002",
            "result-3": "scratch/000",
        }
        assert rig.store.ids() == ()

    def test_one_that_was_made_and_not_yet_let_go_is_there_once(self, rig: Rig) -> None:
        keep(rig.store, 0)
        rig.label(0, "good")
        keep(rig.store, 0)
        (rig.recent / "filed").write_text("0")
        rig.start()
        assert (rig.there(), rig.store.ids()) == ({"result-0": "good/000"}, ())

    def test_killed_at_any_moment_captures_are_whole_and_each_part_has_its_label(
        self, tmp_path: Path
    ) -> None:
        rng = random.Random(7)
        for life in range(6):
            command = [sys.executable, "-m", WORKER, str(tmp_path), str(1000 * life)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as worker:
                assert worker.stdout is not None
                filed = (line for line in worker.stdout if line.startswith("filed /"))
                for _ in range(rng.randint(1, 6)):
                    next(filed)
                time.sleep(rng.uniform(0.0, 0.1))
                worker.send_signal(signal.SIGKILL)
            with Outbox(tmp_path / "outbox", OutboxConfig(keep_free_mb=0)) as outbox:
                rig = Rig(tmp_path, outbox)
                assert not (rig.recent / "filing").exists()
                with Ledger(outbox._folder) as ledger:
                    for result_id, part_id in rig.there().items():
                        assert part_id.split("/")[0] == ledger.labels_of(result_id)[0].label
                for sample in list_captures(rig.lot):
                    seq = int(str(read_note(sample).result_id).rpartition("-")[2])  # type: ignore[union-attr]
                    np.testing.assert_array_equal(sample.frame().depth_m, frame_of(seq).depth_m)
                    np.testing.assert_array_equal(sample.frame().rgb, frame_of(seq).rgb)
                assert rig.store.open() == 0
        assert len(rig.there()) >= 6
