"""Into which lot a rig puts what it keeps while it inspects."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from edge.captures import CAPTURE_FILE, CaptureInfo, read_capture_info
from edge.errors import CaptureError

__all__ = ["lot_of", "lots_of", "product_folder"]

_FOLDERS_A_DAY = 50


def product_folder(captures: Path, product: str) -> Path:
    """The folder of a product's lots; its name has letters, digits, `_`, `.` and `-` alone."""
    return captures / (re.sub(r"[^\w.-]", "_", product).lstrip(".")[:64] or "product")


def lot_of(product: Path, day: datetime, kind: str, info: CaptureInfo) -> Path:
    """The folder `<date>-<kind>` of that day; another one (`-2`, …) where the camera is not what it was.

    Raises `CaptureError` where there are fifty already, or where one can't be read.
    """
    for number in range(1, _FOLDERS_A_DAY + 1):
        path = product / _name(day, kind, number)
        if not (path / CAPTURE_FILE).exists() or not info.differences(read_capture_info(path)):
            return path
    raise CaptureError(f"{product}: the camera was changed {_FOLDERS_A_DAY} times today; leave it as it is")


def lots_of(product: Path, day: datetime, kind: str) -> list[Path]:
    """The lots of that day and kind that are there."""
    named = (product / _name(day, kind, number) for number in range(1, _FOLDERS_A_DAY + 1))
    return [path for path in named if (path / CAPTURE_FILE).exists()]


def _name(day: datetime, kind: str, number: int) -> str:
    return f"{day:%Y-%m-%d}-{kind}{'' if number == 1 else f'-{number}'}"
