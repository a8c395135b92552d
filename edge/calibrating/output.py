"""Where a calibration goes: a new folder with all that belongs to it, or into the bundle."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

from edge.bundle import load_bundle
from edge.calibrating.scores import ScoredPart
from edge.calibration import Calibration
from edge.calibration_file import write_calibration
from edge.errors import CalibrationError, ConfigError
from edge.sealed import write_atomically

__all__ = ["PAGE_FILE", "check_folder", "install", "write_folder", "write_page"]

PAGE_FILE = "calibration.html"
_SCORES_FILE = "scores.csv"


def check_folder(folder: Path) -> None:
    """Raises `ConfigError` where `write_folder` would; to be called before the work."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--out {folder}: holds something already; name a new folder")


def write_folder(
    folder: Path, page: str, parts: tuple[ScoredPart, ...], calibration: Calibration | None
) -> None:
    """Write page, scores and calibration.yaml (where there is one) into a new folder, whole or not at all.

    Raises `ConfigError`.
    """
    check_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            draft = Path(temporary) / folder.name
            draft.mkdir()
            (draft / PAGE_FILE).write_text(page, encoding="utf-8")
            (draft / _SCORES_FILE).write_text(_table(parts), encoding="utf-8")
            if calibration is not None:
                write_calibration(draft, calibration)
            draft.rename(folder)
    except OSError as error:
        raise ConfigError(
            f"--out {folder}: can't be written ({error.strerror}); name another folder, or make room"
        ) from error


def write_page(path: Path, page: str) -> None:
    """Write a page, the old one or the new one; raises `ConfigError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, page.encode())
    except OSError as error:
        raise ConfigError(f"{path}: can't be written ({error.strerror}); name another file") from error


def install(bundle: Path, calibration: Calibration) -> None:
    """Put a calibration into the bundle that it was found for, in the place of the one that is there.

    Raises `CalibrationError` where it is another model's, where the bundle is signed (its signature is of
    the calibration, too), or it can't be written; what `load_bundle` does.
    """
    loaded = load_bundle(bundle)
    if loaded.model_sha256 != calibration.model_sha256:
        raise CalibrationError(
            f"the calibration was found for model {calibration.model_sha256[:12]}…, {bundle} is "
            f"{loaded.model_sha256[:12]}…; scores of two models can't be compared: calibrate this one"
        )
    if loaded.signed_by is not None:
        raise CalibrationError(
            f"{bundle}: is signed, and its signature holds for the calibration that it has; remove "
            "signature.yaml, install, and have the bundle signed anew with `edge-export sign`"
        )
    try:
        write_calibration(bundle, calibration)
    except OSError as error:
        raise CalibrationError(
            f"{bundle}: can't be written ({error.strerror}); nothing is changed"
        ) from error


def _table(parts: tuple[ScoredPart, ...]) -> str:
    """The scores as `edge-calibrate fit --scores` reads them."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["score", "label", "lot", "part"])
    for part in parts:
        label = "good" if part.good else part.defect or "bad"
        rows.writerow([repr(part.score), label, part.lot or "", part.part or part.name])
    return text.getvalue()
