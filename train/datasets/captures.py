"""The captures of a rig as a data set."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

from edge.captures import CAPTURE_FILE, list_captures
from edge.errors import DatasetError
from train.datasets.dataset import DataSet, held_out, refuse_defects

__all__ = ["is_product", "open_captures"]


def open_captures(folder: Path, held_out_share: float, test_lots: str | None = None) -> DataSet:
    """One lot of captures, or all lots of a product.

    Good parts are split into training and validation, evenly spaced in the order in which they were
    captured, so that both see the whole of the day. Without `test_lots`, `test` is every capture, for a
    folder that no model was trained on; with it (`test-*`), the lots of that name are the test, and the
    others, which must hold good parts alone, are trained on. Raises `CaptureError`, or `DatasetError` where
    there is no lot.
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
    if test_lots is None:
        samples = tuple(sample for lot in lots for sample in list_captures(lot))
        good = [sample for sample in samples if sample.defect is None]
        train, validation = held_out(good, held_out_share)
        return DataSet(name=folder.name, train=train, validation=validation, test=samples)
    for_test = [lot for lot in lots if fnmatchcase(lot.name, test_lots)]
    to_train = [lot for lot in lots if lot not in for_test]
    if not for_test or not to_train:
        raise DatasetError(
            f"{folder}: of its lots {', '.join(lot.name for lot in lots)}, {len(for_test)} match the test "
            f"lots {test_lots!r}; some must, and some must be left to train on"
        )
    good = [sample for lot in to_train for sample in list_captures(lot)]
    refuse_defects(good)
    train, validation = held_out(good, held_out_share)
    test = tuple(sample for lot in for_test for sample in list_captures(lot))
    return DataSet(name=folder.name, train=train, validation=validation, test=test)


def is_product(folder: Path) -> bool:
    """Whether a folder holds lots of captures."""
    return any(folder.glob(f"*/{CAPTURE_FILE}"))
