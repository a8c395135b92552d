"""What a rig's state holds of one model's verdicts and their labels, up to the next calibration."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from edge.bundle import Bundle
from edge.calibrating.fitting import Asked, fit
from edge.calibrating.gathering import Calibrated
from edge.calibrating.labelled import LabelledStretch, RulesOf, labelled_parts
from edge.calibrating.page import closest
from edge.calibrating.record import calibration_of
from edge.calibrating.scores import once_per_part
from edge.calibration import Calibration
from edge.calibration_store import CalibrationStore
from edge.errors import CalibrationError, VersionUnknown
from edge.messages import PictureKind
from edge.outbox_ledger import Ledger
from edge.region_rules import RegionRules

__all__ = ["calibrate_labelled", "rules_by_calibration"]

_OVERRULED = "+rig"
"""What is added to a calibration's id where a recipe overrules its threshold: the rules stay."""


def calibrate_labelled(
    state_dir: Path,
    bundle: Bundle,
    stretch: LabelledStretch,
    asked: Asked,
    *,
    dedupe: bool,
    created_utc: datetime,
    created_by: str,
    note: str | None = None,
) -> Calibrated:
    """Find a threshold by what a rig's state holds of `bundle`'s model, by the region rules of the rig now.

    The pictures are the heatmaps that the outbox still has. Raises `CalibrationError`, `OutboxError`.
    """
    store, model_sha256 = CalibrationStore(state_dir), bundle.model_sha256
    bundled = bundle.calibration
    stored = store.in_force(model_sha256)
    replaces = bundled if stored is None else stored.calibration
    rules = _rules_now(store, model_sha256, bundled)
    rules_of = rules_by_calibration(store, model_sha256, () if bundled is None else (bundled,))
    with Ledger(_outbox_of(state_dir)) as ledger:
        known = labelled_parts(ledger, stretch, rules, rules_of)
        found = fit(once_per_part(known, dedupe=dedupe), asked)
        calibration = calibration_of(
            found,
            model_sha256=model_sha256,
            replaces=None if replaces is None else replaces.calibration_id,
            created_utc=created_utc,
            created_by=created_by,
            note=note,
            rules=rules,
        )
        pictures = _heatmaps_of(ledger, (part.name for group in closest(found) for part in group))
    return Calibrated(found, calibration, pictures)


def rules_by_calibration(
    store: CalibrationStore, model_sha256: str, bundled: Iterable[Calibration]
) -> RulesOf:
    """By what the rig's state holds of a model, and what came with the model; raises `VersionUnknown`."""
    of_bundle = {calibration.calibration_id: calibration.region_rules for calibration in bundled}
    stored = {
        (kept.calibration.calibration_id, version): kept.calibration.region_rules
        for version in store.versions(model_sha256)
        for kept in (store.read(model_sha256, version),)
    }

    def rules_of(calibration_id: str | None, version: int | None) -> RegionRules | None:
        known = (calibration_id or "").removesuffix(_OVERRULED)
        if version is not None and (known, version) in stored:
            return stored[known, version]
        if known in of_bundle:
            return of_bundle[known]
        raise VersionUnknown(f"calibration {calibration_id} (version {version}) is not kept here")

    return rules_of


def _rules_now(store: CalibrationStore, model_sha256: str, bundled: Calibration | None) -> RegionRules | None:
    """By which the rig scores now.

    Raises `CalibrationError` where a zone's own threshold is scaled by the one that is to be found.
    """
    stored = store.in_force(model_sha256)
    calibration = bundled if stored is None else stored.calibration
    rules = None if calibration is None else calibration.region_rules
    if rules is not None and rules.scales:
        raise CalibrationError(
            "the rig scores by a zone with a threshold of its own, which is scaled by the one that is to be "
            "found; calibrate on captures, with --rules"
        )
    return rules


def _heatmaps_of(ledger: Ledger, names: Iterable[str]) -> dict[str, bytes]:
    """The heatmaps (JPEG) that the outbox still has of these verdicts."""
    found = {}
    for name in names:
        for info in ledger.pictures_of(name):
            data = ledger.picture(info) if info.kind is PictureKind.HEATMAP else None
            if data is not None:
                found[name] = data
    return found


def _outbox_of(state_dir: Path) -> Path:
    """Where the outbox lies in a rig's state; raises `CalibrationError` where there is none."""
    folder = state_dir / "outbox"
    if not folder.is_dir():
        raise CalibrationError(
            f"{state_dir}: holds no outbox; name the rig's state folder (daemon.state_dir), such as "
            "/var/lib/edge-inspect/line-3"
        )
    return folder
