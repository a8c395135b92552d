"""A category of MVTec 3D-AD as a data set."""

from __future__ import annotations

from pathlib import Path

from edge.mvtec3d import list_category
from train.datasets.dataset import DataSet, refuse_defects

__all__ = ["is_category", "open_mvtec3d"]


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
    refuse_defects(data.train + data.validation)
    return data


def is_category(folder: Path) -> bool:
    """Whether a folder has what every category has: good parts to train on."""
    return (folder / "train" / "good" / "rgb").is_dir()
