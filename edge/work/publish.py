"""The publishing thread: owns what keeps verdicts, what acts on them, and who carries them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from edge.camera.source import FrameSource
from edge.clock import Session, utc_now
from edge.errors import FrameError, OutboxError
from edge.health import Tally
from edge.inspection import Inspection
from edge.labelling.keeping import RecentFrames
from edge.messages import MachineState, MachineStateName, PictureInfo, TriggerKind, Verdict
from edge.onlookers import Onlooker
from edge.outbox import Outbox
from edge.outbox_records import TriggerInHand
from edge.publisher import DeliveryReport, Picture, Publisher, picture_info
from edge.score_watch import ScoreWatch
from edge.systemd import Notifier
from edge.verdict import Circumstances, Provenance, error_verdict, verdict_from_inspection
from edge.work.course import Course
from edge.work.delivering import Courier
from edge.work.errands import Errands
from edge.work.handover import Handover
from edge.work.job import Failure, Job
from edge.work.keeping import Keeping
from edge.work.open_jobs import OpenJobs
from edge.work.passing import Begun, Finding, Said
from edge.work.pulse import Pulse
from edge.work.worker import Consumer

__all__ = ["Publication", "PublishingWorker"]

_log = logging.getLogger(__name__)

_AT_WORK = {MachineStateName.READY, MachineStateName.SINGLE_EXECUTION, MachineStateName.CONTINUOUS_EXECUTION}


class Publication:
    """Makes findings into verdicts, keeps them, and sees them out. One thread at a time owns it."""

    def __init__(
        self,
        *,
        source: FrameSource,
        publisher: Publisher,
        outbox: Outbox,
        keeping: Keeping,
        courier: Courier,
        errands: Errands,
        session: Session,
        open_jobs: OpenJobs,
        tally: Tally,
        scores: ScoreWatch,
        notifier: Notifier,
        onlooker: Onlooker,
        synced: Callable[[], bool | None],
        recent: RecentFrames | None = None,
    ) -> None:
        self._recent = recent
        self._source = source
        self._publisher = publisher
        self._outbox = outbox
        self._keeping = keeping
        self._courier = courier
        self._errands = errands
        self._session = session
        self._open = open_jobs
        self._tally = tally
        self._scores = scores
        self._notifier = notifier
        self._onlooker = onlooker
        self._synced = synced
        self._seq = 0
        self._said: str | None = None

    def take_over(self) -> None:
        """The calling thread owns it from now on; the one before has ended."""
        self._outbox.take_over()

    def answer_interrupted(self, provenance: Provenance) -> None:
        """An error for each trigger that an earlier start took and did not finish."""
        for trigger in self._outbox.in_hand():
            _log.warning("the trigger %s of an earlier start was interrupted", trigger.trigger_id)
            now = utc_now()
            verdict = error_verdict(
                "interrupted",
                "the daemon ended before the part was inspected: by a kill, a crash or a loss of power",
                Circumstances(
                    provenance=provenance,
                    camera_serial=self._source.name,
                    seq=self._next_seq(),
                    start=min(trigger.asked, now),
                    end=now,
                    acquisition_ms=0.0,
                    latency_ms=None,
                    clock_synced=self._synced(),
                    result_id=trigger.trigger_id,
                    trigger=TriggerKind(trigger.kind),
                    part_serial=trigger.part_serial,
                    request_id=trigger.request_id,
                ),
            )
            self._keeping.finish_interrupted(trigger.trigger_id, verdict)
            self._tell(verdict)
        self._courier.committed()

    def begin(self, job: Job) -> None:
        """Somebody asked for this job: it is on disk, or refused, before it is answered."""
        epoch = self._session.epoch
        trigger = TriggerInHand(job.id, job.kind.value, job.asked_utc, job.part_serial, epoch, job.request_id)
        try:
            self._keeping.begin(trigger)
        except OutboxError as error:
            job.taken.set_exception(error)
            if self._open.claim(job):
                self._not_kept(Finding(job), error)
            return
        job.taken.set_result(None)

    def answer(self, finding: Finding) -> None:
        """The one verdict of a job, and its pictures; nothing where the job was answered before."""
        job = finding.job
        if not self._open.claim(job):
            return
        try:
            verdict = self._verdict(finding)
        except BaseException:
            self._open.add(job)  # it is still owed
            raise
        began_s = time.perf_counter()
        try:
            self._keeping.keep(job.id, verdict)
        except OutboxError as error:
            self._not_kept(finding, error)
            return
        finally:
            if not job.taken.done():  # answered before it was begun, at the daemon's end
                job.taken.set_result(None)
        self._count(finding, verdict, (time.perf_counter() - began_s) * 1e3)
        self._courier.committed()
        self._courier.step()
        if finding.inspection is not None:
            self._show(job, finding.inspection, verdict)
            if self._recent is not None:
                self._recent.offer(finding.inspection.frame, verdict, self._source.health)

    def tend(self) -> None:
        """What has to be seen to between findings: acknowledgements, what is owed, the outbox's limits."""
        if self._keeping.tend():
            self._courier.committed()
        self._step()
        if self._errands.do_one(self._outbox):
            self._courier.committed()
            self._step()

    def _step(self) -> None:
        try:
            self._courier.step()
            self._said = None
        except OutboxError as error:
            if self._said != str(error):
                _log.critical("%s", error)
            self._said = str(error)

    def deliver(self, timeout_s: float) -> DeliveryReport:
        """The last that is done: send what waits, and see how far that goes within `timeout_s`."""
        self._keeping.tend()
        self._courier.committed()
        return self._courier.flush(timeout_s)

    def say(self, said: Said) -> None:
        """Tell the reject output, the broker, and whoever asks systemd, what the rig is doing."""
        if said.state in _AT_WORK:
            self._keeping.at_work()
        else:
            self._keeping.not_at_work(said.detail or said.reason or said.state.value)
        self._notifier.status(f"{said.state.value}{f': {said.detail or said.reason}' if said.reason else ''}")
        state = MachineState(
            state=said.state,
            reason=said.reason,
            detail=said.detail,
            creation_time=utc_now(),
            epoch=self._session.epoch,
            boot_id=self._session.boot_id,
        )
        self._onlooker.on_machine_state(state)
        self._publisher.publish_machine_state(state)

    def _tell(self, verdict: Verdict) -> None:
        self._tally.verdict(verdict)
        self._onlooker.on_verdict(verdict)

    def _not_kept(self, finding: Finding, error: OutboxError) -> None:
        """There is no verdict but the one that says so; it waits in memory until it can be kept."""
        job = finding.job
        verdict = error_verdict("not_kept", str(error), self._circumstances(job), frame=job.frame)
        self._keeping.not_kept(job.id, verdict, error)
        self._tell(verdict)

    def _next_seq(self) -> int:
        seq, self._seq = self._seq, self._seq + 1
        return seq

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
            seq=self._next_seq(),
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
        self._tell(verdict)
        self._scores.on_verdict(verdict, finding.job.model.good_scores)
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
                info = picture_info(picture, verdict)
                self._keep_picture(picture, info)
                self._publisher.publish_picture(picture, info)
                self._onlooker.on_picture(picture, info)
        except FrameError as error:
            frame = inspection.frame
            _log.error("frame %d of %s has no picture: %s", frame.seq, frame.source, error)

    def _keep_picture(self, picture: Picture, info: PictureInfo) -> None:
        try:
            self._outbox.add_picture(info, picture.data)
        except OutboxError as error:
            _log.error("the %s of verdict %d is not kept: %s", info.kind.value, info.seq, error)


class PublishingWorker(Consumer[Begun | Finding | Said]):
    """Sees to what lies on the desk, in order."""

    def __init__(
        self,
        *,
        inbox: Handover[Begun | Finding | Said],
        publication: Publication,
        provenance: Callable[[], Provenance],
        course: Course,
        pulse: Pulse,
    ) -> None:
        super().__init__("publishing", course, pulse, inbox)
        self._publication = publication
        self._provenance = provenance

    def work(self) -> None:
        with self.course.carrying():
            self._publication.take_over()
            self._publication.answer_interrupted(self._provenance())
        super().work()

    def tend(self) -> None:
        self._publication.tend()

    def on(self, item: Begun | Finding | Said) -> None:
        if isinstance(item, Begun):
            self._publication.begin(item.job)
        elif isinstance(item, Finding):
            self._publication.answer(item)
        else:
            self._publication.say(item)

    def leave(self) -> None:
        """Nothing comes after it; what it could not answer stays open, for who ends the daemon."""
