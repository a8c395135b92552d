"""The tray under the part: a matt mat with a fine texture."""

from __future__ import annotations

import cv2
import numpy as np

from edge.simulation.relief import FloatImage, float_image, smooth_field

__all__ = ["tray_colour"]

# (standard deviation of the blur in px at 480 rows, share): fibres, weave, wear.
_OCTAVES = ((0.7, 1.0), (2.0, 0.6), (6.0, 0.4))


def tray_colour(
    rng: np.random.Generator,
    height_px: int,
    width_px: int,
    *,
    rgb: tuple[float, float, float],
    contrast: float,
) -> FloatImage:
    """Linear colour (H, W, 3) of the empty tray under even light.

    `rgb` its colour (gamma 2, 0 to 1); `contrast` the standard deviation of its texture, relative.
    """
    scale = height_px / 480
    texture = np.zeros((height_px, width_px), dtype=np.float32)
    for blur_px, share in _OCTAVES:
        white = rng.standard_normal((height_px, width_px), dtype=np.float32)
        layer = float_image(cv2.GaussianBlur(white, (0, 0), blur_px * scale))
        texture += layer * np.float32(share / max(float(layer.std()), 1e-6))
    texture *= np.float32(contrast / max(float(texture.std()), 1e-6))
    wear = smooth_field(rng, (height_px, width_px), 6) * np.float32(0.02)
    tint = np.clip(np.asarray(rgb) + rng.normal(0, 0.008, size=3), 0.02, 0.95).astype(np.float32)
    gamma = np.clip((1 + texture + wear)[..., None] * tint, 0.01, 1)
    return float_image(gamma * gamma)
