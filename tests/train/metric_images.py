"""Masks and maps of a small test split, for the tests of the metrics."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Masks = list[npt.NDArray[np.bool_]]
Maps = list[npt.NDArray[np.float32]]


def tiny_split(seed: int, scores: int, images: int = 5) -> tuple[Masks, Maps]:
    """Images of different sizes up to 8 × 8, the first with a defect, the last without; integer scores."""
    rng = np.random.default_rng(seed)
    shapes = [tuple(rng.integers(2, 9, size=2)) for _ in range(images)]
    masks = [rng.random(shape) < 0.25 for shape in shapes]
    masks[0][0, 0], masks[0][-1, -1], masks[-1][:] = True, False, False
    maps = [rng.integers(-scores // 2, scores - scores // 2, size=m.shape).astype(np.float32) for m in masks]
    return masks, maps


def blob_split(
    seed: int, images: int = 24, height: int = 64, width: int = 64, contrast: float = 1.5
) -> tuple[Masks, Maps]:
    """Half of the images with one or two round defects that a noisy, smooth map partly finds."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    masks, maps = [], []
    for index in range(images):
        mask = np.zeros((height, width), dtype=bool)
        score_map = rng.normal(size=(height, width))
        for _ in range(int(rng.integers(1, 3)) if index % 2 else 0):
            y, x = rng.uniform(0.2, 0.8, size=2) * (height, width)
            radius = rng.uniform(2, height / 8)
            distance = np.hypot(rows - y, columns - x)
            mask |= distance < radius
            score_map += contrast * rng.uniform(0.3, 2) * np.exp(-((distance / radius) ** 2) / 2)
        masks.append(mask)
        maps.append(score_map.astype(np.float32))
    return masks, maps
