"""From the calibration in force to the next: judged first, kept on disk, and only then to be inspected by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import ValidationError

from edge.bundle import Bundle
from edge.calibration import Calibration
from edge.calibration_file import parse_calibration
from edge.calibration_store import CalibrationStore
from edge.errors import CalibrationError, CalibrationFixed, RecipeOvertaken, VersionMismatch
from edge.recipe_loading import VerifiedRecipe, check_rules
from edge.sealed import unsealed

__all__ = ["Change", "Recalibration", "by_hand", "found_elsewhere", "rolled_back"]

Change = Callable[[Bundle, CalibrationStore, int], Calibration]
"""Makes a calibration of that version for a bundle with the one in force; raises `CalibrationError`."""


@dataclass(frozen=True, slots=True)
class Recalibration:
    """A change of the calibration of the model that ran when it was asked for.

    `expected_version` is the one that who asks believes to be in force, 0 for none.
    """

    model_sha256: str
    expected_version: int
    change: Change

    def apply(self, running: VerifiedRecipe, store: CalibrationStore) -> VerifiedRecipe:
        """The running recipe with the next calibration, which is on disk, and in force at the next start.

        Raises `RecipeOvertaken` where another model runs by now, `CalibrationFixed`, `VersionMismatch`, what
        the change raises, and `CalibrationNotKept`; then all is as it was.
        """
        bundle, recipe = running.bundle, running.config
        if bundle.model_sha256 != self.model_sha256:
            raise RecipeOvertaken(
                f"recipe {running.name} with another model was gone over to meanwhile; look at what is in "
                "force now, and ask again"
            )
        if recipe.threshold is not None:
            raise CalibrationFixed(
                f"the rig's YAML sets the threshold of recipe {running.name} to {recipe.threshold:g}; take "
                "`threshold` out of it and reload, then it can be changed by command"
            )
        before = bundle.calibration
        in_force = 0 if before is None else before.version
        if self.expected_version != in_force:
            raise VersionMismatch(
                f"version {in_force} is in force, not {self.expected_version}; look at it, and ask again "
                f"with expected_version {in_force}"
            )
        kept = store.versions(bundle.model_sha256)
        made = self.change(bundle, store, max((in_force, *kept)) + 1)
        check_rules(replace(bundle, calibration=made))
        if before is not None and in_force not in kept:
            store.add(before)  # the one that came with the bundle: to be gone back to
        stored = store.add(made)
        return replace(
            running,
            bundle=replace(bundle, calibration=stored.calibration, calibration_sha256=stored.sha256),
        )


def by_hand(
    threshold: float, review_threshold: float | None, *, note: str | None, who: str, now: datetime
) -> Change:
    """A person's numbers; region rules and scores stay, and nothing is promised any more."""

    def change(bundle: Bundle, _store: CalibrationStore, version: int) -> Calibration:
        before = bundle.calibration
        if before is None:
            raise CalibrationError(
                f"{bundle.path}: has no calibration whose number could be changed; calibrate it on good "
                "parts of this rig first"
            )
        try:
            return before.by_hand(
                threshold,
                review_threshold,
                calibration_id=f"{now:%Y%m%dT%H%M%SZ}-manual-{version}",
                changes={
                    "version": version,
                    "created_utc": now,
                    "created_by": who,
                    "replaces": before.calibration_id,
                    "note": note,
                },
            )
        except ValidationError as error:
            mistakes = "; ".join(mistake["msg"] for mistake in error.errors(include_url=False))
            raise CalibrationError(f"the threshold is refused: {mistakes}") from error

    return change


def found_elsewhere(sealed: str) -> Change:
    """A calibration that somebody found for this model, as the text of its sealed file."""

    def change(bundle: Bundle, _store: CalibrationStore, version: int) -> Calibration:
        where = "the calibration that was sent"
        text, _ = unsealed(sealed.encode(), where)
        found = parse_calibration(text, where, bundle.model_sha256)
        before = bundle.calibration
        replaces = None if before is None else before.calibration_id
        return found.model_copy(update={"version": version, "replaces": replaces})

    return change


def rolled_back(to_version: int, *, who: str) -> Change:
    """What an earlier version said, as a new version."""

    def change(bundle: Bundle, store: CalibrationStore, version: int) -> Calibration:
        before = bundle.calibration
        if before is not None and before.version == to_version:
            earlier = before
        else:
            earlier = store.read(bundle.model_sha256, to_version).calibration
        return earlier.model_copy(
            update={
                "version": version,
                "replaces": None if before is None else before.calibration_id,
                "note": f"version {to_version} again, by {who}",
            }
        )

    return change
