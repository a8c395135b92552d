"""From parts whose truth is known, and what is asked for, to a threshold and what it promises."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

from edge.calibrating.lots import LotTest, new_lot_threshold, test_lots, worst_lot_threshold
from edge.calibrating.scores import KnownParts
from edge.calibrating.tradeoff import (
    Costs,
    CurvePoint,
    Rate,
    cheapest_threshold,
    curve,
    measured_rate,
    weaker_alpha,
)
from edge.calibrating.zones import refuse_unusable
from edge.conformal import (
    Promise,
    finite_scores,
    marginal_promise,
    ranked_scores,
    rate_interval,
    training_conditional_promise,
)
from edge.errors import CalibrationError

__all__ = ["Asked", "Fit", "Lots", "fit"]


class Lots(str, Enum):
    """What is promised of parts that come in lots."""

    POOLED = "pooled"
    WORST = "worst"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asks of a threshold; `delta` None asks for the promise on average (marginal).

    `costs` chooses the cheapest threshold among those that keep the promise, or with `weaken` among all.
    """

    alpha: float
    delta: float | None
    best_effort: bool = False
    lots: Lots = Lots.POOLED
    review_alpha: float | None = None
    costs: Costs | None = None
    weaken: bool = False


@dataclass(frozen=True, slots=True)
class Fit:
    """A threshold, what it promises, and what it did to the parts that it was found on.

    `rate_interval`: where the true false-reject rate lies, with 95 %. `rejected` of the good parts, `found`
    of the bad ones, in all and by defect.
    """

    asked: Asked
    known: KnownParts
    threshold: float
    promise: Promise
    method: Literal["conformal", "conformal_marginal"]
    rate_interval: tuple[float, float]
    rejected: Rate
    found: Rate | None
    found_by_defect: dict[str, Rate]
    curve: tuple[CurvePoint, ...]
    review_threshold: float | None
    review_promise: Promise | None
    lot_test: LotTest | None
    warnings: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The promise in words, lots included."""
        said = self.promise.sentence
        if self.asked.lots is Lots.WORST:
            return f"{said}; of each of the lots that were seen, of all at once"
        if self.asked.lots is Lots.NEW:
            return f"{said}; also of a lot that was not seen, if it comes as these did"
        return said


def fit(known: KnownParts, asked: Asked) -> Fit:
    """Find the threshold; raises `CalibrationError` where what is asked for can't be promised."""
    good = (ranked_scores if known.zoned else finite_scores)([part.score for part in known.good])
    bad = [part.score for part in known.bad]
    _check(asked, bad, zoned=known.zoned)
    warnings = list(known.warnings)
    lots = [part.lot or "" for part in known.good]
    tested = test_lots([part.score for part in known.good], lots)
    if tested is not None and tested.differ and asked.lots is Lots.POOLED:
        warnings.append(
            f"the lots differ (p = {tested.p_value:.3g}): {tested.lot!r} most, its median by "
            f"{tested.median_shift:+.3g}. The promise is of parts that come from these lots in these shares; "
            "--lots worst promises it of each of them, --lots new of a lot that was not seen"
        )
    threshold, promise = _promised(known, asked, asked.alpha)
    if known.zoned:
        refuse_unusable(threshold, known)
    if not promise.kept:
        warnings.append(f"best effort: {promise.sentence}; asked for were {100 * asked.alpha:g} %")
    if asked.costs is not None:
        threshold, promise, said = _cheapest(known, asked, threshold, promise)
        warnings += said
        if known.zoned:
            refuse_unusable(threshold, known)
    review = review_promise = None
    if asked.review_alpha is not None:
        review, review_promise = _promised(known, asked, asked.review_alpha)
        if review >= threshold:
            raise CalibrationError(
                f"a review band of {100 * asked.review_alpha:g} % begins at {review:.4g}, not below the "
                f"threshold {threshold:.4g}: raise --review-alpha, or leave it out"
            )
    above = int((good > threshold).sum())
    return Fit(
        asked=asked,
        known=known,
        threshold=threshold,
        promise=promise,
        method="conformal_marginal" if promise.delta is None else "conformal",
        rate_interval=rate_interval(promise.parts, promise.rank),
        rejected=measured_rate(above, good.size),
        found=measured_rate(sum(score > threshold for score in bad), len(bad)) if bad else None,
        found_by_defect=_by_defect(known, threshold),
        curve=curve(good.tolist(), bad, asked.costs),
        review_threshold=review,
        review_promise=review_promise,
        lot_test=tested,
        warnings=tuple(warnings),
    )


