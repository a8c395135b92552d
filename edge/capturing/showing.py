"""What there is to show while captures are collected, for whoever shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from edge.capturing.events import Event
from edge.capturing.session import Seen
from edge.depth import BackgroundPlane
from edge.scene.tilt import tilt_of, turning

__all__ = ["Shown", "Shows", "bar", "measured_lines", "plane_lines"]


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A moment: the latest frame looked at, and figures by name, for people.

    `prompt` is what the person is to do now, or is told; `trouble` what keeps frames from coming; `keys`
    what the keyboard does.
    """

    seen: Seen | None = None
    lines: tuple[tuple[str, str], ...] = ()
    prompt: str = ""
    trouble: str = ""
    keys: str = ""


class Shows(Protocol):
    """A panel in the terminal, a page in a browser."""

    def show(self, shown: Shown) -> None:
        """The present moment."""

    def tell(self, event: Event) -> None:
        """Something has happened."""


def measured_lines(seen: Seen) -> Iterator[tuple[str, str]]:
    """The figures of a frame."""
    measured, relative = seen.measured, seen.relative_sharpness
    if measured.sharpness is None:
        yield "sharpness", "–"
    elif relative is None:
        yield "sharpness", f"{measured.sharpness:.4f} (compared once three are kept)"
    else:
        yield "sharpness", f"{bar(relative)} {relative:.0%} of the median"
    fill = measured.fill_share
    yield "fill rate", "–" if fill is None else f"{bar(fill)} {fill:.0%} of the part has depth"
    yield "part", f"{measured.area_mm2:.0f} mm²" if measured.has_part else "none"
    if measured.plane is not None:
        yield from plane_lines(measured.plane)


def plane_lines(plane: BackgroundPlane) -> Iterator[tuple[str, str]]:
    """How the camera stands over the tray."""
    turn = turning(*tilt_of(plane))
    yield "distance", f"{plane.distance_m * 1e3:.0f} mm to the tray"
    yield "tilt", f"{plane.tilt_deg:.1f}°" + (f": {turn}" if turn else ", level")


def bar(share: float, cells: int = 12) -> str:
    """A bar of text, full at 1."""
    full = round(min(max(share, 0.0), 1.0) * cells)
    return "█" * full + "░" * (cells - full)
