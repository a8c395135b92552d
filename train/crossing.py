"""Good parts that serve twice: each is scored by a model of a fold that it was not in, all train the model.

Barber, Candès, Ramdas, Tibshirani, "Predictive inference with the jackknife+", Annals of Statistics 49
(2021): CV+, section 3. What that promises of one model that was trained on all parts stands in
docs/training.md.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np

from edge.errors import DatasetError
from edge.frame import Frame
from train.config import TrainConfig
from train.datasets import DataSet, name_of
from train.loop.claim import digests_of

__all__ = ["FOLDS_FOLDER", "config_of_fold", "digest_of", "folds_of", "mirrored", "of_all_parts"]

FOLDS_FOLDER = "folds"
"""Below a run's folder, a run for each fold; they go when the run is complete."""


def of_all_parts(data: DataSet) -> DataSet:
    """All good parts, in the order of their names, both to train on and to calibrate on."""
    good = tuple(sorted((*data.train, *data.validation), key=name_of))
    return DataSet(data.name, good, good, data.test)


def folds_of(data: DataSet, count: int) -> tuple[DataSet, ...]:
    """`count` divisions of the good parts; each holds every `count`-th out, so that all see the whole day.

    Each part is held out once. Raises `DatasetError` where a fold would hold none out.
    """
    good = of_all_parts(data).train
    if len(good) < count:
        raise DatasetError(
            f"{data.name}: {len(good)} good parts can't be cross-calibrated in {count} folds; collect more, "
            f"or lower cross_folds"
        )
    return tuple(
        DataSet(
            data.name,
            tuple(part for place, part in enumerate(good) if place % count != fold),
            good[fold::count],
            (),
        )
        for fold in range(count)
    )


def config_of_fold(config: TrainConfig) -> TrainConfig:
    """A fold is trained like any run, once."""
    return config.model_copy(update={"cross_folds": None})


def digest_of(data: DataSet) -> str:
    """One digest of what the files of a fold's parts hold, in which of its two splits each is.

    Raises `DatasetError` where one can't be read.
    """
    splits = [digests_of(parts, lambda steps: None) for parts in (data.train, data.validation)]
    return hashlib.sha256(json.dumps(splits).encode()).hexdigest()


def mirrored(frame: Frame) -> Frame:
    """What a mirror beside the part would show: a good part of another kind of pose, which nobody trained on.

    Of the very parts that it was trained on a memory bank gives next to nothing, the noise of float32 alone;
    nothing can be verified with that.
    """
    pinhole = frame.intrinsics
    return replace(
        frame,
        rgb=np.ascontiguousarray(frame.rgb[:, ::-1]),
        depth_m=np.ascontiguousarray(frame.depth_m[:, ::-1]),
        intrinsics=replace(pinhole, cx_px=pinhole.width_px - 1 - pinhole.cx_px),
    )
