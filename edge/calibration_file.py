"""The sealed file in which a calibration is kept, beside a model or in a rig's state."""

from __future__ import annotations

from pathlib import Path

import yaml

from edge.calibration import Calibration
from edge.errors import CalibrationError, CalibrationForeign
from edge.sealed import plain_data, read_sealed, seal, write_atomically

__all__ = [
    "CALIBRATION_FILE",
    "calibration_text",
    "parse_calibration",
    "read_calibration",
    "read_sealed_calibration",
    "write_calibration",
]

CALIBRATION_FILE = "calibration.yaml"


def calibration_text(calibration: Calibration) -> str:
    """The whole sealed file of a calibration."""
    return seal(yaml.safe_dump(calibration.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write the sealed `calibration.yaml` of a bundle, the old one or the new one, whole."""
    write_atomically(folder / CALIBRATION_FILE, calibration_text(calibration).encode())


def read_calibration(folder: Path, model_sha256: str) -> Calibration | None:
    """The calibration that lies beside a model, or None where there is none.

    Raises `BundleCorrupt` where the file was changed, `CalibrationError` where it belongs to another model.
    """
    sealed = read_sealed_calibration(folder)
    return None if sealed is None else parse_calibration(sealed[0], folder / CALIBRATION_FILE, model_sha256)


def read_sealed_calibration(folder: Path) -> tuple[str, str] | None:
    """Text and sha256 of the calibration beside a model, None where there is none; raises `BundleCorrupt`."""
    path = folder / CALIBRATION_FILE
    # A link that leads nowhere is a calibration that was lost, not one that never was.
    if not path.exists() and not path.is_symlink():
        return None
    return read_sealed(path)


def parse_calibration(text: str, where: Path | str, model_sha256: str) -> Calibration:
    """What a calibration's text says of the model; `where` it comes from is for the message.

    Raises `CalibrationError`, and `CalibrationForeign` where it is another model's.
    """
    try:
        calibration = Calibration.model_validate(plain_data(text))
    except ValueError as error:  # pydantic's ValidationError is one
        raise CalibrationError(
            f"{where}: is not a calibration that this version can read: {error}; calibrate again"
        ) from error
    if calibration.model_sha256 != model_sha256:
        raise CalibrationForeign(
            f"{where}: was found for model {calibration.model_sha256[:12]}…, this is {model_sha256[:12]}…; "
            "scores of two models can't be compared: calibrate this one"
        )
    return calibration
