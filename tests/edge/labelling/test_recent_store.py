"""The frames of the last parts on disk: bit for bit, whole or not there, within the limits."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.captures import CaptureInfo, IntrinsicsInfo
from edge.errors import CaptureError
from edge.inspection import Outcome
from tests.edge.labelling.parts import frame_of, info_for, keep, note_for, store_in, verdict_of
from tests.edge.small_disk import fill, mounted

PASS, REVIEW, FAIL = Outcome.PASS, Outcome.REVIEW, Outcome.FAIL


def numbers(results: tuple[str, ...] | list[str]) -> list[int]:
    return sorted(int(result.rpartition("-")[2]) for result in results)


def test_what_comes_back_is_the_frame_bit_for_bit(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    keep(store, 1)
    for opened in (store, store_in(tmp_path)):
        frame, info, note = opened.read("result-1")
        np.testing.assert_array_equal(frame.rgb, frame_of(1).rgb)
        np.testing.assert_array_equal(frame.depth_m, frame_of(1).depth_m)
        assert info == info_for(frame_of(1))
        assert (note.result_id, note.part_serial, note.outcome, note.score) == ("result-1", "P-1", FAIL, 1.5)
        assert (note.recipe, note.model_sha256) == ("plate", "0" * 64)


class TestWhatGoes:
    def test_passed_ones_before_rejected_ones_and_the_oldest_first(self, tmp_path: Path) -> None:
        store = store_in(tmp_path, parts_max=6)
        for seq, outcome in enumerate([PASS, FAIL, PASS, REVIEW, PASS, PASS]):
            assert keep(store, seq, outcome) == []
        gone = [keep(store, seq, FAIL) for seq in range(6, 12)]
        # A quarter of six is one: the last passed part stays, until then no rejected one goes.
        assert [numbers(one) for one in gone] == [[0], [2], [4], [1], [3], [6]]
        assert numbers(store.ids()) == [5, 7, 8, 9, 10, 11]

    def test_rejected_ones_that_nobody_labels_leave_a_quarter_to_passed_ones(self, tmp_path: Path) -> None:
        store = store_in(tmp_path, parts_max=8)
        for seq in range(8):
            keep(store, seq, FAIL)
        gone = [numbers(keep(store, seq, PASS)) for seq in range(8, 13)]
        assert gone == [[0], [1], [8], [9], [10]]

    def test_where_there_is_room_for_one_it_is_the_rejected_one(self, tmp_path: Path) -> None:
        store = store_in(tmp_path, parts_max=1)
        keep(store, 0, PASS)
        assert keep(store, 1, FAIL) == ["result-0"]
        assert keep(store, 2, PASS) == ["result-2"]
        assert keep(store, 3, FAIL) == ["result-1"]
        assert store.ids() == ("result-3",)

    def test_by_size(self, tmp_path: Path) -> None:
        store = store_in(tmp_path)
        keep(store, 0)
        one = store.size_bytes
        assert one == sum(path.stat().st_size for path in tmp_path.rglob("*.*"))
        store = store_in(tmp_path, max_bytes=round(3.5 * one), parts_max=100)
        for seq in range(1, 6):
            keep(store, seq)
        assert numbers(store.ids()) == [3, 4, 5]
        assert store.size_bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.*"))
        small = store_in(tmp_path / "small", max_bytes=one // 2)
        with pytest.raises(CaptureError, match="recent_max_mb"):
            keep(small, 0)

    def test_with_lower_limits_than_before_the_oldest_go_at_once(self, tmp_path: Path) -> None:
        store = store_in(tmp_path)
        for seq in range(6):
            keep(store, seq)
        fewer = store_in(tmp_path, parts_max=2)
        assert numbers(fewer.make_room()) == [0, 1, 2, 3]
        assert store_in(tmp_path, parts_max=0).make_room() == ["result-4", "result-5"]
        assert list(tmp_path.iterdir()) == []

    @settings(max_examples=40, deadline=None)
    @given(outcomes=st.lists(st.sampled_from([PASS, FAIL, REVIEW]), max_size=14), parts_max=st.integers(1, 6))
    def test_there_are_the_newest_of_each_kind_and_never_more(
        self, tmp_path_factory: pytest.TempPathFactory, outcomes: list[Outcome], parts_max: int
    ) -> None:
        folder = tmp_path_factory.mktemp("recent")
        store = store_in(folder, parts_max=parts_max)
        for seq, outcome in enumerate(outcomes):
            keep(store, seq, outcome)
        there = numbers(store.ids())
        assert len(there) == min(parts_max, len(outcomes)) == len(list(folder.iterdir()))
        for passed in (True, False):
            of_kind = [seq for seq, outcome in enumerate(outcomes) if (outcome is PASS) == passed]
            kept = [seq for seq in there if seq in of_kind]
            assert kept == of_kind[len(of_kind) - len(kept) :]
        rejected = sum(outcome is not PASS for outcome in outcomes)
        kept_rejected = sum(outcomes[seq] is not PASS for seq in there)
        assert kept_rejected >= min(rejected, parts_max - (parts_max + 1) // 4)
        shutil.rmtree(folder)


class TestAfterACrash:
    def test_what_is_not_whole_is_gone_and_what_is_not_ours_stays(self, tmp_path: Path) -> None:
        store = store_in(tmp_path)
        for seq in range(5):
            keep(store, seq)
        names = sorted(path.name for path in tmp_path.iterdir())
        (tmp_path / names[0] / "part.json").unlink()
        (tmp_path / names[1] / "depth.png").write_bytes(b"")
        (tmp_path / names[2] / "part.json").write_bytes(b'{"info": ')
        (tmp_path / names[3]).rename(tmp_path / f".{names[3]}")
        (tmp_path / "holiday").mkdir()
        (tmp_path / "read me.txt").write_text("mine")
        again = store_in(tmp_path)
        assert again.ids() == ("result-4",)
        assert sorted(path.name for path in tmp_path.iterdir()) == [names[4], "holiday", "read me.txt"]
        assert again.open() == 0

    def test_bytes_that_changed_are_found_when_they_are_needed(self, tmp_path: Path) -> None:
        store = store_in(tmp_path)
        keep(store, 0)
        [depth] = tmp_path.rglob("depth.png")
        data = bytearray(depth.read_bytes())
        data[200] ^= 1
        depth.write_bytes(data)
        with pytest.raises(CaptureError, match="not what was written"):
            store_in(tmp_path).read("result-0")


class TestWhatCanNotBeKept:
    def test_depth_off_the_grid_of_its_unit(self, tmp_path: Path) -> None:
        store = store_in(tmp_path)
        frame = replace(frame_of(0), depth_unit_m=0.9999)
        info = CaptureInfo(depth_unit_m=0.9999, intrinsics=IntrinsicsInfo.of(frame.intrinsics))
        with pytest.raises(CaptureError, match="off the grid"):
            store.keep((7, 0), frame, info, note_for(verdict_of(0)))
        assert list(tmp_path.iterdir()) == []

    def test_while_little_is_free_the_kept_ones_give_way_and_no_more_come(self, tmp_path: Path) -> None:
        with mounted(tmp_path / "disk", size_mb=4) as disk:
            store = store_in(disk / "recent", keep_free_bytes=2 << 20)
            keep(store, 0, PASS)
            keep(store, 1, FAIL)
            fill(disk)
            with pytest.raises(OSError, match="keep_free_mb wants 2 left"):
                keep(store, 2)
            assert list((disk / "recent").iterdir()) == []
            (disk / "hog").unlink()
            assert keep(store, 3) == []
            assert store_in(disk / "recent").ids() == ("result-3",)

    def test_on_a_disk_that_fills_meanwhile_nothing_half_written_stays(self, tmp_path: Path) -> None:
        with mounted(tmp_path / "disk", size_mb=1) as disk:
            # It believes that there is room, as it does where another program is quicker.
            store = store_in(disk / "recent", keep_free_bytes=-(1 << 30))
            fill(disk)
            with pytest.raises(OSError, match="No space"):
                keep(store, 0)
            assert (list((disk / "recent").iterdir()), store.ids()) == ([], ())
            (disk / "hog").unlink()
            assert keep(store, 0) == []
