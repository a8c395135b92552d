"""One run of collecting: what is kept, what is known of it, and what speaks against the next frame."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from edge.camera.sample import Sample
from edge.camera.source import SourceHealth
from edge.captures import CaptureInfo, CaptureNote, IntrinsicsInfo, read_note
from edge.capturing.concerns import Concern, Limits, Worry, relative_sharpness, worries_about
from edge.capturing.events import Ended, HeldBack, Kept, Summary, Undone
from edge.capturing.folder import CaptureFolder
from edge.capturing.likeness import Known
from edge.capturing.measuring import Measured, foreground_for, measure
from edge.errors import CaptureError
from edge.frame import Frame

__all__ = ["Seen", "Session", "info_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A frame, its figures, and what speaks against it; `relative_sharpness` see `Kept`."""

    measured: Measured
    worries: tuple[Worry, ...]
    relative_sharpness: float | None


def info_of(frame: Frame, health: SourceHealth) -> CaptureInfo:
    """capture.yaml, as the camera is now.

    Raises `CaptureError` where a capture can't hold such frames: depth in metres, as of MVTec 3D-AD.
    """
    try:
        return CaptureInfo(
            depth_unit_m=frame.depth_unit_m,
            intrinsics=IntrinsicsInfo.of(frame.intrinsics),
            serial=health.serial,
            options=health.options,
        )
    except ValueError as error:  # pydantic's ValidationError is one
        raise CaptureError(
            f"frames of {frame.source} can't be captures, whose depth is 16 bit in a unit below 1 m "
            f"({error}); use the files that they come from"
        ) from error


class Session:
    """Keeps frames in a folder, and knows which are in it. One thread owns it.

    `rests` see `Known`. With `serial_prefix`, parts are numbered under it, on from those in the folder.
    """

    def __init__(
        self, folder: CaptureFolder, limits: Limits, *, rests: bool, serial_prefix: str | None = None
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._foreground = foreground_for(limits.part_height_m)
        self._known = Known(rests=rests)
        self._prefix = serial_prefix
        self._serials: dict[str, int] = {}
        self._sharpness: dict[str, float] = {}
        self._mine: list[Sample] = []
        self._info: CaptureInfo | None = None
        self._undone = 0
        self._held_back: Counter[Concern] = Counter()
        self.counts: Counter[str] = Counter()

    @property
    def kept(self) -> int:
        """How many captures this run has added, without those that were taken back."""
        return len(self._mine)

    @property
    def begun(self) -> bool:
        return self._info is not None

    def begin(self, info: CaptureInfo, progress: Callable[[int, int], None] = lambda done, of: None) -> None:
        """Open the folder and look at each capture that is there; raises `CaptureError`."""
        there = self._folder.open(info)
        self._info = info
        for done, sample in enumerate(there):
            progress(done, len(there))
            note = read_note(sample)
            measured = measure(sample.frame(), self._foreground)
            self._remember(sample.part_id, measured, note.part_serial if note is not None else None)

    def look(self, frame: Frame) -> Seen:
        """What can be said of the camera's next frame."""
        measured = measure(frame, self._foreground)
        if frame.stale is None:
            self._known.seen(measured.thumbnail)
        kept = list(self._sharpness.values())
        same_as = self._known.same(measured.thumbnail)
        worries = worries_about(measured, kept, same_as, self._limits)
        return Seen(measured, worries, relative_sharpness(measured.sharpness, kept))

    def keep(self, seen: Seen, label: str, info: CaptureInfo, serial: str | None = None) -> Kept:
        """Write the frame; `serial` is the part's, in place of one that is counted. Raises `CaptureError`."""
        frame, plane = seen.measured.frame, seen.measured.plane
        if frame.stale is not None:
            raise CaptureError(f"{frame.stale}: it is not what is under the camera, and is never kept")
        serial = serial or self._next_serial()
        note = CaptureNote(
            captured_utc=frame.captured_utc,
            part_serial=serial,
            sharpness=seen.measured.sharpness,
            fill_share=seen.measured.fill_share,
            concerns=tuple(worry.concern.value for worry in seen.worries),
        )
        sample = self._folder.keep(label, frame, info, note)
        self._remember(sample.part_id, seen.measured, serial)
        self._mine.append(sample)
        return Kept(
            capture=sample.part_id,
            label=label,
            rgb=sample.rgb_path,
            part_serial=serial,
            captured_utc=frame.captured_utc,
            sharpness=note.sharpness,
            relative_sharpness=seen.relative_sharpness,
            fill_share=note.fill_share,
            distance_mm=plane.distance_m * 1e3 if plane is not None else None,
            tilt_deg=plane.tilt_deg if plane is not None else None,
            concerns=note.concerns,
        )

    def hold_back(self, seen: Seen, label: str) -> HeldBack:
        """Count a frame that was to be taken and is not kept."""
        self._held_back.update(worry.concern for worry in seen.worries)
        return HeldBack(label=label, concerns={worry.concern.value: worry.text for worry in seen.worries})

    def undo(self) -> Undone | None:
        """Take back the last capture of this run; None where there is none left. Raises `CaptureError`."""
        if not self._mine:
            return None
        moved_to = self._folder.undo(self._mine[-1])
        sample = self._mine.pop()
        self._known.remove(sample.part_id)
        self._sharpness.pop(sample.part_id, None)
        self._serials.pop(sample.part_id, None)
        self.counts[sample.rgb_path.parent.name] -= 1
        self._undone += 1
        return Undone(capture=sample.part_id, moved_to=moved_to)

    def summary(self, ended: Ended) -> Summary:
        """What came of it."""
        return Summary(
            folder=self._folder.path,
            ended=ended,
            counts={label: count for label, count in sorted(self.counts.items()) if count},
            kept=self.kept,
            undone=self._undone,
            held_back={concern.value: count for concern, count in self._held_back.items()},
            torn=self._folder.torn,
        )

    def close(self) -> None:
        self._folder.close()

    def _remember(self, name: str, measured: Measured, serial: str | None) -> None:
        self._known.add(name, measured.thumbnail)
        if measured.sharpness is not None:
            self._sharpness[name] = measured.sharpness
        self.counts[name.partition("/")[0]] += 1
        if serial is not None and self._prefix is not None:
            counted = re.fullmatch(rf"{re.escape(self._prefix)}(\d+)", serial)
            if counted is not None:
                self._serials[name] = int(counted[1])

    def _next_serial(self) -> str | None:
        if self._prefix is None:
            return None
        return f"{self._prefix}{max(self._serials.values(), default=0) + 1:04d}"
