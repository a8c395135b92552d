"""What every method is, once trained: a list of stages, the last of which gives the anomaly map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edge.bundle import ANOMALY_MAP
from edge.preprocessing import TENSORS, Preprocessing
from train.features import Backbone
from train.stages import Stage, run_stages

__all__ = ["AnomalyModel", "torch_tensors"]


def torch_tensors(arrays: Mapping[str, npt.NDArray[np.generic]]) -> dict[str, Tensor]:
    """The arrays of a preprocessed frame as tensors of the same shapes, copied."""
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


class AnomalyModel(nn.Module, ABC):
    """`forward(tensors)` gives the anomaly map (N, 1, m, m) of preprocessed frames.

    What it runs is what the device will run: the modules of `stages()`, in their order. A backbone is
    frozen and not part of `state_dict()`; `backbones()` names those that are needed.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing

    @abstractmethod
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the trained method; graphs of the same file are the same module."""

    @abstractmethod
    def backbones(self) -> tuple[Backbone, ...]:
        """The backbones that the stages use, each once."""

    @property
    def wanted(self) -> frozenset[str]:
        """The tensors of a frame that the stages ask for, and the mask, which scoring needs."""
        named = {tensor for stage in self.stages() for tensor in stage.spec.inputs.values()}
        return frozenset(named & set(TENSORS)) | {"mask"}

    def run_all(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every tensor that a stage makes."""
        return run_stages(self.stages(), tensors)

    def forward(self, tensors: Mapping[str, Tensor]) -> Tensor:
        return self.run_all(tensors)[ANOMALY_MAP]
