"""Which captures a model has seen: a file in its bundle, so that none of them calibrates it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.bundle import Bundle
from edge.errors import BundleInvalid

__all__ = ["TRAINED_ON_FILE", "TrainedOn", "trained_on"]

TRAINED_ON_FILE = "trained_on.json"

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TrainedOn(BaseModel):
    """The sha256 of the colour pictures that a model was fitted to (`train`), and of those held out.

    What was held out has chosen when to stop and, with some methods, scaled the map: less than fitted, but
    not unseen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: tuple[_Sha256, ...]
    held_out: tuple[_Sha256, ...]


def trained_on(bundle: Bundle) -> TrainedOn | None:
    """What the bundle says of it, None where it says nothing; raises `BundleInvalid`, `BundleCorrupt`."""
    if TRAINED_ON_FILE not in bundle.manifest.files:
        return None
    try:
        return TrainedOn.model_validate_json(bundle.read(TRAINED_ON_FILE))
    except ValidationError as error:
        raise BundleInvalid(
            f"{bundle.path / TRAINED_ON_FILE}: is no list of captures ({error.errors()[0]['msg']}); export "
            "the bundle anew"
        ) from error
