"""Data sets on disk, each in its own layout, as samples in three splits."""

from __future__ import annotations

from train.datasets.dataset import DataSet, name_of
from train.datasets.opening import check_unit, list_categories, open_dataset, read_dataset
from train.datasets.options import DatasetOptions, Format

__all__ = [
    "DataSet",
    "DatasetOptions",
    "Format",
    "check_unit",
    "list_categories",
    "name_of",
    "open_dataset",
    "read_dataset",
]
