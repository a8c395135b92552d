"""The captures of a rig as a data set."""

from __future__ import annotations

from pathlib import Path

from edge.camera.sample import Sample
from edge.captures import CAPTURE_FILE, list_captures
from edge.errors import DatasetError
from train.datasets.dataset import DataSet

__all__ = ["open_captures"]


def open_captures(folder: Path, held_out_share: float) -> DataSet:
    """One lot of captures, or all lots of a product.

    Good parts are split into training and validation, evenly spaced in the order in which they were
    captured, so that both see the whole of the day; `test` is every capture, for a folder that no model
    was trained on. Raises `CaptureError`, or `DatasetError` where there is no lot or too few good parts.
    """
    lots = (
        [folder]
        if (folder / CAPTURE_FILE).is_file()
        else sorted(p.parent for p in folder.glob(f"*/{CAPTURE_FILE}"))
    )
    if not lots:
        raise DatasetError(
            f"{folder}: neither it nor a folder in it holds {CAPTURE_FILE}; is it a captures folder?"
        )
    samples = tuple(sample for lot in lots for sample in list_captures(lot))
    good = [sample for sample in samples if sample.defect is None]
    train, validation = _spread(good, held_out_share)
    return DataSet(name=folder.name, train=train, validation=validation, test=samples)


def _spread(good: list[Sample], held_out_share: float) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Every 1/share-th part is held out."""
    taken = [int((i + 1) * held_out_share) > int(i * held_out_share) for i in range(len(good))]
    train = tuple(sample for sample, held in zip(good, taken, strict=True) if not held)
    return train, tuple(sample for sample, held in zip(good, taken, strict=True) if held)
