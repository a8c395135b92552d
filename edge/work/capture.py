"""The capture thread: owns the source and the trigger; makes jobs, and gives each its frame."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from edge.camera.keeper import CameraKeeper
from edge.camera.source import FrameSource
from edge.clock import utc_now
from edge.errors import (
    CameraAway,
    CameraLost,
    CameraStalled,
    EdgeError,
    FrameError,
    TriggerError,
    TriggerRefused,
)
from edge.event_trigger import EventTrigger
from edge.frame import Frame
from edge.health import Tally
from edge.messages import MachineStateName
from edge.reasons import reason_of
from edge.work.course import Course
from edge.work.desk import Desk
from edge.work.frame_requests import FrameRequests
from edge.work.handover import Handover
from edge.work.job import Failure, Job, job_from_firing, job_of_frame
from edge.work.model import Model
from edge.work.passing import Retire, Said
from edge.work.pulse import Pulse
from edge.work.reopening import Reopening
from edge.work.settings import DaemonSettings
from edge.work.worker import SLICE_S, Worker

__all__ = ["CaptureWorker"]

_log = logging.getLogger(__name__)

_BAD_FRAMES_IN_A_ROW = 10  # a camera that gives only broken frames is as good as gone


class CaptureWorker(Worker):
    """Reads until the source ends or the daemon stops; `exchange` may be called from any thread.

    A job that can't be handed on, or whose frame does not come, goes to the desk with its failure.
    """

    def __init__(
        self,
        *,
        source: FrameSource,
        model: Model,
        outbox: Handover[Job | Retire],
        desk: Desk,
        tally: Tally,
        settings: DaemonSettings,
        course: Course,
        pulse: Pulse,
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__("capture", course, pulse)
        self._source = source
        self.model = model
        self._next_models: deque[tuple[Model, Future[None]]] = deque()
        self._retiring: list[Model] = []
        self._outbox = outbox
        self._desk = desk
        self._tally = tally
        self._settings = settings
        self._on_ready = on_ready
        self._asked_ns, self._asked_utc = time.monotonic_ns(), utc_now()
        self._waiting: list[Job] = []  # triggered from outside, for the next frame
        self._bad_frames = 0
        self._blind = False
        self._away: str | None = None
        self.frame_requests = FrameRequests()

    def exchange(self, model: Model) -> Future[None]:
        """From the next frame on, `model` is what is asked; the jobs of before keep the one before.

        The future says when that has happened, or raises `TriggerError` where the new one's trigger can't
        be heard: the one before goes on then. Either way the model that is not used is closed.
        """
        changed: Future[None] = Future()
        self._next_models.append((model, changed))
        return changed

    def work(self) -> None:
        if isinstance(self.model.trigger, EventTrigger):
            self.model.trigger.open()
        with self._source:
            self._say_at_work()
            self._on_ready()
            while not self.course.stopping:
                self.beat.beat()
                self._exchange()
                self._hear(self._idle_s())
                if self._nothing_to_read() or not self._wanted():
                    continue
                self._asked_ns, self._asked_utc = time.monotonic_ns(), utc_now()
                try:
                    frame = self._read()
                except CameraAway as away:
                    self._on_away(away)
                    continue
                except (CameraLost, CameraStalled) as error:
                    self._reopen(error)
                    continue
                except FrameError as error:
                    self._on_bad_frame(error)
                    continue
                if frame is None:
                    _log.info("%s has ended", self._source.name)
                    return
                self._on_back()
                self._tally.frame()
                self._on_frame(frame)

    def leave(self) -> None:
        trigger = self.model.trigger
        if isinstance(trigger, EventTrigger):
            trigger.close()
            self._take(trigger)
        for job in self._waiting:
            self._desk.fail(job, self._why_no_frame())
        self._waiting.clear()
        while self._next_models:
            model, changed = self._next_models.popleft()
            changed.set_exception(TriggerRefused("the rig stops; the recipe is not changed any more"))
            self._retiring.append(model)
        for model in (*self._retiring, self.model):
            self._outbox.put_always(Retire(model))
        self._outbox.close()

    def _why_no_frame(self) -> Failure:
        failure = self.course.failure
        if failure is not None:
            return Failure.of(failure)
        if self.course.stopping:
            return Failure("stopped", "the rig was stopped before the part's frame came")
        return Failure("no_frame", f"{self._source.name} has ended before the part's frame came")

    def _read(self) -> Frame | None:
        """The next frame; in slices, so that a stop, or a trigger that waits, is seen to meanwhile."""
        end_s = time.monotonic() + self._settings.frame_timeout_s
        while True:
            began_s = time.monotonic()
            slice_s = min(2 * SLICE_S, max(0.0, end_s - began_s))
            try:
                return self._source.read(slice_s)
            except CameraStalled:
                now_s = time.monotonic()
                # One that says so sooner than it was asked to wait knows that nothing will come.
                if now_s >= end_s or now_s - began_s < slice_s / 2 or self.course.stopping:
                    raise
            self.beat.beat()
            self._exchange()
            self._hear(0.0)

    def _on_frame(self, frame: Frame) -> None:
        self.frame_requests.give(frame)
        trigger = self.model.trigger
        if isinstance(trigger, EventTrigger):
            self._take(trigger)  # what was fired while it was waited for the frame: this may be the one
        for job in self._due_now(frame):
            self._hand_on(job.with_frame(frame))
        if isinstance(trigger, EventTrigger):
            return
        if frame.stale is not None and not trigger.may_skip:
            return  # what it shows is not there: a picture that is frozen would be a part at rest
        try:
            due = trigger.due(frame)
        except FrameError as error:
            self._on_blind_trigger(error, frame)
            return
        except BaseException as error:
            # A mistake of ours: the daemon ends with it, but the part that was perhaps due gets its verdict.
            self._hand_on(self._new_job().with_frame(frame).failed(Failure.of(error)))
            raise
        self._tally.set_late(trigger.late)
        if self._blind:
            self._blind = False
            self._desk.say(Said(MachineStateName.CONTINUOUS_EXECUTION, "trigger_sees_again"))
        if due:
            self._hand_on(self._new_job().with_frame(frame))

    def _new_job(self) -> Job:
        job = job_of_frame(self.model, self._asked_ns, self._asked_utc)
        self._desk.open(job)
        return job

    def _hand_on(self, job: Job) -> None:
        """To the next thread, or with an error to the desk: never nowhere, unless it may be passed over."""
        if job.may_skip and self._settings.live:
            passed_over = self._outbox.put_latest(job)
            for item in [job] if passed_over is None else passed_over:
                if isinstance(item, Job):
                    self._desk.drop(item)
            return
        while not self._outbox.put(job, 0.0 if self._settings.live else SLICE_S):
            if self._settings.live:
                self._tally.overrun()
                self._desk.fail(job, job.failure or self._overrun())
                return
            self.beat.beat()  # what it waits for is another thread's to do
            if self.course.stopping:
                self._desk.stopped(job)
                return

    def _overrun(self) -> Failure:
        return Failure(
            "overrun",
            f"{self._settings.queue} parts wait for the model already; slow the line down, take a smaller "
            "model, or raise daemon.queue if parts come in bursts",
        )

    def _wanted(self) -> bool:
        """A source that waits is read when its frame can be seen to at once: meanwhile it would grow old."""
        return self._settings.live or self._outbox.wait_for_taker(SLICE_S)

    # Triggers from outside.

    def _idle_s(self) -> float:
        """How long to wait for a trigger: not at all where frames come by themselves."""
        return SLICE_S if self._nothing_to_read() and not self._next_models else 0.0

    def _nothing_to_read(self) -> bool:
        """A source that waits is not read for nobody: the next part's frame would be gone."""
        return isinstance(self.model.trigger, EventTrigger) and not self._settings.live and not self._waiting

    def _hear(self, timeout_s: float) -> None:
        if isinstance(self.model.trigger, EventTrigger):
            self._take(self.model.trigger, timeout_s)
        self.frame_requests.expire()
        now_ns = time.monotonic_ns()
        for job in list(self._waiting):
            trigger = job.model.trigger
            if not isinstance(trigger, EventTrigger) or now_ns - job.asked_ns <= trigger.timeout_s * 1e9:
                continue
            self._waiting.remove(job)
            detail = (
                f"no frame that was exposed after the trigger came within {trigger.timeout_s:g} s; see to "
                "the camera, or raise trigger.timeout_s"
            )
            self._desk.fail(job, Failure("no_frame", detail))
        for model in [m for m in self._retiring if all(job.model is not m for job in self._waiting)]:
            self._retiring.remove(model)
            self._outbox.put_always(Retire(model))

    def _take(self, trigger: EventTrigger, timeout_s: float = 0.0) -> None:
        for firing in trigger.take(timeout_s):
            job = job_from_firing(self.model, firing)
            self._desk.open(job)
            if job.failure is not None:
                self._tally.overrun()
                self._desk.fail(job, job.failure)
            else:
                self._waiting.append(job)

    def _due_now(self, frame: Frame) -> list[Job]:
        """The jobs whose frame this is: it was exposed wholly after they were asked for."""
        if not self._settings.live:  # made to be read: each of its frames is the next part
            due = self._waiting[:1]
        else:
            fresh = frame.stale is None
            due = [j for j in self._waiting if fresh and frame.captured_ns - j.asked_ns >= _lead_ns(j)]
        self._waiting = [job for job in self._waiting if job not in due]
        return due

    # Recipes.

    def _exchange(self) -> None:
        while self._next_models:
            model, changed = self._next_models.popleft()
            before = self.model
            if model.trigger is before.trigger:  # another calibration of the same model: nothing else changes
                self.model = model
                self._retiring.append(before)
                changed.set_result(None)
                continue
            if isinstance(before.trigger, EventTrigger):
                before.trigger.close()
                self._take(before.trigger)
            try:
                if isinstance(model.trigger, EventTrigger):
                    model.trigger.open()
            except TriggerError as error:
                if isinstance(before.trigger, EventTrigger):
                    before.trigger.open()
                self._retiring.append(model)
                changed.set_exception(error)
                continue
            self.model = model
            self._retiring.append(before)
            self._blind = False
            self._say_at_work("recipe_changed")
            changed.set_result(None)

    # The camera.

    def _on_away(self, away: CameraAway) -> None:
        """Somebody looks after the camera already: say why it is away, each time that this changes."""
        reason = reason_of(away.__cause__ or away)
        if reason != self._away:
            self._away = reason
            self._desk.say(Said(MachineStateName.ERROR, reason, str(away)))

    def _on_back(self) -> None:
        self._bad_frames = 0
        if self._away is not None:
            self._away = None
            self._tally.reopened()
            self._say_at_work("reopened")

    def _on_bad_frame(self, error: FrameError) -> None:
        self._bad_frames += 1
        _log.error("%s: %s", self._source.name, error)
        # Who triggered from outside waits for a better frame; who watches the frames may have missed a part.
        if not isinstance(self.model.trigger, EventTrigger):
            self._hand_on(self._new_job().failed(Failure.of(error)))
        if self._bad_frames >= _BAD_FRAMES_IN_A_ROW:
            self._bad_frames = 0
            self._reopen(error)

    def _on_blind_trigger(self, error: FrameError, frame: Frame) -> None:
        """A trigger that can't see gives one verdict, and a state while it lasts."""
        if self._blind:
            return
        self._blind = True
        _log.error("the trigger can't see: %s", error)
        failure = Failure.of(error)
        self._hand_on(self._new_job().with_frame(frame).failed(failure))
        self._desk.say(Said(MachineStateName.ERROR, failure.reason, failure.detail))

    def _reopen(self, error: EdgeError) -> None:
        if self.course.stopping or isinstance(self._source, CameraKeeper):
            return  # a keeper opens its camera again by itself, and says `CameraAway` meanwhile
        if Reopening(self._source, self._settings, self._desk, self._meanwhile).until_open(error):
            self._tally.reopened()
            self._say_at_work("reopened")

    def _meanwhile(self) -> bool:
        """Whether to go on waiting for the camera."""
        self.beat.beat()
        self._hear(0.0)
        return not self.course.stopping

    def _say_at_work(self, reason: str | None = None) -> None:
        outside = isinstance(self.model.trigger, EventTrigger)
        state = MachineStateName.READY if outside else MachineStateName.CONTINUOUS_EXECUTION
        self._desk.say(Said(state, reason))


def _lead_ns(job: Job) -> float:
    return job.model.trigger.lead_s * 1e9 if isinstance(job.model.trigger, EventTrigger) else 0.0
