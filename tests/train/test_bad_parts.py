"""A part that can't be used stops a run with its file's name before time is spent, and leaves nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from edge.camera.sample import Sample
from edge.errors import DatasetError, TrainingError
from tests.small_run import TINY, NoBars
from train.config import TrainConfig
from train.datasets import DataSet, open_dataset
from train.features import Backbone
from train.training import train_run
from train.views import FeatureCache


@pytest.fixture
def lot(tmp_path: Path, simulated: Path) -> DataSet:
    """Six good parts to train on and three held out, in files of their own."""
    shutil.copytree(simulated / "train", tmp_path / "lot")
    return open_dataset(tmp_path / "lot", "captures", None, 0.34)


def no_depth(sample: Sample) -> Path:
    depth = cv2.imread(str(sample.depth_path), cv2.IMREAD_UNCHANGED)
    assert depth is not None
    cv2.imwrite(str(sample.depth_path), np.zeros_like(depth))
    return sample.depth_path


def cut_off(share: float) -> Callable[[Sample], Path]:
    def cut(sample: Sample) -> Path:
        data = sample.rgb_path.read_bytes()
        sample.rgb_path.write_bytes(data[: round(share * len(data))])
        return sample.rgb_path

    return cut


def flipped(sample: Sample) -> Path:
    data = bytearray(sample.depth_path.read_bytes())
    data[len(data) // 2] ^= 0x40
    sample.depth_path.write_bytes(data)
    return sample.depth_path


def gone(sample: Sample) -> Path:
    sample.rgb_path.unlink()
    return sample.rgb_path


def smaller(sample: Sample) -> Path:
    rgb = cv2.imread(str(sample.rgb_path))
    assert rgb is not None
    cv2.imwrite(str(sample.rgb_path), rgb[:-8])
    return sample.rgb_path


DAMAGES = {
    "no depth": no_depth,
    "cut off early": cut_off(0.1),
    "cut off late": cut_off(0.95),
    "one bit": flipped,
    "gone": gone,
    "smaller": smaller,
}


def train(data: DataSet, out: Path, config: TrainConfig = TINY, **rest: Any) -> None:
    rest = {"progress": NoBars(), **rest}
    train_run(data, config, out, cache=FeatureCache(None), note={}, **rest)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("role", ["train", "held out"])
def test_a_damaged_part_is_named(
    tmp_path: Path, lot: DataSet, damage: Callable[[Sample], Path], role: str
) -> None:
    victim = damage(lot.train[2] if role == "train" else lot.validation[1])
    seen: list[str] = []

    class Steps(NoBars):
        def task(self, name: str, total: int) -> Any:
            seen.append(name)
            return super().task(name, total)

    with pytest.raises(DatasetError) as caught:
        train(lot, tmp_path / "run", progress=Steps())
    assert str(victim) in str(caught.value)
    assert "teacher" not in seen
    assert not (tmp_path / "run").exists()


def test_a_part_outside_the_view_is_named(tmp_path: Path, training_data: DataSet) -> None:
    values = TINY.model_dump()
    values["preprocessing"]["framing"] |= {"mode": "roi", "roi_px": (0, 0, 24, 24)}
    values["preprocessing"]["foreground"]["dilation_px"] = 0
    with pytest.raises(
        DatasetError, match=r"\.depth\.png: the part that .* lies outside the view; set framing"
    ):
        train(training_data, tmp_path / "run", TrainConfig.model_validate(values))
    assert not (tmp_path / "run").exists()


def test_features_that_are_not_finite_are_named(
    tmp_path: Path, training_data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = Backbone.forward, []

    def broken(backbone: Backbone, image: Tensor) -> Tensor:
        features = forward(backbone, image)
        if image.shape[1] == 96:  # a picture, and not the probe of the backbone's channels
            calls.append(1)
        if len(calls) == 3:  # the second part: each has a picture and a normals image
            features[0, 0, 0, 0] = torch.nan
        return features

    monkeypatch.setattr(Backbone, "forward", broken)
    with pytest.raises(TrainingError, match="its features are not finite") as caught:
        train(training_data, tmp_path / "run")
    assert str(training_data.train[1].rgb_path) in str(caught.value)
    assert not (tmp_path / "run").exists()
