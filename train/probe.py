"""The probe: held-out good parts, and the same with simulated defects in them, to choose by.

Choices (when to stop, which configuration) are made on it and never on a test split: it needs nothing but
good parts. What it can't know is what real defects look like.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from edge.camera.sample import Sample
from edge.errors import ConfigError, DatasetError, DepthUnusable, TrainingError
from edge.frame import Frame
from edge.preprocessing import Preprocessing
from edge.simulation.defects import DEFECTS
from train.spoiling import Spoiled, spoil

__all__ = ["ProbeConfig", "SpoiledSample", "probe_of"]


class ProbeConfig(BaseModel):
    """Of the good parts held out, at most `parts` are taken, evenly spaced; each is shown as it is, and
    `defects_per_part` times with one of the `kinds` of defects in it, in turn, of that `severity`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    parts: int = Field(default=12, ge=1)
    defects_per_part: int = Field(default=2, ge=1)
    kinds: tuple[str, ...] = Field(default=DEFECTS, min_length=1)
    severity: float = Field(default=1.0, gt=0)


@dataclass(frozen=True)
class SpoiledSample(Sample):
    """A good part of the data set with a simulated defect, drawn from `seed`, in it; made when asked for."""

    preprocessing: Preprocessing | None = None
    severity: float = 1.0
    seed: int = 0

    def frame(self, seq: int = 0) -> Frame:
        return self._spoiled(seq).frame

    def mask(self) -> npt.NDArray[np.bool_]:
        return self._spoiled(0).mask

    def _spoiled(self, seq: int) -> Spoiled:
        if self.preprocessing is None or self.defect is None:
            raise ConfigError(f"{self.part_id}: a spoiled sample needs a preprocessing and a defect")
        rng = np.random.default_rng(self.seed)
        try:
            return spoil(Sample.frame(self, seq), self.preprocessing, self.defect, rng, self.severity)
        except (DepthUnusable, TrainingError) as error:
            raise DatasetError(f"{self.depth_path}: {error}") from error


def probe_of(
    held_out: Sequence[Sample], preprocessing: Preprocessing, config: ProbeConfig, seed: int
) -> tuple[Sample, ...]:
    """Good samples, and copies with defects, drawn from `seed`; evaluated like those of a test split.

    `preprocessing` finds the part on which a defect is to lie; it need not be that of the model which is
    judged, so that several can be judged on one probe. Raises `ConfigError` for an unknown kind.
    """
    unknown = sorted(set(config.kinds) - set(DEFECTS))
    if unknown:
        raise ConfigError(f"probe.kinds {unknown} are unknown; choose from {', '.join(DEFECTS)}")
    count = min(config.parts, len(held_out))
    chosen = [held_out[i * len(held_out) // count] for i in range(count)]
    return (*chosen, *_spoiled(chosen, preprocessing, config, seed))


def _spoiled(
    chosen: Sequence[Sample], preprocessing: Preprocessing, config: ProbeConfig, seed: int
) -> Iterator[SpoiledSample]:
    number = 0
    for turn in range(config.defects_per_part):
        for sample in chosen:
            kind = config.kinds[(number + turn) % len(config.kinds)]  # of one part, not twice the same
            known = {field.name: getattr(sample, field.name) for field in fields(Sample)}
            known |= {"part_id": f"{kind}/{sample.part_id}-{number}", "defect": kind}
            yield SpoiledSample(
                **known,
                preprocessing=preprocessing,
                severity=config.severity,
                seed=int(np.random.SeedSequence([seed, number]).generate_state(1)[0]),
            )
            number += 1
