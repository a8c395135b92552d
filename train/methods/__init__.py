"""The methods: each a configuration, a model made of stages, and a way to fit it to good parts."""

from __future__ import annotations

from edge.preprocessing import Preprocessing
from train.methods.fusion import FusionConfig, FusionModel
from train.methods.memory_bank import MemoryBankConfig, MemoryBankModel
from train.methods.method import FittedCurves, Method
from train.methods.msd import MsdConfig, MsdModel

__all__ = [
    "FittedCurves",
    "FusionConfig",
    "FusionModel",
    "MemoryBankConfig",
    "MemoryBankModel",
    "Method",
    "MsdConfig",
    "MsdModel",
    "build_method",
]


def build_method(
    config: MsdConfig | MemoryBankConfig | FusionConfig, preprocessing: Preprocessing, seed: int
) -> Method:
    """A method that is not trained yet; its weights follow from the seed alone.

    Raises `TrainingError` where its backbone can't be had.
    """
    if isinstance(config, FusionConfig):
        members = [build_method(member, preprocessing, seed) for member in config.members]
        return FusionModel(config, preprocessing, members)
    if isinstance(config, MemoryBankConfig):
        return MemoryBankModel(config, preprocessing)
    return MsdModel(config, preprocessing, seed)
