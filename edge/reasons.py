"""An error as one stable word, for programs."""

from __future__ import annotations

import re

__all__ = ["reason_of"]


def reason_of(error: BaseException) -> str:
    """`CameraLost` → `camera_lost`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
