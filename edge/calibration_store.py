"""The calibrations of a rig's models in its state folder: one file for each version, none ever changed."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from edge.calibration import Calibration
from edge.calibration_file import calibration_text, parse_calibration
from edge.disk import sync_folder
from edge.errors import (
    BundleCorrupt,
    CalibrationDamaged,
    CalibrationError,
    CalibrationNotKept,
    VersionUnknown,
)
from edge.sealed import read_sealed, write_atomically

__all__ = ["CalibrationStore", "StoredCalibration"]

_log = logging.getLogger(__name__)

_FOLDER = "calibrations"
_NAME = re.compile(r"([0-9]{6})\.yaml")
_LEFT_BEHIND = ".*.tmp"
"""What a write that was killed in the middle leaves; its calibration was never in force."""


@dataclass(frozen=True, slots=True)
class StoredCalibration:
    """A calibration of the state folder, and the sha256 of its text."""

    calibration: Calibration
    sha256: str


class CalibrationStore:
    """`calibrations/<model_sha256>/<version, 6 digits>.yaml`; the highest version is in force.

    A version is there whole or not at all, whenever the process is killed or the power lost, and is never
    written again. Without a state folder it is empty, and keeps nothing.
    """

    def __init__(self, state_dir: Path | None) -> None:
        self._folder = None if state_dir is None else state_dir / _FOLDER

    def in_force(self, model_sha256: str) -> StoredCalibration | None:
        """The highest version for a model, None where there is none; raises `CalibrationDamaged`."""
        versions = self.versions(model_sha256)
        return self.read(model_sha256, versions[-1]) if versions else None

    def versions(self, model_sha256: str) -> tuple[int, ...]:
        """The versions that there are of a model, ascending, be they whole or not."""
        if self._folder is None:
            return ()
        try:
            names = [path.name for path in (self._folder / model_sha256).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise CalibrationDamaged(
                f"{self._folder / model_sha256}: can't be read ({error.strerror}); mend the rights of the "
                "rig's state folder"
            ) from error
        return tuple(sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name))))

    def read(self, model_sha256: str, version: int) -> StoredCalibration:
        """One version; raises `VersionUnknown` where there is none, `CalibrationDamaged` where not whole."""
        versions = self.versions(model_sha256)
        if self._folder is None or version not in versions:
            known = ", ".join(map(str, versions)) or "none"
            raise VersionUnknown(f"the rig's state holds no version {version} for this model; it has {known}")
        path = self._path(self._folder, model_sha256, version)
        try:
            text, digest = read_sealed(path)
            calibration = parse_calibration(text, path, model_sha256)
        except (BundleCorrupt, CalibrationError) as error:
            raise _damaged(path, versions, str(error)) from error
        if calibration.version != version:
            raise _damaged(path, versions, f"says that it is version {calibration.version}")
        return StoredCalibration(calibration, digest)

    def add(self, calibration: Calibration) -> StoredCalibration:
        """Keep a version; it is on disk, and in force, when this returns.

        Raises `CalibrationNotKept` where it can't be written, or is there already; then nothing has changed.
        """
        if self._folder is None:
            raise CalibrationNotKept(
                "the rig has no state folder to keep a calibration in; set daemon.state_dir"
            )
        model, version = calibration.model_sha256, calibration.version
        if version in self.versions(model):
            raise CalibrationNotKept(
                f"version {version} is kept already for this model; ask for the next one"
            )
        path = self._path(self._folder, model, version)
        try:
            _make_folders(path.parent)
            for left in path.parent.glob(_LEFT_BEHIND):
                left.unlink(missing_ok=True)
            write_atomically(path, calibration_text(calibration).encode())
            sync_folder(path.parent)
        except OSError as error:
            raise CalibrationNotKept(
                f"{path}: can't be written ({error.strerror}); see to the disk and the folder's rights, then "
                "ask again"
            ) from error
        _log.info("%s is kept: version %d, threshold %g", path, version, calibration.threshold)
        return self.read(model, version)

    @staticmethod
    def _path(folder: Path, model_sha256: str, version: int) -> Path:
        return folder / model_sha256 / f"{version:06d}.yaml"


def _damaged(path: Path, versions: tuple[int, ...], why: str) -> CalibrationDamaged:
    earlier = [version for version in versions if version < int(path.stem)]
    then = f"version {earlier[-1]}" if earlier else "the calibration of recipe or bundle"
    return CalibrationDamaged(
        f"{path}: is damaged: {why}. Put the file back from a copy; or move it out of its folder: {then} is "
        "in force then, and parts are judged by another threshold"
    )


def _make_folders(folder: Path) -> None:
    """A folder below the state, with its name on disk, too."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in reversed(missing):
        sync_folder(one.parent)
