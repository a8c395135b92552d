"""The threshold of what is shipped: the run's quantile, of the bundle's own scores where it has them."""

from __future__ import annotations

from collections.abc import Mapping

from edge.errors import VerificationFailed
from edge.quantile import quantile_rank

__all__ = ["crossed_scores", "shipped_scores"]


def shipped_scores(
    by_torch: Mapping[str, float], by_onnx: Mapping[str, float], drift: float, false_reject_rate: float
) -> dict[str, float]:
    """The scores of all good parts held out, to take the threshold of: the bundle's own where there are any.

    A run keeps the parts about its threshold, not all of them (`by_onnx`). For the others torch's score
    stands in; that decides nothing as long as they are farther from the threshold than any score was seen
    to drift. Raises `VerificationFailed` where one is not.
    """
    merged = {name: by_onnx.get(name, score) for name, score in by_torch.items()}
    threshold = sorted(merged.values())[quantile_rank(len(merged), false_reject_rate) - 1]
    near = [name for name in by_torch if name not in by_onnx and abs(by_torch[name] - threshold) <= drift]
    if near:
        raise VerificationFailed(
            f"scores drift by up to {drift:.3g}, and {len(near)} good parts, {sorted(near)[0]} for one, lie "
            f"that near to the threshold {threshold:.6g} without being golden samples of the run: it can't "
            "be carried over; export the stages in a finer precision (--precision)"
        )
    return merged


def crossed_scores(by_folds: Mapping[str, float], drift: float) -> dict[str, float]:
    """The scores of good parts by the models of their folds, to take the threshold of.

    Those models are not shipped, so the bundle has no scores to put in their place; each score is raised by
    the most that the bundle's were seen to drift from torch's, for it may drift so far below.
    """
    return {name: score + drift for name, score in by_folds.items()}
