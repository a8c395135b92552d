"""Learning the empty tray, with the camera's tilt shown meanwhile, to level it by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edge.camera.source import FrameSource
from edge.capturing.keys import Key, Keyboard
from edge.capturing.measuring import foreground_for, measure
from edge.capturing.session import Seen
from edge.capturing.showing import Shown, Shows, bar, plane_lines
from edge.clock import utc_now
from edge.errors import CameraAway, CameraError, CameraStalled, FrameError, SceneError
from edge.frame import Frame
from edge.scene.look import look_at
from edge.scene.tray import Tray, learn_tray, told_of, write_tray
from edge.sealed import write_atomically

__all__ = ["TrayLearner", "replace_tray"]

_LIVE_READ_S = 0.5


class TrayLearner:
    """Shows how the camera stands over the tray until somebody says it is empty and level; then learns it.

    Without a keyboard it is learnt from the first frames. `part_height_m` is what must not stand on it.
    """

    def __init__(
        self,
        source: FrameSource,
        *,
        frames: int,
        part_height_m: float,
        live: bool,
        read_s: float,
        keyboard: Keyboard | None,
        shows: Sequence[Shows],
    ) -> None:
        self._source = source
        self._count = frames
        self._part_height_m = part_height_m
        self._foreground = foreground_for(part_height_m)
        self._live = live
        self._read_s = _LIVE_READ_S if live else read_s
        self._keyboard = keyboard
        self._shows = shows
        self._taken: list[Frame] | None = None if keyboard is not None else []
        self._stopped = False
        self._trouble = ""

    def stop(self) -> None:
        """End soon; safe in a signal handler."""
        self._stopped = True

    def run(self) -> Tray | None:
        """The tray; None where it was ended before. Raises `SceneError` and what the source raises."""
        while not self._stopped:
            for press in self._keyboard.pressed() if self._keyboard is not None else ():
                if press.key is Key.END:
                    return None
                if press.key is Key.TAKE:
                    self._taken, self._trouble = [], ""
            frame = self._read()
            if frame is None:
                continue
            self._show(frame)
            if self._taken is not None and frame.stale is None:
                self._taken.append(frame)
                if len(self._taken) >= self._count and (tray := self._learnt(self._taken)) is not None:
                    return tray
        return None

    def _read(self) -> Frame | None:
        try:
            frame = self._source.read(self._read_s)
        except (CameraAway, FrameError) as error:
            self._show_trouble(str(error))
            return None
        except CameraStalled as error:
            if not self._live:
                raise
            self._show_trouble(str(error))
            return None
        if frame is None:
            taken = len(self._taken or ())
            raise CameraError(
                f"{self._source.name}: has ended after {taken} of {self._count} frames of the tray"
            )
        return frame

    def _learnt(self, frames: list[Frame]) -> Tray | None:
        """None where something was wrong with it, and a person is there to mend that."""
        try:
            return learn_tray(frames, now=utc_now(), part_threshold_m=self._part_height_m)
        except SceneError as error:
            if self._keyboard is None:
                raise
            self._taken, self._trouble = None, str(error)
            return None

    def _show(self, frame: Frame) -> None:
        measured = measure(frame, self._foreground)
        seen = Seen(measured, (), None)
        trouble = self._trouble or measured.unusable or ""
        shown = Shown(seen, tuple(self._lines(seen)), self._prompt(), trouble, self._keys())
        for shows in self._shows:
            shows.show(shown)

    def _show_trouble(self, trouble: str) -> None:
        for shows in self._shows:
            shows.show(Shown(trouble=trouble, keys=self._keys()))

    def _lines(self, seen: Seen) -> Iterator[tuple[str, str]]:
        measured = seen.measured
        if measured.plane is not None:
            yield from plane_lines(measured.plane)
        look = look_at(measured.frame, measured.plane, None)
        if look is not None:
            figures = look.figures
            yield "fill rate", f"{bar(figures.fill_share)} {figures.fill_share:.0%} of the tray has depth"
            yield "light", f"{figures.light.luma:.0f} of 255, {figures.light.clipped_share:.1%} clipped"
            if figures.plane is not None:
                yield "noise", f"{figures.plane.noise_mm:.2f} mm"
        yield "on it", f"something of {measured.area_mm2:.0f} mm²" if measured.has_part else "nothing"

    def _prompt(self) -> str:
        if self._taken is not None:
            return f"learning: {len(self._taken)} of {self._count} frames"
        return "level the camera and clear the tray, then press space"

    def _keys(self) -> str:
        return "space learns · q ends" if self._keyboard is not None else "Ctrl-C ends"


def replace_tray(tray: Tray, path: Path) -> Path | None:
    """Write the tray; one that was there is copied beside it first, and that copy's path returned.

    Raises `SceneError`.
    """
    copy = None
    with told_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            copy = path.with_name(f"{path.stem}-until-{tray.learnt_utc:%Y%m%dT%H%M%SZ}{path.suffix}")
            write_atomically(copy, path.read_bytes())
    write_tray(tray, path)
    return copy
