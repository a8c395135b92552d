"""Samples in three splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.camera.sample import Sample

__all__ = ["DataSet", "name_of"]


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
