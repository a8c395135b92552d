"""What a configuration leaves to the training parts: thresholds, the window, the angles they are shown at."""

from __future__ import annotations

from collections.abc import Sequence

from edge.camera.sample import Sample
from edge.preprocessing import Preprocessing
from train.bed import PARTS_LOOKED_AT, bed_of
from train.config import MethodConfig
from train.directions import jitter_of, spread_deg
from train.good_parts import Progress
from train.plans import PreprocessingPlan
from train.uprightness import PARTS_LOOKED_AT as UPRIGHT_PARTS
from train.uprightness import choose_upright
from train.views import largest_part_px

__all__ = ["measure_jitter", "resolve_plan"]


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
    framing = plan.framing
    if framing.mode != "part":
        return plan.resolve(foreground, None)
    whole = plan.model_copy(update={"framing": framing.model_copy(update={"mode": "whole"})}).resolve(
        foreground, None
    )
    upright = framing.upright
    if upright == "auto":
        with progress.task("how parts lie", min(UPRIGHT_PARTS, len(samples))) as advance:
            upright, _ = choose_upright(samples, whole, advance)
    if framing.window_px != "auto":
        return plan.resolve(foreground, None, upright)
    with progress.task("size of the parts", len(samples)) as advance:
        longest = largest_part_px(samples, whole, upright, advance)
    return plan.resolve(foreground, 16 * max(1, round(longest * framing.margin / 16)), upright)


def measure_jitter(
    samples: Sequence[Sample],
    method: MethodConfig,
    preprocessing: Preprocessing,
    progress: Progress,
) -> tuple[float, ...] | None:
    """The small angles for what the method leaves to the parts; None where it leaves nothing to them.

    `samples` are the good parts to train on. Raises `DatasetError`, naming the file.
    """
    if not method.is_open:
        return None
    with progress.task("how directions differ", min(UPRIGHT_PARTS, len(samples))) as advance:
        return jitter_of(spread_deg(samples, preprocessing, advance))