def _check(asked: Asked, bad: list[float], *, zoned: bool) -> None:
    if any(math.isnan(score) or (not zoned and math.isinf(score)) for score in bad):
        raise CalibrationError("a score of a bad part is NaN or infinite; export the model anew")
    if asked.weaken and asked.costs is None:
        raise CalibrationError("--weaken lets --costs go below the promise; give --costs, or leave it out")
    if asked.weaken and (asked.lots is not Lots.POOLED or asked.delta is None):
        raise CalibrationError(
            "--weaken knows what is left of a promise with confidence of all lots together; leave out --lots "
            "and --marginal"
        )
    if asked.review_alpha is not None and asked.review_alpha <= asked.alpha:
        raise CalibrationError(
            f"--review-alpha {asked.review_alpha:g} must be above --alpha {asked.alpha:g}: more good parts "
            "are looked at than rejected"
        )
    if asked.review_alpha is not None and zoned:
        raise CalibrationError(
            "--review-alpha finds no band where a zone has a threshold of its own: its map is scaled by the "
            "threshold that is found, so how many parts score in a band below it can't be promised; leave "
            "out the one or the other"
        )
    if asked.lots is Lots.WORST and asked.delta is None:
        raise CalibrationError("--lots worst promises with confidence; leave out --marginal")


def _promised(known: KnownParts, asked: Asked, alpha: float) -> tuple[float, Promise]:
    scores = [part.score for part in known.good]
    if asked.lots is not Lots.POOLED:
        lots = [part.lot for part in known.good]
        if any(lot is None for lot in lots):
            raise CalibrationError(
                f"--lots {asked.lots.value}: {lots.count(None)} of {len(lots)} good parts name no lot; name "
                "it for each, in the column lot, or by a folder of captures for each lot"
            )
        names = [str(lot) for lot in lots]
        if asked.lots is Lots.NEW:
            return new_lot_threshold(scores, names, alpha, best_effort=asked.best_effort)
        return worst_lot_threshold(scores, names, alpha, asked.delta or 0.0, best_effort=asked.best_effort)
    values = ranked_scores(scores)
    promise = (
        marginal_promise(values.size, alpha, best_effort=asked.best_effort)
        if asked.delta is None
        else training_conditional_promise(values.size, alpha, asked.delta, best_effort=asked.best_effort)
    )
    return float(values[promise.rank - 1]), promise


def _cheapest(
    known: KnownParts, asked: Asked, threshold: float, promise: Promise
) -> tuple[float, Promise, list[str]]:
    """The cheapest threshold, the promise that it has, and what must be said of it."""
    good, bad = [part.score for part in known.good], [part.score for part in known.bad]
    costs = asked.costs
    if costs is None:
        raise CalibrationError("there are no costs to choose by; give --costs")
    kept = cheapest_threshold(good, bad, costs, at_least=threshold)
    best = cheapest_threshold(good, bad, costs)
    if best.threshold >= threshold:
        return kept.threshold, promise, []
    if not asked.weaken:
        return (
            kept.threshold,
            promise,
            [
                f"the promise costs something: {best.threshold:.4g} would be cheaper as measured "
                f"({best.cost_per_part:.3g} a part, {kept.cost_per_part:.3g} with the promise), and reject "
                f"{100 * best.rejected_good:.3g} % of the good parts; --weaken takes it"
            ],
        )
    values = ranked_scores(good)
    rank = int((values <= best.threshold).sum())
    if rank == 0:
        raise CalibrationError(
            "the cheapest threshold rejects every good part, of which nothing can be promised; mend --costs"
        )
    delta = asked.delta or 0.0
    weaker = replace(promise, rank=rank, alpha=weaker_alpha(values.size, rank, delta), delta=delta)
    return best.threshold, weaker, [f"weakened for its costs: {weaker.sentence}"]


def _by_defect(known: KnownParts, threshold: float) -> dict[str, Rate]:
    names = sorted({part.defect or "bad" for part in known.bad})
    scores = {name: [part.score for part in known.bad if (part.defect or "bad") == name] for name in names}
    return {
        name: measured_rate(sum(score > threshold for score in found), len(found))
        for name, found in scores.items()
    }
