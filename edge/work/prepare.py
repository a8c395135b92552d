"""The preparation thread: all that comes before the model, while the model still works on the part before."""

from __future__ import annotations

import logging
import time

from edge.errors import FrameError
from edge.frame import Frame
from edge.inspection import Durations, Inspection, Outcome
from edge.scene.watch import SceneWatch
from edge.work.course import Course
from edge.work.desk import Desk
from edge.work.handover import Handover
from edge.work.job import Failure, Job
from edge.work.passing import Finding, Ready, Retire
from edge.work.pulse import Pulse
from edge.work.worker import SLICE_S, Worker

__all__ = ["PreparationWorker"]

_log = logging.getLogger(__name__)


class PreparationWorker(Worker):
    """One part ahead of the inspection, never more: it takes a job once there is room for what it makes."""

    def __init__(
        self,
        *,
        inbox: Handover[Job | Retire],
        outbox: Handover[Ready | Finding | Retire],
        desk: Desk,
        max_frame_age_s: float,
        course: Course,
        pulse: Pulse,
        scene: SceneWatch | None = None,
    ) -> None:
        super().__init__("preparation", course, pulse)
        self._inbox = inbox
        self._outbox = outbox
        self._desk = desk
        self._max_frame_age_s = max_frame_age_s
        self._scene = scene

    def work(self) -> None:
        while not self._inbox.ended:
            self.beat.beat()
            if not self._outbox.wait_for_room(SLICE_S) and not self.course.stopping:
                continue
            item = self._inbox.take(SLICE_S)
            if item is not None:
                with self.course.carrying():
                    self._on(item)

    def leave(self) -> None:
        self._outbox.close()

    def _on(self, item: Job | Retire) -> None:
        if isinstance(item, Retire):
            self._outbox.put_always(item)
        elif self.course.stopping:
            self._desk.stopped(item)
        else:
            prepared = self._prepared(item)
            self._outbox.put_always(prepared)
            if self._scene is not None and isinstance(prepared, Ready):
                self._scene.see(prepared.part)  # beside the inference, not before it

    def _prepared(self, job: Job) -> Ready | Finding:
        if job.failure is not None or job.frame is None:
            # In its turn, not at once: what came before it is said before it.
            return Finding(job, failure=job.failure or Failure("no_frame", "the part has no frame"))
        stale = self._stale(job.frame)
        if stale is not None:
            return Finding(job, inspection=stale)
        try:
            return Ready(job, job.model.inspector.prepare(job.frame))
        except FrameError as error:
            _log.error("frame %d of %s: %s", job.frame.seq, job.frame.source, error)
            return Finding(job, failure=Failure.of(error))
        except BaseException as error:
            # A mistake of ours: the daemon ends with it, but the part gets its verdict.
            self._desk.fail(job, Failure.of(error))
            raise

    def _stale(self, frame: Frame) -> Inspection | None:
        age_s = (time.monotonic_ns() - frame.captured_ns) / 1e9
        if frame.stale is None and age_s <= self._max_frame_age_s:
            return None
        return Inspection(
            frame=frame,
            outcome=Outcome.NO_DECISION,
            durations=Durations(preprocess_ms=0.0, inference_ms=0.0, postprocess_ms=0.0),
            reason="stale_frame",
            detail=frame.stale
            or (
                f"the frame is {age_s:.2f} s old, at most {self._max_frame_age_s:g} s are allowed; "
                "a slower trigger or a smaller model keeps up, or raise daemon.max_frame_age_s"
            ),
        )
