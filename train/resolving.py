"""What a plan leaves to the training parts: thresholds from the bed's noise, the window from their size."""

from __future__ import annotations

from collections.abc import Sequence

from edge.camera.sample import Sample
from edge.preprocessing import Preprocessing
from train.bed import PARTS_LOOKED_AT, bed_of
from train.good_parts import Progress
from train.plans import PreprocessingPlan
from train.views import largest_part_px

__all__ = ["resolve_plan"]


def resolve_plan(samples: Sequence[Sample], plan: PreprocessingPlan, progress: Progress) -> Preprocessing:
    """The preprocessing that the device is given: each `auto` of the plan as a number.

    `samples` are the good parts to train on. Raises `DatasetError`, naming the file, where one can't be
    read, its background can't be found, or nothing stands above it.
    """
    bed = None
    if plan.foreground.is_open:
        with progress.task("noise of the bed", min(PARTS_LOOKED_AT, len(samples))) as advance:
            bed = bed_of(samples, plan.foreground.border_share, advance)
    foreground = plan.foreground.resolve(bed)
    if plan.framing.mode != "part" or plan.framing.window_px != "auto":
        return plan.resolve(foreground, None)
    framing = plan.framing.model_copy(update={"mode": "whole"})
    whole = plan.model_copy(update={"framing": framing}).resolve(foreground, None)
    with progress.task("size of the parts", len(samples)) as advance:
        longest = largest_part_px(samples, whole, plan.framing.upright, advance)
    return plan.resolve(foreground, 16 * max(1, round(longest * plan.framing.margin / 16)))
