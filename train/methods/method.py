"""What training asks of a method."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from train.good_parts import GoodParts
from train.model import AnomalyModel

__all__ = ["FittedCurves", "Method"]

FittedCurves = Mapping[str, tuple[float, ...]]
"""Phase (`teacher`, `student`, …) → a number per step, in most cases the loss."""


class Method(AnomalyModel):
    """A model that can be fitted to good parts."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The method's name in a manifest: `msd`, `ast`, `memory-bank`, `fusion`."""

    @abstractmethod
    def fit(self, good: GoodParts, seed: int) -> FittedCurves:
        """Train on the good parts; the model is in eval mode afterwards.

        The same parts, seed and machine give the same weights. Raises `DatasetError`, `TrainingError`.
        """
