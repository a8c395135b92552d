"""The golden samples that go into a bundle: few, and with verdicts that no rounding decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge.bundle import ANOMALY_MAP
from edge.golden import CELL_MM2, FOREGROUND
from export.verification import Verification
from export.verify import Measured, MeasuredSample
from train.golden import GoldenSample
from train.model import AnomalyModel
from train.predictor import cells_by_torch

__all__ = ["choose_for_bundle", "write_golden"]


def choose_for_bundle(measured: Measured, verification: Verification) -> tuple[GoldenSample, ...]:
    """The lowest and the highest score that passes, and that fails: at most four samples.

    None whose score lies nearer to the threshold than scores may drift: another backend than ours, with
    other rounding, would be called wrong for it. Where all do, the farthest.
    """
    scores = verification.scores
    clear = scores.tolerance * scores.spread

    def margin(row: MeasuredSample) -> float:
        return min(abs(row.by_torch - scores.threshold), abs(row.by_onnx - scores.threshold))

    rows = sorted((row for row in measured.samples if margin(row) > clear), key=lambda row: row.by_torch)
    if not rows:
        return (max(measured.samples, key=margin).sample,)
    chosen: dict[str, GoldenSample] = {}
    for failing in (False, True):
        side = [row.sample for row in rows if (row.by_torch > scores.threshold) is failing]
        chosen |= {sample.name: sample for sample in (*side[:1], *side[-1:])}
    return tuple(chosen.values())


def write_golden(folder: Path, model: AnomalyModel, measured: Measured, verification: Verification) -> None:
    """One .npz each in `golden/` of a bundle: tensors, foreground, what a cell covers, and torch's map."""
    (folder / "golden").mkdir()
    for number, sample in enumerate(choose_for_bundle(measured, verification)):
        expected = cells_by_torch(model, sample.tensors)[None, None]  # (1, 1, m, m)
        arrays: dict[str, Any] = {**sample.tensors, FOREGROUND: sample.foreground, ANOMALY_MAP: expected}
        if sample.cell_mm2 is not None:
            arrays[CELL_MM2] = np.array([sample.cell_mm2], np.float64)
        np.savez_compressed(folder / "golden" / f"{number:03d}.npz", **arrays)
