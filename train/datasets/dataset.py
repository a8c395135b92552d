"""Samples in three splits."""

from __future__ import annotations

from dataclasses import dataclass

from edge.camera.sample import Sample

__all__ = ["DataSet"]


@dataclass(frozen=True, slots=True)
class DataSet:
    """Good parts to train on, good parts held out (for calibration), and parts to test with, good and bad."""

    name: str
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]
