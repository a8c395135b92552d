"""Samples on disk → the feature maps that methods are trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge.camera.sample import Sample
from edge.errors import CaptureError, DatasetError, DepthUnusable, TrainingError
from edge.frame import Frame
from edge.framing import Upright, box_of
from edge.preprocessing import Prepared, Preprocessing, preprocess
from train.feature_cache import FeatureCache
from train.features import Backbone
from train.inputs import Modality, input_channels
from train.loop.workers import Workers
from train.rows import RowFile

__all__ = ["FeatureCache", "Views", "largest_part_px", "prepare", "prepare_frame", "read_frame", "views_of"]

Progress = Callable[[int], None]


class Views:
    """Training material: each part at each angle as a feature map (C, m, m), not yet standardised.

    The maps lie in a file of the run and are read by rows, so that memory stays bounded whatever the
    number of parts; `mask` (N, 1, m, m) is in memory. The file is a copy of what the feature cache has, on
    purpose: the cache may be trimmed or deleted while a run goes on, and has no entry for z.
    """

    def __init__(self, parts: RowFile, mask: Tensor) -> None:
        self._parts = parts
        self.mask = mask

    def __len__(self) -> int:
        return len(self.mask)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, m, m)."""
        return self._parts.shape

    def rows(self, rows: Tensor) -> Tensor:
        """(k, C, m, m) of these views."""
        return self._parts.take(rows)

    def batches(self, size: int = 32) -> Iterator[tuple[Tensor, Tensor]]:
        """All views in order: parts (k, C, m, m) and `mask` (k, 1, m, m)."""
        for start in range(0, len(self), size):
            rows = torch.arange(start, min(start + size, len(self)))
            yield self.rows(rows), self.mask[rows]

    def foreground_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (C,) of the parts' channels over the foreground."""
        total = torch.zeros(self.shape[1], dtype=torch.float64)
        squares, weight = torch.zeros_like(total), 0.0
        shift = self.rows(torch.arange(1)).double().mean(dim=(0, 2, 3))  # near the mean: no cancellation
        for parts, mask in self.batches(8):
            centred = parts.double() - shift.view(1, -1, 1, 1)  # (k, C, m, m)
            total += (centred * mask).sum(dim=(0, 2, 3))
            squares += (centred.square() * mask).sum(dim=(0, 2, 3))
            weight += float(mask.sum(dtype=torch.float64))
        mean = total / weight
        return (mean + shift).float(), (squares / weight - mean.square()).clamp_min(0).float()


def prepare(
    sample: Sample, preprocessing: Preprocessing, wanted: AbstractSet[str], angle_deg: float = 0.0
) -> Prepared:
    """Preprocess one sample, which must show a part.

    Raises `DatasetError`, naming the file, where it can't be read, its depth can't be used, or there is
    no part in it.
    """
    return prepare_frame(sample, read_frame(sample), preprocessing, wanted, angle_deg)


def prepare_frame(
    sample: Sample,
    frame: Frame,
    preprocessing: Preprocessing,
    wanted: AbstractSet[str],
    angle_deg: float = 0.0,
) -> Prepared:
    """The same for a sample whose frame has been read."""
    try:
        prepared = preprocess(frame, preprocessing, wanted, angle_deg=angle_deg)
    except DepthUnusable as error:
        raise DatasetError(f"{sample.depth_path}: {error}") from error
    limit_mm = preprocessing.foreground.part_threshold_m * 1e3
    if not bool(prepared.part.any()):
        raise DatasetError(
            f"{sample.depth_path}: nothing stands more than {limit_mm:g} mm above the background; remove the "
            "capture if the tray is empty, lower foreground.part_threshold_m if the part is flatter"
        )
    if not bool(prepared.mask.any()):
        raise DatasetError(
            f"{sample.depth_path}: the part that stands more than {limit_mm:g} mm above the background lies "
            "outside the view; set framing.mode to part, or move framing.roi_px"
        )
    return prepared


def read_frame(sample: Sample) -> Frame:
    """The sample's frame; raises `DatasetError` naming the file."""
    try:
        return sample.frame()
    except CaptureError as error:
        raise DatasetError(str(error)) from error


def largest_part_px(
    samples: Sequence[Sample], preprocessing: Preprocessing, upright: Upright, progress: Progress
) -> float:
    """The longest side of any part's box, in pixels of the frame, along the axes that the view will have."""
    longest = 0.0
    for sample in samples:
        box = box_of(prepare(sample, preprocessing, frozenset()).part, upright=upright)
        longest = max(longest, *box.size_px)
        progress(1)
    return longest


def views_of(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    *,
    inputs: Sequence[Modality],
    angles_deg: Sequence[float],
    backbone: Backbone,
    cache: FeatureCache,
    scratch: Path,
    workers: Workers,
    progress: Progress,
) -> Views:
    """Each sample at each angle, as feature maps, kept in new files named after `scratch`.

    The workers share the samples; the backbone runs on their devices. Raises `DatasetError`,
    `TrainingError` naming the file.
    """
    cells = preprocessing.map_cells
    channels = input_channels(inputs, preprocessing, backbone)
    turns = len(angles_deg)
    count = len(samples) * turns
    parts = workers.rows(scratch, count, (channels, cells, cells))
    masks = workers.rows(scratch.with_suffix(".masks"), count, (1, cells, cells))
    wanted = frozenset(inputs) | {"mask"}
    with workers.together(), _on(backbone, workers.device):
        for number in workers.share(len(samples)):
            sample = samples[number]
            frame = read_frame(sample)
            for turn, angle_deg in enumerate(angles_deg):
                tensors = prepare_frame(sample, frame, preprocessing, wanted, angle_deg).tensors
                maps = [
                    torch.from_numpy(tensors["z"][0])
                    if name == "z"
                    else cache.features(backbone, np.asarray(tensors[name], dtype=np.uint8))
                    for name in inputs
                ]
                joined = torch.cat(maps)  # (C, m, m)
                if not bool(torch.isfinite(joined).all()):
                    raise TrainingError(
                        f"{sample.rgb_path}: its features are not finite; check image and depth"
                    )
                row = number * turns + turn
                parts.put(row, joined[None].numpy())
                masks.put(row, np.asarray(tensors["mask"], dtype=np.float32))
                progress(1)
    return Views(parts, masks.take(torch.arange(count)))


@contextmanager
def _on(backbone: Backbone, device: torch.device) -> Iterator[None]:
    """The backbone on a device for a while; what else asks for it, finds it on the CPU."""
    backbone.to(device)
    try:
        yield
    finally:
        backbone.to("cpu")
