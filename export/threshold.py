"""The threshold of what is shipped: the run's quantile, taken of the bundle's own scores."""

from __future__ import annotations

from collections.abc import Mapping

from edge.errors import VerificationFailed
from edge.quantile import quantile_rank

__all__ = ["shipped_scores"]


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
