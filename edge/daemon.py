"""The daemon: frame → trigger → inspection → verdict → broker, until it is told to stop or the source ends.

It knows none of its parts but by what they promise, so that it runs the same over a D405 and a broker as
over the fakes of `edge.testing`. The work is done by the threads of `edge.work`; here they are wired, watched
and ended.
"""

from __future__ import annotations

import faulthandler
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import TypeVar

from edge.camera.source import FrameSource, SourceHealth
from edge.clock import clock_synced
from edge.errors import EdgeError, ThreadHung, TriggerRefused
from edge.event_trigger import EventTrigger, Firing
from edge.frame import Frame
from edge.health import HealthReporter, Tally
from edge.labelling.keeping import RecentFrames
from edge.messages import MachineStateName, TriggerKind, WorkHealth
from edge.onlookers import Onlooker, Onlookers
from edge.outbox import Outbox
from edge.promise_monitor import PromiseMonitor
from edge.publisher import DeliveryReport, Publisher
from edge.reject import Rejector
from edge.scene.watch import SceneWatch
from edge.score_watch import ScoreWatch
from edge.score_watch_config import ScoreWatchConfig
from edge.systemd import Notifier
from edge.verdict import Provenance
from edge.work.capture import CaptureWorker
from edge.work.course import Course
from edge.work.delivering import Courier
from edge.work.desk import Desk
from edge.work.errands import Errands
from edge.work.handover import Handover
from edge.work.inspect import InspectionWorker
from edge.work.job import Failure, Job, job_from_firing
from edge.work.keeping import Keeping
from edge.work.model import Model
from edge.work.open_jobs import OpenJobs
from edge.work.passing import Begun, Finding, Ready, Retire, Said
from edge.work.prepare import PreparationWorker
from edge.work.publish import Publication, PublishingWorker
from edge.work.pulse import Pulse
from edge.work.settings import DaemonSettings
from edge.work.summary import RunSummary
from edge.work.worker import Worker

