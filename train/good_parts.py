"""The good parts of a run, as methods ask for them: views to train on, and parts held out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from edge.camera.sample import Sample
from edge.preprocessing import Prepared, Preprocessing
from edge.scoring import ScoreSpec
from train.features import Backbone
from train.inputs import Modality
from train.loop.checkpoints import Checkpoints
from train.loop.descent import Loop
from train.loop.workers import Workers
from train.views import FeatureCache, Views, prepare, views_of

__all__ = ["GoodParts", "Progress", "Task"]


class Task(Protocol):
    """One bar: `advance(n)` after n more steps."""

    def __call__(self, steps: int) -> None: ...


class Progress(Protocol):
    """Whoever shows how far training is."""

    def task(self, name: str, total: int) -> AbstractContextManager[Task]:
        """A bar of that many steps."""


class GoodParts:
    """`train` and `held_out` samples of one product under one preprocessing.

    Feature maps lie in files below `scratch`, a folder of the run that goes when it ends. `loop` is what a
    gradient descent runs through; without one it is one worker's that keeps no checkpoints. `score` is how a
    map will become a score.
    """

    def __init__(
        self,
        train: Sequence[Sample],
        held_out: Sequence[Sample],
        preprocessing: Preprocessing,
        *,
        cache: FeatureCache,
        scratch: Path,
        progress: Progress,
        loop: Loop | None = None,
        score: ScoreSpec | None = None,
    ) -> None:
        self.score = score or ScoreSpec()
        self.loop = loop or Loop(Workers(), Checkpoints(None))
        self.train = tuple(train)
        self.held_out = tuple(held_out)
        self.preprocessing = preprocessing
        self.progress = progress
        self.scratch = scratch
        self._cache = cache
        self._files = 0

    def views(self, inputs: Sequence[Modality], angles_deg: Sequence[float], backbone: Backbone) -> Views:
        """The parts to train on, each turned by each of these angles from how the device will see it."""
        file = self.new_file("views")
        workers = self.loop.workers
        mine = len(workers.share(len(self.train)))
        with self.progress.task("features", mine * len(angles_deg)) as advance:
            return views_of(
                self.train,
                self.preprocessing,
                inputs=inputs,
                angles_deg=angles_deg,
                backbone=backbone,
                cache=self._cache,
                scratch=file,
                workers=workers,
                progress=advance,
            )

    def for_member(self, label: str) -> GoodParts:
        """The same parts for one of several methods in a run, whose checkpoints have names of their own."""
        member = copy.copy(self)
        member.scratch = self.scratch / label
        member.loop = Loop(self.loop.workers, self.loop.checkpoints.within(label))
        return member

    def new_file(self, name: str) -> Path:
        """A path below `scratch` that nobody else was given."""
        self._files += 1
        return self.scratch / f"{name}-{self._files}.npy"

    def held_out_prepared(self, wanted: frozenset[str]) -> Iterator[tuple[Sample, Prepared]]:
        """The parts held out, one after the other."""
        for sample in self.held_out:
            yield sample, prepare(sample, self.preprocessing, wanted)
