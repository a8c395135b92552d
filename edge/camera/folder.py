"""Shows a folder of images as if a camera saw them: captures of a rig, or a category of MVTec 3D-AD."""

from __future__ import annotations

from pathlib import Path

from edge.camera.config import FolderCamera
from edge.camera.sample import Sample
from edge.camera.source import FrameSource, SourceHealth
from edge.captures import CAPTURE_FILE, list_captures
from edge.errors import CameraError, CaptureError
from edge.frame import Frame
from edge.mvtec3d import CALIBRATION_FILE, SPLITS, list_category

__all__ = ["FolderSource"]


class FolderSource(FrameSource):
    """The samples of a folder, each once, sorted by label and number; `part_id` is "bent/000".

    A folder of MVTec 3D-AD is a category, or one of its splits.

    `open` raises `CaptureError` where a partner is missing or an image has another size, so far as the
    headers tell; `read` where an image can't be decoded.
    """

    def __init__(self, config: FolderCamera) -> None:
        self._config = config
        self._samples: tuple[Sample, ...] | None = None
        self._delivered = 0
        self._total = 0

    @property
    def name(self) -> str:
        return str(self._config.path)

    def open(self) -> None:
        if self._samples is not None:
            raise CameraError(f"{self.name}: is open already")
        self._samples = self._list()
        self._total, self._delivered = len(self._samples), 0

    def _list(self) -> tuple[Sample, ...]:
        path, split = self._config.path, self._config.split
        if not path.is_dir():
            raise CaptureError(f"{path}: is not a folder; mend camera.path")
        layout = self._config.layout
        if layout == "auto":
            if (path / CAPTURE_FILE).is_file():
                layout = "captures"
            elif _is_category(path) or _is_split(path):
                layout = "mvtec3d"
            else:
                raise CaptureError(
                    f"{path}: holds neither {CAPTURE_FILE} (captures) nor {CALIBRATION_FILE} "
                    "(a category of MVTec 3D-AD); name the folder that does"
                )
        if layout == "captures":
            if split is not None:
                raise CaptureError(f"{path}: captures have no split {split!r}; leave camera.split out")
            return list_captures(path)
        if _is_split(path):
            if split not in (None, path.name):
                raise CaptureError(
                    f"{path}: is not the split {split!r}; name the folder above it, or no split"
                )
            return list_category(path.parent, path.name)
        return list_category(path, split or "test")

    def read(self, timeout_s: float = 5.0) -> Frame | None:
        if self._samples is None:
            raise CameraError(f"{self.name}: is not open")
        if self._delivered == len(self._samples):
            return None
        frame = self._samples[self._delivered].frame(seq=self._delivered)
        self._delivered += 1
        return frame

    def health(self) -> SourceHealth:
        return SourceHealth(frames=self._delivered, details={"of_frames": str(self._total)})

    def close(self) -> None:
        self._samples = None


def _is_category(path: Path) -> bool:
    return (path / CALIBRATION_FILE).is_file()


def _is_split(path: Path) -> bool:
    path = path.absolute()
    return path.name in SPLITS and not _is_category(path) and _is_category(path.parent)
