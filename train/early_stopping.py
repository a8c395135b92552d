"""Early stopping: the student that does best on held-out good parts with simulated defects in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from train.loop.checkpoints import weights_of
from train.loop.workers import Workers
from train.probe import ProbeConfig

__all__ = ["EarlyStopping", "EarlyStoppingConfig"]


class EarlyStoppingConfig(BaseModel):
    """Every `every_steps` steps (None: never) the student is judged on the probe; the best one is kept.

    The descent ends after `patience` judgements without a better one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_steps: int | None = Field(default=None, ge=1)
    patience: int = Field(default=4, ge=1)
    probe: ProbeConfig = ProbeConfig()


class EarlyStopping:
    """A `train.loop.descent.Watch`: `judge(network)` is the figure, of which more is better."""

    def __init__(
        self, every_steps: int, patience: int, judge: Callable[[nn.Module], float], workers: Workers
    ) -> None:
        self._every_steps = every_steps
        self._patience = patience
        self._judge = judge
        self._workers = workers
        self._best: dict[str, Tensor] = {}
        self.figures: list[float] = []
        """One for each judgement."""

    def after(self, step: int, network: nn.Module) -> bool:
        if step % self._every_steps:
            return False
        figure = 0.0
        with self._workers.together():
            if self._workers.is_first:  # whose batch statistics will be kept
                was_training = network.training
                network.eval()
                with torch.no_grad():
                    figure = self._judge(network)
                network.train(was_training)
        figure = self._workers.of_first(figure)
        if not self.figures or figure > max(self.figures):
            self._best = weights_of(network)
        self.figures.append(figure)
        since = len(self.figures) - 1 - self.figures.index(max(self.figures))
        return since >= self._patience

    def finish(self, network: nn.Module) -> None:
        if self._best:
            network.load_state_dict(self._best)

    def save(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        return dict(self._best), {"figures": self.figures}

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, object]) -> None:
        self._best = dict(tensors)
        figures = notes["figures"]
        self.figures = [float(figure) for figure in figures] if isinstance(figures, list) else []
