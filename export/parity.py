"""ONNX Runtime against torch, stage by stage and from end to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from edge.errors import ExportError
from edge.runtime import Runner
from train.golden import GoldenSample
from train.model import AnomalyModel, torch_tensors

__all__ = ["Parity", "compare"]

_Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Parity:
    """The largest difference of each tensor over all golden samples, relative to the tensor's spread."""

    samples: int
    worst: Mapping[str, float]


def compare(model: AnomalyModel, runner: Runner, golden: Sequence[GoldenSample], tolerance: float) -> Parity:
    """Run the golden samples through both; raises `ExportError` where a tensor differs by more than allowed.

    A tensor's difference is max |onnx − torch| / (standard deviation of torch's). The chain is compared:
    each stage's error includes those before it.
    """
    if not golden:
        raise ExportError("the run has no golden samples, so nothing can be proven; train it again")
    worst: dict[str, float] = {}
    for sample in golden:
        expected = _by_torch(model, sample.tensors)
        found = runner.run(sample.tensors, tuple(expected))
        for name, reference in expected.items():
            spread = max(float(reference.std()), 1e-12)
            difference = float(np.abs(np.asarray(found[name], np.float64) - reference).max()) / spread
            worst[name] = max(worst.get(name, 0.0), difference)
    bad = {name: value for name, value in worst.items() if not value <= tolerance}
    if bad:
        raise ExportError(
            f"ONNX Runtime differs from torch by more than {tolerance:g} of the spread: "
            + ", ".join(f"{name} {value:.2e}" for name, value in bad.items())
        )
    return Parity(samples=len(golden), worst=worst)


def _by_torch(model: AnomalyModel, tensors: _Arrays) -> dict[str, npt.NDArray[np.float64]]:
    """Every tensor that a stage makes."""
    with torch.no_grad():
        made = model.run_all(torch_tensors(tensors))
    return {name: value.numpy().astype(np.float64) for name, value in made.items()}
