"""A runner without a model, and a bundle without files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.bundle import ANOMALY_MAP, Bundle, Manifest, StageSpec, TensorSpec
from edge.calibration import Calibration
from edge.framing import FramingConfig
from edge.preprocessing import Preprocessing
from edge.runtime.runner import Array, Runner
from edge.scoring import ScoreSpec

__all__ = ["FakeRunner", "fake_bundle"]

_SHA256 = "0" * 64

MapOf = Callable[[Mapping[str, Array]], npt.NDArray[np.float32]]
"""The frame's tensors → an anomaly map, float32 (1, 1, m, m)."""


def fake_bundle(
    *, product: str = "fake", threshold: float | None = 1.0, preprocessing: Preprocessing | None = None
) -> Bundle:
    """A bundle of one stage that asks for the mask; there are no files, so only a `FakeRunner` can run it.

    Without `threshold` it is uncalibrated.
    """
    prepared = preprocessing or Preprocessing(depth_px=64, map_cells=8, framing=FramingConfig(mode="whole"))
    cells = prepared.map_cells
    calibration = None
    if threshold is not None:
        calibration = Calibration(
            calibration_id="fake",
            model_sha256=_SHA256,
            threshold=threshold,
            false_reject_rate=0.01,
            good_parts=1,
            created_utc=datetime(2030, 1, 1, tzinfo=timezone.utc),
        )
    manifest = Manifest(
        product=product,
        method="fake",
        preprocessing=prepared,
        stages=(
            StageSpec(
                name="fake",
                file="fake.onnx",
                precision="fp32",
                inputs={"mask": "mask"},
                outputs={"map": ANOMALY_MAP},
            ),
        ),
        tensors={ANOMALY_MAP: TensorSpec(dtype="float32", shape=(1, 1, cells, cells))},
        score=ScoreSpec(),
        files={},
    )
    return Bundle(Path("fake"), manifest, _SHA256, calibration)


class FakeRunner(Runner):
    """A `Runner` whose anomaly map is what `map_of` makes of the frame's tensors; else half the mask."""

    def __init__(self, bundle: Bundle, map_of: MapOf | None = None) -> None:
        super().__init__(bundle)
        self._map_of = map_of or _half_the_mask
        self.closed = False

    def _run(self, tensors: Mapping[str, Array], fetch: Sequence[str]) -> dict[str, Array]:
        return dict.fromkeys(fetch, self._map_of(tensors))

    def close(self) -> None:
        self.closed = True


def _half_the_mask(tensors: Mapping[str, Array]) -> npt.NDArray[np.float32]:
    return np.multiply(tensors["mask"], 0.5, dtype=np.float32)  # (1, 1, m, m)
