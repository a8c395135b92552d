"""The thread that keeps the frames of judged parts, and makes captures of those that are labelled."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from typing_extensions import Self

from edge.camera.source import SourceHealth
from edge.captures import CaptureInfo, CaptureNote
from edge.capturing.room import disk_reason
from edge.capturing.session import info_of
from edge.errors import CaptureError, EdgeError
from edge.frame import Frame
from edge.inspection import Outcome
from edge.labelling.choosing import Choice
from edge.labelling.config import CapturesConfig
from edge.labelling.filing import Filed, LabelledParts
from edge.labelling.health import RecentFramesHealth
from edge.labelling.store import RecentStore
from edge.messages import Verdict

__all__ = ["RecentFrames"]

_log = logging.getLogger(__name__)

_FRAMES_WAITING = 4
"""Some 3 MB each: what the disk does not take meanwhile is dropped, and memory stays flat."""

_LABELS_WAITING = 64
_REMEMBERED = 1000
_TEND_S = 5.0
_STOP_S = 2.0
_NICE = 10
_GONE = "its frame is not kept any more, or never was: see captures in the rig's YAML"

_MADE_ROOM = "its frame made room for newer ones (captures.recent_parts, recent_max_mb, outbox.keep_free_mb)"


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A frame that waits for the disk."""

    frame: Frame
    verdict: Verdict
    info: CaptureInfo

    @property
    def passed(self) -> bool:
        return self.verdict.outcome is Outcome.PASS


@dataclass(frozen=True, slots=True, eq=False)
class _Label:
    """A result that somebody has labelled, and who is to be told what came of it."""

    result_id: str
    position: int
    then: Callable[[Filed], None]


