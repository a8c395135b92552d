"""The inspection thread: owns the runner, and with it whatever CUDA wants to be used from one thread."""

from __future__ import annotations

import logging

from edge.errors import FrameError, GpuLost, RunnerError
from edge.work.course import Course
from edge.work.desk import Desk
from edge.work.handover import Handover
from edge.work.job import Failure
from edge.work.passing import Finding, Ready, Retire
from edge.work.pulse import Pulse
from edge.work.worker import SLICE_S, Consumer

__all__ = ["InspectionWorker"]

_log = logging.getLogger(__name__)


class InspectionWorker(Consumer[Ready | Finding | Retire]):
    """Judges what was prepared, in order, each by the model that it was asked of; closes models."""

    def __init__(
        self, *, inbox: Handover[Ready | Finding | Retire], desk: Desk, course: Course, pulse: Pulse
    ) -> None:
        super().__init__("inspection", course, pulse, inbox)
        self._desk = desk

    def on(self, item: Ready | Finding | Retire) -> None:
        if isinstance(item, Retire):
            item.model.close()
        elif isinstance(item, Finding):
            self._hand_on(item)
        elif self.course.stopping:
            self._desk.stopped(item.job)
        else:
            self._judge(item)

    def leave(self) -> None:
        self._desk.close()

    def _judge(self, ready: Ready) -> None:
        frame, job = ready.part.frame, ready.job
        try:
            inspection = job.model.inspector.judge(ready.part)
        except (FrameError, RunnerError) as error:
            _log.error("frame %d of %s: %s", frame.seq, frame.source, error)
            self._hand_on(Finding(job, failure=Failure.of(error)))
            if isinstance(error, GpuLost):
                raise  # the next frame would end the same way; a new process, which systemd starts, need not
        except BaseException as error:
            # A mistake of ours: the daemon ends with it, but the part gets its verdict.
            self._hand_on(Finding(job, failure=Failure.of(error)))
            raise
        else:
            self._hand_on(Finding(job, inspection=inspection))

    def _hand_on(self, finding: Finding) -> None:
        """Wait for room: a publishing thread that is slow slows the inspection, and nothing is lost."""
        while not self._desk.found(finding, SLICE_S) and not self._desk.closed:
            self.beat.beat()
