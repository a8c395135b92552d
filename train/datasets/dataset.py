"""Samples in three splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.camera.sample import Sample
from edge.errors import DatasetError

__all__ = ["DataSet", "held_out", "name_of", "refuse_defects"]


def name_of(sample: Sample) -> str:
    """A sample's name among all of a data set: its lot or category before its name in there."""
    return f"{Path(sample.source).name}/{sample.part_id}"


@dataclass(frozen=True, slots=True)
class DataSet:
    """Good parts to train on, good parts held out (for calibration), and parts to test with, good and bad."""

    name: str
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]


def held_out(good: Sequence[Sample], share: float) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Training and validation: every 1/share-th part is held out, so that both see the whole of the day."""
    taken = [int((i + 1) * share) > int(i * share) for i in range(len(good))]
    train = tuple(sample for sample, held in zip(good, taken, strict=True) if not held)
    return train, tuple(sample for sample, held in zip(good, taken, strict=True) if held)


def refuse_defects(samples: Sequence[Sample]) -> None:
    """Raises `DatasetError` where a bad part is among those to train or to calibrate on."""
    for sample in samples:
        if sample.defect is not None:
            raise DatasetError(
                f"{sample.rgb_path}: {sample.defect!r} among the good parts to train on; move it"
            )