__all__ = ["Daemon", "DaemonSettings", "Model", "RunSummary"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_LOOK_S = 0.1
"""How often the threads are looked at."""

_LAST_VERDICTS_S = 1.0
"""How long the publishing thread may take for what is left, once the others have been given up."""

_STDERR = 2
"""Where the log goes, whatever has been put in the place of `sys.stderr`."""

_FINDINGS_MAX = 8
"""How many findings may wait to be published before the inspection waits for that."""


_PATIENT = DaemonSettings()


class Daemon:
    """One rig at work; `run` may be called once, from the thread that is to hear of signals.

    `stop`, `fire` and `exchange` may be called from any thread, `stop` from a signal handler, too. The
    daemon closes `model` and whatever it is exchanged for.
    """

    def __init__(
        self,
        *,
        source: FrameSource,
        model: Model,
        publisher: Publisher,
        outbox: Outbox,
        rejector: Rejector | None = None,
        scene: SceneWatch | None = None,
        scores: ScoreWatch | None = None,
        promises: PromiseMonitor | None = None,
        recent: RecentFrames | None = None,
        settings: DaemonSettings = _PATIENT,
        notifier: Notifier | None = None,
        onlooker: Onlooker | None = None,
        synced: Callable[[], bool | None] = clock_synced,
    ) -> None:
        self._source = source
        self._scene = scene
        self._scores = scores or ScoreWatch(ScoreWatchConfig())
        self._promises = promises
        self._recent = recent
        self._publisher = publisher
        self._outbox = outbox
        self._rejector = rejector or Rejector("none", None, no_decision=False)
        self._settings = settings
        self._notifier = notifier or Notifier("")
        self._onlooker = onlooker or Onlookers()
        self._synced = synced
        self._course = Course()
        self._pulse = Pulse()
        self._tally = Tally()
        self._open = OpenJobs()
        self._frames: Handover[Job | Retire] = Handover(settings.queue)
        self._prepared: Handover[Ready | Finding | Retire] = Handover(1)
        self._findings: Handover[Begun | Finding | Said] = Handover(_FINDINGS_MAX)
        self._desk = Desk(self._findings, self._open, self._tally)
        self._courier = Courier(outbox, publisher, nudge=self._findings.nudge)
        self._errands = Errands(nudge=self._findings.nudge)
        self._publication = Publication(
            source=source,
            publisher=publisher,
            outbox=outbox,
            keeping=Keeping(outbox, self._rejector),
            courier=self._courier,
            errands=self._errands,
            session=model.provenance.session,
            open_jobs=self._open,
            tally=self._tally,
            scores=self._scores,
            notifier=self._notifier,
            onlooker=self._onlooker,
            synced=synced,
            recent=recent,
        )
        self._capture = CaptureWorker(
            source=source,
            model=model,
            outbox=self._frames,
            desk=self._desk,
            tally=self._tally,
            settings=settings,
            course=self._course,
            pulse=self._pulse,
            on_ready=self._notifier.ready,
        )
        self._preparation = PreparationWorker(
            inbox=self._frames,
            outbox=self._prepared,
            desk=self._desk,
            max_frame_age_s=settings.max_frame_age_s,
            course=self._course,
            pulse=self._pulse,
            scene=scene,
        )
        self._inspection = InspectionWorker(
            inbox=self._prepared, desk=self._desk, course=self._course, pulse=self._pulse
        )
        self._publishing = PublishingWorker(
            inbox=self._findings,
            publication=self._publication,
            provenance=lambda: self.provenance,
            course=self._course,
            pulse=self._pulse,
        )
        # In the order in which they end: each when the one before has nothing more for it.
        self._workers: tuple[Worker, ...] = (
            self._capture,
            self._preparation,
            self._inspection,
            self._publishing,
        )

    def stop(self) -> None:
        """Finish the part in hand, report the rest, flush, release the camera; `run` then returns."""
        self._course.stopping = True

    def fire(self, part_serial: str | None = None, request_id: str | None = None) -> Firing:
        """Ask for an inspection by command: the verdict's `result_id` will be the firing's `id`.

        Raises `TriggerRefused` where the rig is not triggered by command, or takes no more now.
        """
        trigger = self._capture.model.trigger
        if not isinstance(trigger, EventTrigger) or trigger.kind is not TriggerKind.COMMAND:
            raise TriggerRefused(
                f"the rig's trigger.kind is {trigger.kind.value}, not command; it inspects when that says so"
            )
        return trigger.fire(part_serial, request_id)

    def exchange(self, model: Model) -> Future[None]:
        """Inspect by `model` from the next frame on; jobs of before keep the model that they were asked of.

        The future ends once that is so, or with `TriggerError` where the new model's trigger can't be heard:
        the rig then goes on as it was. The model that is not used any more is closed.
        """
        return self._capture.exchange(model)

    def ask_outbox(self, errand: Callable[[Outbox], _T]) -> Future[_T]:
        """What `errand` gives, called with the outbox on the thread that owns it, between two verdicts.

        The future raises its `OutboxError`, and `OutboxBusy` where too many wait; from any thread.
        """
        return self._errands.ask(errand)

    def next_frame(self, after_ns: int, timeout_s: float) -> Future[Frame | None]:
        """The first frame that arrives after `after_ns` (monotonic); it is inspected like any other.

        None where none comes within `timeout_s`: one that waits to be read is not read for this.
        """
        return self._capture.frame_requests.ask(after_ns, timeout_s)

    def camera_health(self) -> SourceHealth:
        """What the camera says of itself; from any thread."""
        return self._source.health()

    @property
    def product(self) -> str:
        """What is inspected now."""
        return self.provenance.product

    def carrying(self) -> AbstractContextManager[None]:
        """For other threads of the rig: whatever is raised within ends the daemon, which then raises it."""
        return self._course.carrying()

    @property
    def provenance(self) -> Provenance:
        """Of the model that is asked now."""
        return self._capture.model.provenance

    def run(self) -> RunSummary:
        """Inspect until `stop`, or until the source ends.

        Raises `BrokerRefused` or `CameraError` where it can't begin, `RecordingCorrupt` or `CaptureError`
        where the source breaks for good, `TriggerError` where the trigger can't be heard, `ThreadHung` where
        a thread makes no progress or does not end (the process can then only be left by `os._exit`),
        `RejectError` where the reject output can't be had, and `BrokerRefused` where the broker did not take
        a verdict. Whatever it raises, each part that was asked for has its verdict in the outbox and, but for
        `ThreadHung`, the camera is released. It closes the outbox.
        """
        started = False
        try:
            self._rejector.open()
            self._publisher.start(self._courier)
            self._publication.say(Said(MachineStateName.PREOPERATIONAL, "starting"))
            started = True
            self._work()
        except BaseException as error:  # noqa: BLE001  # raised again below, after all is wound up
            self._course.fail(error)
        if not started:
            with self._course.carrying():
                self._capture.model.close()
        delivery = self._wind_up()
        if self._course.failure is not None:
            raise self._course.failure
        undelivered = delivery.error()
        if undelivered is not None:
            raise undelivered
        return RunSummary(self._tally.outcomes, delivery)

    def _work(self) -> None:
        with HealthReporter(
            tally=self._tally,
            source=self._source,
            publisher=self._publisher,
            provenance=lambda: self.provenance,
            interval_s=self._settings.health_interval_s,
            disk=self._settings.disk,
            synced=self._synced,
            work=self._health,
            scene=None if self._scene is None else self._scene.health,
            score=self._scores.health,
            promise=lambda: self._promises.health(self._capture.model) if self._promises else None,
            recent=lambda: self._recent.health() if self._recent else None,
            outbox=lambda: self._outbox.status,
            reject=lambda: self._rejector.status,
            onlooker=self._onlooker,
        ):
            for worker in reversed(self._workers):
                worker.start()
            try:
                self._watch()
            except BaseException as error:  # noqa: BLE001  # an interrupt, which the threads end with
                self._course.fail(error)
                self._watch()

    def _watch(self) -> None:
        """Until all threads have ended, or one is given up."""
        give_up_s: float | None = None
        while any(worker.alive for worker in self._workers):
            self._course.news.wait(_LOOK_S)
            self._course.news.clear()
            if self._pulse.all_got_on():
                self._notifier.watchdog()
            now_s = time.monotonic()
            if self._course.stopping and give_up_s is None:
                self._notifier.stopping()
                give_up_s = now_s + self._settings.stop_timeout_s
            hung = [
                name for name, age_s in self._pulse.ages_s().items() if age_s > self._settings.hang_timeout_s
            ]
            if hung:
                self._give_up(f"made no progress for {self._settings.hang_timeout_s:g} s", hung)
                return
            if give_up_s is not None and now_s > give_up_s:
                self._give_up(
                    f"did not end within {self._settings.stop_timeout_s:g} s",
                    [worker.name for worker in self._workers if worker.alive],
                )
                return

    def _give_up(self, why: str, names: list[str]) -> None:
        """Leave the threads that hang to themselves, and let the publishing one bring out what there is."""
        _log.critical("%s: %s; the stacks of all threads follow on stderr", ", ".join(names), why)
        faulthandler.dump_traceback(_STDERR, all_threads=True)
        mending = "the log has the stacks of all threads; restart the daemon"
        self._course.fail(ThreadHung(f"the thread {', '.join(names)} {why}; {mending}"))
        for worker in self._workers[:-1]:
            worker.join(_LAST_VERDICTS_S / 4)
        self._desk.close()
        self._publishing.join(_LAST_VERDICTS_S)

    def _wind_up(self) -> DeliveryReport:
        self._notifier.stopping()
        failure = self._course.failure
        if self._publishing.alive:
            owed = len(self._open)
            _log.critical("the publishing thread hangs; the next start answers %d parts with an error", owed)
            return DeliveryReport(acknowledged=0, waiting=0)
        self._publication.take_over()
        self._answer_the_rest()
        delivery = self._deliver()
        undelivered = delivery.error()
        if undelivered is not None and failure is not None:
            _log.error("%s", undelivered)  # `failure` is what the daemon ends with; this must be told too
        self._say_last(failure)
        self._publisher.close(self._settings.flush_timeout_s / 2)
        self._rejector.close()
        self._outbox.close()
        return delivery

    def _deliver(self) -> DeliveryReport:
        try:
            delivery = self._publication.deliver(self._settings.flush_timeout_s)
        except EdgeError as error:
            _log.error("what waits in the outbox goes out at the next start: %s", error)
            return DeliveryReport(acknowledged=0, waiting=0)
        if delivery.waiting:
            _log.warning("%d verdicts wait in the outbox, for the next start", delivery.waiting)
        return delivery

    def _answer_the_rest(self) -> None:
        """What threads left that were given up, or that failed in the middle of it."""
        failure = self._course.failure
        why = Failure("stopped", "the rig was stopped") if failure is None else Failure.of(failure)
        trigger = self._capture.model.trigger
        if self._capture.alive and isinstance(trigger, EventTrigger):
            for firing in trigger.take():
                self._open.add(job_from_firing(self._capture.model, firing))
        waiting = [item for item in self._frames.drain() if isinstance(item, Job)]
        waiting += [item.job for item in self._prepared.drain() if isinstance(item, Ready)]
        for job in waiting:
            if job.may_skip:
                self._desk.drop(job)
        for job in self._open.left():
            try:
                self._publication.answer(Finding(job, failure=why))
            except EdgeError as error:
                _log.error("part %s gets its verdict at the next start: %s", job.part_serial or job.id, error)

    def _say_last(self, failure: BaseException | None) -> None:
        said = Said(MachineStateName.HALTED, "stopped")
        if failure is not None:
            why = Failure.of(failure)
            said = Said(MachineStateName.HALTED, why.reason, why.detail)
        try:
            self._publication.say(said)
        except EdgeError as error:
            # The first failure is what ends the daemon; this one is only about telling the broker.
            _log.warning("the last state could not be published: %s", error)

    def _health(self) -> WorkHealth:
        queues = {
            "preparation": len(self._frames),
            "inspection": len(self._prepared),
            "publishing": len(self._findings),
        }
        return self._tally.work(queues, self._pulse.ages_s())
