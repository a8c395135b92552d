"""Samples on disk → the feature maps that methods are trained on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge.camera.sample import Sample
from edge.errors import CaptureError, DatasetError, DepthUnusable, TrainingError
from edge.frame import Frame
from edge.framing import box_of
from edge.preprocessing import Prepared, Preprocessing, preprocess
from train.features import Backbone

__all__ = ["FeatureCache", "Views", "largest_part_px", "prepare", "views_of"]

Progress = Callable[[int], None]
_Stored = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Training material: `parts` (N, C, m, m), not yet standardised, on disk; `mask` (N, 1, m, m) in memory.

    What is on disk is read by rows, so that memory stays bounded whatever the number of parts.
    """

    parts: _Stored
    mask: Tensor

    def __len__(self) -> int:
        return len(self.mask)

    def rows(self, rows: Tensor) -> Tensor:
        """(k, C, m, m) of these views."""
        return torch.from_numpy(np.asarray(self.parts[np.asarray(rows)]))

    def batches(self, size: int = 32) -> Iterator[tuple[Tensor, Tensor]]:
        """All views in order: `parts` (k, C, m, m) and `mask` (k, 1, m, m)."""
        for start in range(0, len(self), size):
            rows = torch.arange(start, min(start + size, len(self)))
            yield self.rows(rows), self.mask[rows]

    def foreground_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (C,) of the parts' channels over the foreground."""
        total = torch.zeros(self.parts.shape[1], dtype=torch.float64)
        squares, weight = torch.zeros_like(total), 0.0
        shift = self.rows(torch.arange(1)).double().mean(dim=(0, 2, 3))  # near the mean: no cancellation
        for parts, mask in self.batches():
            centred = parts.double() - shift.view(1, -1, 1, 1)  # (k, C, m, m)
            total += (centred * mask).sum(dim=(0, 2, 3))
            squares += (centred.square() * mask).sum(dim=(0, 2, 3))
            weight += float(mask.sum(dtype=torch.float64))
        mean = total / weight
        return (mean + shift).float(), (squares / weight - mean.square()).clamp_min(0).float()


class FeatureCache:
    """Feature maps on disk, under the sha256 of what they were computed from and with.

    A key is that of the picture's bytes and the backbone, so a renamed file is found and a changed one is
    not. A damaged entry is computed anew.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def features(
        self, backbone: Backbone, picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    ) -> Tensor:
        """(C, m, m) features of a picture (1, S, S, 3)."""
        if self._folder is None:
            return _compute(backbone, picture)
        key = hashlib.sha256(backbone.sha256.encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()
        path = self._folder / key[:2] / f"{key}.npy"
        shape = (backbone.channels, backbone.cells, backbone.cells)
        try:
            stored = np.load(path, allow_pickle=False)
            if stored.shape == shape and stored.dtype == np.float32:
                return torch.from_numpy(stored)
        except (OSError, ValueError, EOFError):
            pass  # not there, or damaged: compute it
        features = _compute(backbone, picture)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            np.save(file, features.numpy())
        temporary.replace(path)
        return features


def _compute(backbone: Backbone, picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    with torch.no_grad():
        features: Tensor = backbone(torch.from_numpy(np.array(picture)))[0]
    return features


def prepare(
    sample: Sample, preprocessing: Preprocessing, wanted: frozenset[str], angle_deg: float = 0.0
) -> Prepared:
    """Preprocess one sample, which must show a part.

    Raises `DatasetError`, naming the file, where it can't be read, its depth can't be used, or there is
    no part in it.
    """
    frame = read_frame(sample)
    try:
        prepared = preprocess(frame, preprocessing, wanted, angle_deg=angle_deg)
    except DepthUnusable as error:
        raise DatasetError(f"{sample.depth_path}: {error}") from error
    if not bool(prepared.part.any()):
        limit_mm = preprocessing.foreground.part_threshold_m * 1e3
        raise DatasetError(
            f"{sample.depth_path}: nothing stands more than {limit_mm:g} mm above the background; remove the "
            "capture if the tray is empty, lower foreground.part_threshold_m if the part is flatter"
        )
    return prepared


def read_frame(sample: Sample) -> Frame:
    """The sample's frame; raises `DatasetError` naming the file."""
    try:
        return sample.frame()
    except CaptureError as error:
        raise DatasetError(str(error)) from error


def largest_part_px(
    samples: Sequence[Sample], preprocessing: Preprocessing, upright: bool, progress: Progress
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
    inputs: Sequence[str],
    angles_deg: Sequence[float],
    backbone: Backbone,
    cache: FeatureCache,
    scratch: Path,
    progress: Progress,
) -> Views:
    """Each sample at each angle, as feature maps, kept in the new file `scratch`.

    Raises `DatasetError`, `TrainingError` naming the file.
    """
    cells = preprocessing.map_cells
    channels = sum(preprocessing.unshuffle**2 if name == "z" else backbone.channels for name in inputs)
    count = len(samples) * len(angles_deg)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    parts = np.lib.format.open_memmap(
        scratch, mode="w+", dtype=np.float32, shape=(count, channels, cells, cells)
    )
    masks = torch.zeros(count, 1, cells, cells)
    wanted = frozenset(inputs) | {"mask"}
    number = 0
    for sample in samples:
        for angle_deg in angles_deg:
            tensors = prepare(sample, preprocessing, wanted, angle_deg).tensors
            maps = [
                torch.from_numpy(tensors["z"][0])
                if name == "z"
                else cache.features(backbone, np.asarray(tensors[name], dtype=np.uint8))
                for name in inputs
            ]
            joined = torch.cat(maps)  # (C, m, m)
            if not bool(torch.isfinite(joined).all()):
                raise TrainingError(f"{sample.rgb_path}: its features are not finite; check image and depth")
            parts[number] = joined.numpy()
            masks[number] = torch.from_numpy(np.asarray(tensors["mask"][0], dtype=np.float32))
            number += 1
            progress(1)
    return Views(parts, masks)
