"""The publishing thread: owns what keeps verdicts, what acts on them, and who carries them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from edge.camera.source import FrameSource
from edge.clock import Session, utc_now
from edge.errors import FrameError
from edge.health import Tally
from edge.inspection import Inspection
from edge.messages import MachineState, Verdict
from edge.publisher import Publisher
from edge.systemd import Notifier
from edge.verdict import Circumstances, error_verdict, verdict_from_inspection
from edge.work.course import Course
from edge.work.handover import Handover
from edge.work.job import Failure, Job
from edge.work.open_jobs import OpenJobs
from edge.work.passing import Begun, Finding, Said
from edge.work.pulse import Pulse
from edge.work.worker import Consumer

__all__ = ["Publication", "PublishingWorker"]

_log = logging.getLogger(__name__)


class Publication:
    """Makes findings into verdicts, numbers them, and sees them out. One thread at a time owns it."""

    def __init__(
        self,
        *,
        source: FrameSource,
        publisher: Publisher,
        session: Session,
        open_jobs: OpenJobs,
        tally: Tally,
        notifier: Notifier,
        synced: Callable[[], bool | None],
    ) -> None:
        self._source = source
        self._publisher = publisher
        self._session = session
        self._open = open_jobs
        self._tally = tally
        self._notifier = notifier
        self._synced = synced
        self._seq = 0

    def begin(self, job: Job) -> None:
        """Somebody asked for this job."""

    def answer(self, finding: Finding) -> None:
        """The one verdict of a job, and its pictures; nothing where the job was answered before."""
        job = finding.job
        if not self._open.claim(job):
            return
        try:
            verdict = self._verdict(finding)
            began_s = time.perf_counter()
            self._publisher.publish_verdict(verdict)
        except BaseException:
            self._open.add(job)  # it is still owed
            raise
        self._seq += 1
        self._count(finding, verdict, (time.perf_counter() - began_s) * 1e3)
        if finding.inspection is not None:
            self._show(job, finding.inspection, verdict)

    def say(self, said: Said) -> None:
        """Tell the broker, and whoever asks systemd, what the rig is doing."""
        self._notifier.status(f"{said.state.value}{f': {said.detail or said.reason}' if said.reason else ''}")
        self._publisher.publish_machine_state(
            MachineState(
                state=said.state,
                reason=said.reason,
                detail=said.detail,
                creation_time=utc_now(),
                epoch=self._session.epoch,
                boot_id=self._session.boot_id,
            )
        )

    def _verdict(self, finding: Finding) -> Verdict:
        circumstances = self._circumstances(finding.job)
        if finding.inspection is not None:
            return verdict_from_inspection(finding.inspection, circumstances)
        failure = finding.failure or Failure("internal_error", "nothing was found, and no reason given")
        return error_verdict(failure.reason, failure.detail, circumstances, frame=finding.job.frame)

    def _circumstances(self, job: Job) -> Circumstances:
        frame, now_ns = job.frame, time.monotonic_ns()
        got_ns = now_ns if job.got_ns is None else job.got_ns
        return Circumstances(
            provenance=job.model.provenance,
            camera_serial=self._source.health().serial or (frame.source if frame else self._source.name),
            seq=self._seq,
            start=job.got_utc or job.asked_utc,
            end=utc_now(),
            acquisition_ms=max(0.0, (got_ns - job.asked_ns) / 1e6),
            latency_ms=None if frame is None else max(0.0, (now_ns - frame.captured_ns) / 1e6),
            clock_synced=self._synced(),
            result_id=job.id,
            trigger=job.kind,
            part_serial=job.part_serial,
            request_id=job.request_id,
        )

    def _count(self, finding: Finding, verdict: Verdict, commit_ms: float) -> None:
        self._tally.verdict(verdict)
        if finding.inspection is None:
            return
        times = verdict.processing_times
        self._tally.steps(
            capture=times.acquisition_duration_ms,
            depth=times.preprocess_ms,
            inference=times.inference_ms + times.postprocess_ms,
            commit=commit_ms,
            total=max(0.0, (time.monotonic_ns() - finding.job.asked_ns) / 1e6),
        )

    def _show(self, job: Job, inspection: Inspection, verdict: Verdict) -> None:
        try:
            for picture in job.model.pictures(inspection):
                self._publisher.publish_picture(picture, verdict)
        except FrameError as error:
            frame = inspection.frame
            _log.error("frame %d of %s has no picture: %s", frame.seq, frame.source, error)


class PublishingWorker(Consumer[Begun | Finding | Said]):
    """Sees to what lies on the desk, in order."""

    def __init__(
        self,
        *,
        inbox: Handover[Begun | Finding | Said],
        publication: Publication,
        course: Course,
        pulse: Pulse,
    ) -> None:
        super().__init__("publishing", course, pulse, inbox)
        self._publication = publication

    def on(self, item: Begun | Finding | Said) -> None:
        if isinstance(item, Begun):
            self._publication.begin(item.job)
        elif isinstance(item, Finding):
            self._publication.answer(item)
        else:
            self._publication.say(item)

    def leave(self) -> None:
        """Nothing comes after it; what it could not answer stays open, for who ends the daemon."""
