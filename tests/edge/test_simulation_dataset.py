"""Simulated parts on disk come back as they were rendered."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.captures import list_captures
from edge.errors import CaptureError
from edge.simulation import RigScene
from edge.simulation.dataset import write_dataset, write_lot


def test_a_data_set_has_good_parts_to_train_and_a_mixture_to_test(tmp_path: Path) -> None:
    lots = write_dataset(tmp_path, "plate", train_seed=1, test_seed=2, train_parts=3, test_parts=6)
    assert lots.train_counts == {"good": 3}
    assert sum(lots.test_counts.values()) == 6
    assert len(lots.test_counts) > 1
    train, test = list_captures(lots.train), list_captures(lots.test)
    assert [sample.defect for sample in train] == [None] * 3
    assert all((sample.mask_path is None) == (sample.defect is None) for sample in test)


def test_images_come_back_bit_for_bit(tmp_path: Path) -> None:
    scene = RigScene("ring", 3, defective_share=1.0)
    counts = write_lot(scene, tmp_path / "lot", 2)
    shots = [shot for shot in (scene.shot(0), scene.shot(1)) if shot is not None]
    assert counts == {shot.defect: sum(s.defect == shot.defect for s in shots) for shot in shots}
    number: dict[str, int] = {}
    for shot in shots:
        label = str(shot.defect)
        index = number[label] = number.get(label, -1) + 1
        stem = tmp_path / "lot" / label / f"{index:03d}"
        rgb = cv2.imread(f"{stem}.rgb.png")[..., ::-1]
        depth = cv2.imread(f"{stem}.depth.png", cv2.IMREAD_UNCHANGED)
        mask = cv2.imread(f"{stem}.mask.png", cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(rgb, shot.rgb)
        np.testing.assert_array_equal(depth.astype(np.float32) * np.float32(1e-4), shot.depth_m)
        np.testing.assert_array_equal(mask > 0, shot.truth_mask)


def test_an_empty_tray_is_not_a_good_part(tmp_path: Path) -> None:
    scene = RigScene("blob", 1, empty_share=0.5, defective_share=0.0)
    counts = write_lot(scene, tmp_path / "lot", 8)
    assert 0 < counts["good"] < 8
    assert len(list_captures(tmp_path / "lot")) == counts["good"]


def test_nothing_is_written_into_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(CaptureError, match="new folder"):
        write_lot(RigScene("blob", 1), tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_scene_that_ends_too_soon_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="after 1 of 3"):
        write_lot(RigScene("blob", 1, parts=1), tmp_path / "lot", 3)


def test_training_and_testing_on_one_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="different seeds"):
        write_dataset(tmp_path, "blob", train_seed=1, test_seed=1, train_parts=1, test_parts=1)
    assert not any(tmp_path.iterdir())
