"""The model bundle: whole, calibrated, signed, and with samples to test the device by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edge.config import RigConfig
from edge.doctor.report import Details, Finding, error, note, ok, warning
from edge.errors import EdgeError
from edge.utc_time import utc_from_text

if TYPE_CHECKING:
    from edge.bundle import Bundle

__all__ = ["in_force", "known_times", "load", "model"]


def load(path: Path, rig: RigConfig | None) -> Bundle | Finding:
    """The bundle, or what is wrong with it; a rig that lists trusted keys takes only what they signed."""
    try:
        from edge.bundle import load_bundle  # noqa: PLC0415

        return load_bundle(path, None if rig is None else rig.read_trusted_keys())
    except ImportError as problem:
        return error(
            "bundle", "bundle", f"{path} can't be looked at: {problem}.", "Mend the Python packages."
        )
    except EdgeError as problem:
        what, _, remedy = str(problem).rpartition("; ")
        return error(
            "bundle",
            "bundle",
            f"{what or problem}.",
            remedy or "Copy the bundle again.",
            path=str(path),
            error=type(problem).__name__,
        )


def in_force(bundle: Bundle, rig: RigConfig, state_dir: Path | None) -> Bundle | Finding:
    """The bundle with the calibration that the rig judges by, found as the daemon finds it; or what is wrong.

    In this order: the highest version for its model in `state_dir`, the recipe's, the bundle's.
    """
    try:
        from edge.calibration_store import CalibrationStore  # noqa: PLC0415
        from edge.recipe_config import RecipeConfig  # noqa: PLC0415
        from edge.recipe_loading import calibrated_bundle, check_rules  # noqa: PLC0415
    except ImportError as problem:  # what runs a model may be what is broken
        return error(
            "bundle",
            "calibration",
            f"Which calibration is in force can't be told: {problem}.",
            "Mend the Python packages.",
        )
    book = rig.recipe_book()
    recipe = book.beginning
    if recipe.bundle != bundle.path:  # the one that was named instead of the rig's
        recipe = RecipeConfig(bundle=bundle.path, trigger=recipe.trigger)
    try:
        found = calibrated_bundle(book.first, bundle, recipe, CalibrationStore(state_dir))
        check_rules(found)
    except EdgeError as problem:
        return error(
            "bundle",
            "calibration",
            f"The rig does not start with this model: {problem}.",
            "Put that right, then ask again; docs/calibration.md says what is in force.",
            error=type(problem).__name__,
            state_dir=None if state_dir is None else str(state_dir),
        )
    return found


def model(bundle: Bundle, rig: RigConfig | None, judged_by: Bundle | Finding) -> Iterator[Finding]:
    """What a bundle that could be loaded is like, and the calibration in force (`in_force`)."""
    manifest = bundle.manifest
    precisions = {stage.name: stage.precision for stage in manifest.stages}
    yield ok(
        "bundle",
        "bundle",
        f"{bundle.product} ({bundle.method}) in {bundle.path} is whole: "
        f"{len(manifest.files)} files, model {bundle.model_sha256[:12]}….",
        path=str(bundle.path),
        product=bundle.product,
        method=bundle.method,
        model_sha256=bundle.model_sha256,
    )
    yield ok(
        "bundle",
        "stages",
        "Stages: " + ", ".join(f"{n} {p}" for n, p in precisions.items()) + ".",
        **precisions,
    )
    samples = len(bundle.golden_files())
    if samples:
        yield ok("bundle", "golden", f"{samples} golden samples to test this device by.", samples=samples)
    else:
        yield warning(
            "bundle",
            "golden",
            "It has no golden samples, so nothing shows that this device computes right.",
            "Export the bundle anew.",
            samples=0,
        )
    yield judged_by if isinstance(judged_by, Finding) else _calibration(judged_by, _source(judged_by, bundle))
    yield _signature(bundle, rig)


def _source(judged_by: Bundle, bundle: Bundle) -> str:
    if judged_by.calibration == bundle.calibration:
        return "the bundle"
    return "the rig's state or its recipe"


def _calibration(bundle: Bundle, source: str) -> Finding:
    found = bundle.calibration
    if found is None:
        return warning(
            "bundle",
            "calibration",
            "It is not calibrated: each part will get `no_decision`.",
            "Export it with held-out good parts, or calibrate it on good parts of this rig.",
        )
    details: Details = {
        "threshold": found.threshold,
        "version": found.version,
        "method": found.method,
        "good_parts": found.good_parts,
        "provisional": found.provisional,
        "calibration_id": found.calibration_id,
        "source": source,
    }
    origin = "set by hand" if found.method == "manual" else f"from {found.good_parts} good parts"
    what = f"The threshold is {found.threshold:.4g}, {origin} (version {found.version}, of {source})"
    if found.provisional:
        return note(
            "bundle",
            "calibration",
            f"{what}, and provisional: without a guarantee.",
            "Calibrate it on good parts of this rig.",
            **details,
        )
    promised = found.promise
    if promised is None:
        return ok("bundle", "calibration", f"{what}.", **details)
    sure = "on average" if promised.confidence is None else f"with {100 * promised.confidence:g} % confidence"
    return ok(
        "bundle",
        "calibration",
        f"{what}: at most {100 * promised.rate:g} % of good parts are rejected, {sure}.",
        **details,
        promised_rate=promised.rate,
        confidence=promised.confidence,
    )


def _signature(bundle: Bundle, rig: RigConfig | None) -> Finding:
    trusts = rig is not None and rig.trusted_keys is not None
    if bundle.signed_by is None:
        return note(
            "bundle",
            "signature",
            "It is not signed: whoever can write to its folder can change the model.",
            "Sign it with edge-export, and list the key in the rig's trusted_keys.",
        )
    key = bundle.signed_by.fingerprint
    if not trusts:
        return note(
            "bundle",
            "signature",
            f"It is signed by key {key}, and the rig lists no trusted keys: it would take another's, too.",
            "List the key in the rig's trusted_keys.",
            key=key,
        )
    return ok("bundle", "signature", f"It is signed by key {key}, which the rig trusts.", key=key)


def known_times(bundle: Bundle) -> Sequence[datetime]:
    """Times that have passed, if the bundle's makers had a clock: the calibration's, and the training's."""
    found = [] if bundle.calibration is None else [bundle.calibration.created_utc]
    trained = bundle.manifest.provenance.get("trained_utc")
    if isinstance(trained, str):
        try:
            time = utc_from_text(trained)
        except ValueError:
            return found
        found += [time] if time.tzinfo is not None else []
    return found
