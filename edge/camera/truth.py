"""The truth about simulated parts, on disk beside the verdicts and out of the inspector's sight."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from edge.errors import CameraError
from edge.simulation.scene import Shot

__all__ = ["PartTruth", "TruthLog", "read_truth", "read_truth_mask"]

_FILE = "truth.jsonl"


class PartTruth(BaseModel):
    """One line of truth.jsonl; `mask` is a PNG (> 0 is a defect), relative to the folder; None if good."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shot: int
    part_id: str
    defect: str | None
    mask: str | None


class TruthLog:
    """Writes truth.jsonl and the masks into a folder of their own; raises `CameraError` if one is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            (folder / "masks").mkdir(parents=True)
            self._file = (folder / _FILE).open("x", encoding="utf-8")
        except FileExistsError as error:
            raise CameraError(f"{folder}: holds the truth of another run; choose another truth_to") from error
        except OSError as error:
            raise CameraError(f"{folder}: can't be written ({error.strerror})") from error

    def write(self, index: int, shot: Shot) -> None:
        mask = None
        if shot.defect is not None:
            mask = f"masks/{index:06d}.png"
            if not cv2.imwrite(str(self._folder / mask), shot.truth_mask.astype(np.uint8) * 255):
                raise CameraError(f"{self._folder / mask}: can't be written; is the disk full?")
        row = PartTruth(shot=index, part_id=shot.part_id, defect=shot.defect, mask=mask)
        try:
            self._file.write(row.model_dump_json() + "\n")
            self._file.flush()  # a reader sees the truth no later than the verdict
        except OSError as error:
            raise CameraError(f"{self._folder / _FILE}: can't be written ({error.strerror})") from error

    def close(self) -> None:
        self._file.close()


def read_truth(folder: Path) -> tuple[PartTruth, ...]:
    """All whole lines of a folder's truth.jsonl; raises `CameraError`."""
    path = folder / _FILE
    try:
        lines = path.read_text(encoding="utf-8").split(os.linesep)
    except OSError as error:
        raise CameraError(f"{path}: can't be read ({error.strerror})") from error
    try:
        # The last piece follows the last newline: empty, or a line that is being written.
        return tuple(PartTruth.model_validate_json(line) for line in lines[:-1])
    except ValidationError as error:
        raise CameraError(f"{path}: {error.errors()[0]['msg']}") from error


def read_truth_mask(folder: Path, truth: PartTruth) -> npt.NDArray[np.bool_] | None:
    """(H, W), True where the part is defective; None for a good part."""
    if truth.mask is None:
        return None
    mask = cv2.imread(str(folder / truth.mask), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise CameraError(f"{folder / truth.mask}: can't be read")
    return np.asarray(mask > 0)
