"""Data sets on disk, each in its own layout, as samples in three splits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edge.errors import CaptureError, DatasetError
from train.datasets.captures import open_captures
from train.datasets.dataset import DataSet, name_of
from train.datasets.mvtec3d import open_mvtec3d

__all__ = ["DataSet", "Format", "name_of", "open_dataset"]

Format = Literal["mvtec3d", "captures"]


def open_dataset(path: Path, layout: Format, category: str | None, held_out_share: float) -> DataSet:
    """The data set at `path`; `category` names a folder in it (MVTec 3D-AD) or a product (captures).

    Of good parts that the layout does not set aside itself, `held_out_share` goes to validation.
    Raises `DatasetError` where it is not what it should be.
    """
    folder = path if category is None else path / category
    if not folder.is_dir():
        there = sorted(p.name for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
        raise DatasetError(f"{folder}: no such folder; {path} holds {', '.join(there) or 'none'}")
    try:
        if layout == "mvtec3d":
            return open_mvtec3d(folder)
        return open_captures(folder, held_out_share)
    except CaptureError as error:
        raise DatasetError(str(error)) from error
