"""Zones with a threshold of their own: which thresholds can be found beside them, and the scores at one.

Such a zone's map is scaled by the threshold over the zone's, so a score depends on the threshold that is
sought. Parts are therefore ranked by the lowest threshold at which they pass, and scored once it is known.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from edge.calibrating.scores import KnownParts, some
from edge.errors import CalibrationError

__all__ = ["refuse_unusable", "rescored"]


def refuse_unusable(threshold: float, known: KnownParts) -> None:
    """Raises `CalibrationError` where a threshold can't stand beside zones with thresholds of their own.

    It is infinite where the zones alone reject more good parts than the promise allows, -infinite where too
    little counts outside of them; and must be above 0, since their maps are scaled by it.
    """
    good = known.good
    if threshold == math.inf:
        rejected = Counter(zone for part in good for zone in part.zones)
        by_zone = ", ".join(f"zone {zone!r} rejects {count}" for zone, count in rejected.most_common())
        alone = sum(part.score == math.inf for part in good)
        raise CalibrationError(
            f"zones reject {alone} of {len(good)} good parts by their own thresholds alone, whatever the "
            f"threshold ({by_zone}): more than the promise allows. Raise the zones' thresholds, by other "
            "parts than these"
        )
    if threshold == -math.inf:
        passing = sum(part.score == -math.inf for part in good)
        raise CalibrationError(
            f"of {passing} of {len(good)} good parts nothing counts outside the zones with thresholds of "
            "their own, so no threshold can be found for what lies outside; make the zones smaller, or lower "
            "min_area_mm2"
        )
    if threshold <= 0:
        raise CalibrationError(
            f"the threshold would be {threshold:.4g}, and must be above 0 where a zone has a threshold of "
            "its own: the zone's map is scaled by the two; leave out the zones' thresholds"
        )


def rescored(known: KnownParts, threshold: float, scores: Mapping[str, float | None]) -> KnownParts:
    """The same parts with the scores, by name, that the rig gives them at the threshold that was found.

    Raises `CalibrationError` where one fails by its score and would not by what it was ranked by, or the
    other way round: what is promised would not be what the rig does.
    """
    wrong = [
        part.name
        for part in known.parts
        if (score := scores.get(part.name)) is None or (score > threshold) is not (part.score > threshold)
    ]
    if wrong:
        raise CalibrationError(
            f"{len(wrong)} of {len(known.parts)} parts get another verdict at the threshold {threshold:.6g} "
            f"than they were ranked by ({some(wrong)}): the model gives one part two maps, or a capture was "
            "changed meanwhile. Calibrate again, or leave out the zones' thresholds"
        )
    parts = tuple(replace(part, score=scores[part.name] or 0.0) for part in known.parts)
    return replace(known, parts=parts, zoned=False)
