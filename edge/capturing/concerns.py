"""What speaks against keeping a frame, and how to mend it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from edge.capturing.measuring import Measured

__all__ = ["Concern", "Limits", "Worry", "relative_sharpness", "worries_about"]

_LEAST_FOR_MEDIAN = 3


class Concern(str, Enum):
    """One word for each thing that may be wrong with a frame."""

    STALE = "stale"
    NO_DEPTH = "no_depth"
    NO_PART = "no_part"
    BEYOND_VIEW = "beyond_view"
    BLURRED = "blurred"
    LOW_FILL = "low_fill"
    OVEREXPOSED = "overexposed"
    UNDEREXPOSED = "underexposed"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Worry:
    """A concern, and the sentence for people."""

    concern: Concern
    text: str


@dataclass(frozen=True, slots=True)
class Limits:
    """`sharpness` is a share of the median of what was kept, `fill` a share of the part that has depth,
    `clipped` one of the part's pixels that are at an end of the scale."""

    sharpness: float = 0.6
    fill: float = 0.6
    clipped: float = 0.02
    part_height_m: float = 0.004


def worries_about(
    measured: Measured, kept_sharpness: Sequence[float], same_as: str | None, limits: Limits
) -> tuple[Worry, ...]:
    """All that speaks against a frame, the worst first.

    `kept_sharpness` of the captures so far, in any order, by whose median blur is told; `same_as` the capture
    that shows the same.
    """
    worries: list[Worry] = []

    def add(concern: Concern, text: str) -> None:
        worries.append(Worry(concern, text))

    if measured.frame.stale is not None:
        add(Concern.STALE, f"not what is under the camera now: {measured.frame.stale}")
    if measured.unusable is not None:
        add(Concern.NO_DEPTH, measured.unusable)
    elif not measured.has_part:
        add(
            Concern.NO_PART,
            f"no part found: nothing stands {limits.part_height_m * 1e3:g} mm above the tray; lay one down, "
            "or lower --part-height-mm",
        )
    if measured.at_border:
        add(
            Concern.BEYOND_VIEW,
            "the part reaches beyond the view; move it to the middle, or hang the camera higher",
        )
    fill = measured.fill_share
    if fill is not None and fill < limits.fill:
        add(
            Concern.LOW_FILL,
            f"only {fill:.0%} of the part has depth, {limits.fill:.0%} is asked for; more or softer light, "
            "less gloss, or another distance",
        )
    if measured.bright_share > limits.clipped:
        add(
            Concern.OVEREXPOSED,
            f"{measured.bright_share:.0%} is overexposed; lower camera.options.exposure_us or the light, "
            "avoid glints",
        )
    if measured.dark_share > limits.clipped:
        add(
            Concern.UNDEREXPOSED,
            f"{measured.dark_share:.0%} is black; raise camera.options.exposure_us or the light",
        )
    relative = relative_sharpness(measured.sharpness, kept_sharpness)
    if relative is not None and relative < limits.sharpness:
        add(
            Concern.BLURRED,
            f"blurred: {relative:.0%} of the median sharpness of what was kept; let it come to rest, shorten "
            "the exposure, check focus and lens",
        )
    if same_as is not None:
        add(Concern.SAME, f"nearly the same as {same_as}; lay down another part, or turn this one")
    return tuple(worries)


def relative_sharpness(sharpness: float | None, kept: Sequence[float]) -> float | None:
    """As a share of the median of `kept`; None without a part, or before there are enough to have one."""
    if sharpness is None or len(kept) < _LEAST_FOR_MEDIAN:
        return None
    middle = statistics.median(kept)
    return sharpness / middle if middle > 0 else None