class RecentFrames:
    """Keeps frames in `folder` while it is `at_work`; nobody ever waits for it.

    `offer` is for the one thread that makes verdicts, `file` and `health` for any. A frame that finds four
    waiting is dropped, or takes the place of a passed one where it is a rejected part's. `frames_are_parts`:
    each frame in free running shows another part. `captures` and `outbox` are those of `LabelledParts`.
    Whatever the disk refuses is said in health and log, and tried again with the next frame.
    """

    def __init__(
        self,
        folder: Path,
        config: CapturesConfig,
        *,
        captures: Path,
        outbox: Path,
        keep_free_bytes: int,
        frames_are_parts: bool = False,
    ) -> None:
        self._choice = Choice(config, frames_are_parts=frames_are_parts)
        self._store = RecentStore(
            folder,
            parts_max=config.recent_parts,
            max_bytes=config.recent_max_mb << 20,
            keep_free_bytes=keep_free_bytes,
        )
        self._labelled = LabelledParts(self._store, captures, outbox, keep_free_bytes=keep_free_bytes)
        self._changed = threading.Condition()
        self._waiting: deque[_Part | _Label] = deque()
        self._why: OrderedDict[str, str] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._trouble: tuple[str, str] | None = None
        self._closed = False
        self._open = False

    # From other threads.

    def offer(self, frame: Frame, verdict: Verdict, camera: Callable[[], SourceHealth]) -> None:
        """Keep this frame, if it is chosen and there is room in the queue; `camera` says what it is now."""
        objection = self._choice.objection(verdict)
        if objection is not None:
            with self._changed:
                self._remember(verdict.result_id, objection)
            return
        try:
            part = _Part(frame, verdict, info_of(frame, camera()))
        except CaptureError as error:  # no verdict may suffer by it
            self._failed(error)
            self._refused(verdict)
            return
        with self._changed:
            waiting = [one for one in self._waiting if isinstance(one, _Part)]
            dropped = None
            if len(waiting) >= _FRAMES_WAITING:
                dropped = part if part.passed else next((one for one in waiting if one.passed), part)
                self._remember(dropped.verdict.result_id, "frames came faster than the disk took them")
                self._counts["dropped"] += 1
            if dropped is not part:
                if dropped is not None:
                    self._waiting.remove(dropped)
                self._waiting.append(part)
                self._changed.notify()

    def file(self, result_id: str, position: int, then: Callable[[Filed], None]) -> None:
        """Have the capture of this result where its labels say, behind the frames that wait; tells `then`.

        `position` is that of the new label, and no smaller than that of the call before.
        """
        with self._changed:
            labels = sum(isinstance(one, _Label) for one in self._waiting)
            full = self._closed or labels >= _LABELS_WAITING
            if not full:
                self._waiting.append(_Label(result_id, position, then))
                self._changed.notify()
        if full:
            text = "too many labels wait for the disk, or the rig stops; label it again"
            then(Filed(reason="capture_busy", detail=text))

    def health(self) -> RecentFramesHealth:
        """How it stands."""
        with self._changed:
            reason, detail = self._trouble or (None, None)
            return RecentFramesHealth(
                frames=len(self._store),
                size_bytes=self._store.size_bytes,
                evicted=self._counts["evicted"],
                dropped=self._counts["dropped"],
                refused=self._counts["refused"],
                labelled=self._counts["labelled"],
                reason=reason,
                detail=detail,
            )

    @contextmanager
    def at_work(self, carrying: Callable[[], AbstractContextManager[None]] = nullcontext) -> Iterator[Self]:
        """Keep frames while this lasts, once; what the thread raises beside what the disk does goes to
        `carrying`.
        """
        thread = threading.Thread(target=self._run, args=(carrying,), name="recent-frames", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify()
            thread.join(_STOP_S)  # a disk that hangs does not keep the process

    # On its own.

    def _run(self, carrying: Callable[[], AbstractContextManager[None]]) -> None:
        with carrying():
            self._step_back()
            self._begin()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed, _TEND_S)
                if not self._waiting and self._closed:
                    return
                item = self._waiting.popleft() if self._waiting else None
            with carrying():
                if not self._open:
                    self._begin()
                if isinstance(item, _Part):
                    self._keep(item)
                elif isinstance(item, _Label):
                    self._file(item)
                elif self._open:
                    self._tend()

    def _step_back(self) -> None:
        """What inspects goes first. What this slows is the encoding, which holds no lock of Python's."""
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        except OSError as error:
            _log.warning("frames are kept at the priority of the inspection (%s)", error.strerror)

    def _begin(self) -> None:
        """Look at what earlier starts left; tried again until the folder can be used."""
        try:
            torn = self._store.open()
        except OSError as error:
            self._failed(error)
            return
        self._open = True
        if torn:
            _log.warning("%s: %d frames were not whole and are gone", self._store.folder, torn)
        self._labelled.recover()
        self._tend()

    def _keep(self, part: _Part) -> None:
        if not self._open:
            self._refused(part.verdict)
            return
        verdict = part.verdict
        try:
            gone = self._store.keep((verdict.epoch, verdict.seq), part.frame, part.info, _note(part))
        except (OSError, EdgeError) as error:
            self._failed(error)
            self._refused(part.verdict)
            return
        self._evicted(gone)
        if self._trouble is not None:
            _log.info("frames of judged parts are kept again")
            self._trouble = None

    def _tend(self) -> None:
        try:
            self._evicted(self._store.make_room())
        except (OSError, EdgeError) as error:
            self._failed(error)

    def _file(self, label: _Label) -> None:
        if self._open or self._trouble is None:
            filed = self._labelled.file(label.result_id, label.position)
        else:
            filed = Filed(None, *self._trouble)  # what it says is filed once the folder can be used
        with self._changed:
            if filed.file is not None:
                self._counts["labelled"] += 1
            elif filed.detail is None:
                filed = replace(filed, detail=self._why.get(label.result_id, _GONE))
        label.then(filed)

    def _evicted(self, results: list[str]) -> None:
        with self._changed:
            for result_id in results:
                self._remember(result_id, _MADE_ROOM)
            self._counts["evicted"] += len(results)

    def _refused(self, verdict: Verdict) -> None:
        with self._changed:
            why = "" if self._trouble is None else f": {self._trouble[1]}"
            self._remember(verdict.result_id, f"its frame could not be kept{why}")
            self._counts["refused"] += 1

    def _failed(self, error: OSError | EdgeError) -> None:
        reason = disk_reason(error, "folder_unusable")
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        detail = f"{self._store.folder}: {text}"
        with self._changed:
            before, self._trouble = self._trouble, (reason, detail)
        if before is None or before[0] != reason:
            _log.error("frames of judged parts can't be kept for labels (%s): %s", reason, detail)

    def _remember(self, result_id: str, why: str) -> None:
        """With the lock; why the frame of a result is not there, of the last thousand."""
        self._why[result_id] = why
        if len(self._why) > _REMEMBERED:
            self._why.popitem(last=False)


def _note(part: _Part) -> CaptureNote:
    verdict = part.verdict
    return CaptureNote(
        captured_utc=part.frame.captured_utc,
        part_serial=verdict.part_id,
        result_id=verdict.result_id,
        recipe=verdict.recipe_id,
        model_sha256=verdict.model_sha256,
        calibration_id=verdict.calibration_id,
        outcome=verdict.outcome,
        score=verdict.score,
        threshold=verdict.threshold,
    )
