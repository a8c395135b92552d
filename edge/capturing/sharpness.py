"""How sharp the part is, as a number that falls when it is out of focus, or moved during the exposure."""

from __future__ import annotations

import cv2
import numpy as np

from edge.depth import Mask
from edge.frame import RgbImage

__all__ = ["sharpness_of"]

_CALM_PX = 1.0
"""The Gaussian before the Laplacian. Without it a smooth part's figure is the camera's noise: on the
simulated moulding a blur of 3 px left 0.73 of it, with it 0.19."""

_OUTLINE_PX = 9
"""The outline does not count: what it contrasts with is the tray."""

_LEAST_PX = 100


def sharpness_of(rgb: RgbImage, part: Mask) -> float | None:
    """Variance of the Laplacian (Pech-Pacheco et al., ICPR 2000) of the part's calmed grey, relative.

    `rgb` (H, W, 3), `part` (H, W). Divided by the square of the part's mean grey, a brighter lamp does not
    change it. It compares parts of one product with each other, and nothing else. None where there is too
    little part to tell, or it is black.
    """
    if not bool(part.any()):
        return None
    x, y, w, h = cv2.boundingRect(part.astype(np.uint8))
    grown = (slice(max(0, y - 8), y + h + 8), slice(max(0, x - 8), x + w + 8))
    whole = np.ascontiguousarray(part[grown], dtype=np.uint8)  # (h, w)
    inner = cv2.erode(whole, np.ones((_OUTLINE_PX, _OUTLINE_PX), np.uint8)) > 0
    inside = inner if int(inner.sum()) >= _LEAST_PX else whole > 0
    if int(inside.sum()) < _LEAST_PX:
        return None
    grey = cv2.cvtColor(np.ascontiguousarray(rgb[grown]), cv2.COLOR_RGB2GRAY).astype(np.float32)  # (h, w)
    mean = float(grey[inside].mean())
    if mean < 1.0:
        return None
    edges = cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), _CALM_PX), cv2.CV_32F)  # (h, w)
    return float(edges[inside].var()) / mean**2
