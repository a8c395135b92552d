"""A category of MVTec 3D-AD as a data set."""

from __future__ import annotations

from pathlib import Path

from edge.errors import DatasetError
from edge.mvtec3d import list_category
from train.datasets.dataset import DataSet

__all__ = ["open_mvtec3d"]


def open_mvtec3d(category: Path) -> DataSet:
    """The category with its own splits.

    Raises `CaptureError`, `DatasetError` where there are bad parts among those to train on.
    """
    data = DataSet(
        name=category.name,
        train=list_category(category, "train"),
        validation=list_category(category, "validation"),
        test=list_category(category, "test"),
    )
    for sample in data.train + data.validation:
        if sample.defect is not None:
            raise DatasetError(
                f"{sample.rgb_path}: {sample.defect!r} among the good parts to train on; move it"
            )
    return data
