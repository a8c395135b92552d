"""What was found, as the calibration that goes beside a model."""

from __future__ import annotations

import getpass
import socket
from datetime import datetime

from edge.calibrating.fitting import Fit
from edge.calibration import MAX_CAPTURES, Calibration
from edge.conformal import finite_scores
from edge.quantile import some_of
from edge.region_rules import RegionRules

__all__ = ["calibration_of", "this_person"]

_MOST_NOTE = 1000
_MOST_NAME = 200


def calibration_of(
    fit: Fit,
    *,
    model_sha256: str,
    replaces: str | None,
    created_utc: datetime,
    created_by: str,
    note: str | None = None,
    rules: RegionRules | None = None,
) -> Calibration:
    """The calibration of a model, which had `replaces` before.

    The rate in it is what is promised, be it less than asked for.
    """
    promise = fit.promise
    captures = sorted({part.capture_sha256 for part in fit.known.parts if part.capture_sha256 is not None})
    told = " ".join(filter(None, (note, fit.sentence + ".", *(f"{text}." for text in fit.warnings))))
    return Calibration(
        calibration_id=f"{created_utc:%Y%m%dT%H%M%SZ}-{fit.method.replace('_', '-')}",
        model_sha256=model_sha256,
        threshold=fit.threshold,
        review_threshold=fit.review_threshold,
        method=fit.method,
        provisional=False,
        false_reject_rate=promise.asked_alpha if promise.kept else promise.alpha,
        confidence=None if promise.delta is None else 1 - promise.delta,
        good_rate_interval=fit.rate_interval,
        good_parts=promise.parts,
        bad_parts=len(fit.known.bad),
        created_utc=created_utc,
        created_by=created_by[:_MOST_NAME],
        replaces=replaces,
        note=told if len(told) <= _MOST_NOTE else told[: _MOST_NOTE - 1] + "…",
        region_rules=rules,
        good_scores=some_of(finite_scores([part.score for part in fit.known.good])),
        captures=tuple(captures[:MAX_CAPTURES]),
    )


def this_person() -> str:
    """Who calls, as user@host; of a user without a name, the host alone."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return socket.gethostname() or "unknown"
    return f"{user}@{socket.gethostname()}"
