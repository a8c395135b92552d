"""Whatever the interleaving of the daemon's threads: one verdict for each trigger, numbered in order.

The real threads' steps are taken one by one, in an order that hypothesis chooses.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.daemon import Daemon, DaemonSettings, Model
from edge.errors import FrameError, GpuLost, RunnerError
from edge.event_trigger import ByCommand, EventTrigger
from edge.frame import Frame
from edge.inspection import Inspection
from edge.inspector import PreparedPart
from edge.messages import TriggerKind, Verdict
from edge.testing import RecordingPublisher, ReplayCamera, ScratchOutbox, ScriptedInspector, flat_frame
from edge.trigger import EveryFrame, Trigger
from edge.work.job import Job
from edge.work.passing import Finding
from tests.provenance import PROVENANCE

MISTAKES = (RunnerError("a stage fails"), FrameError("no"), GpuLost("gone"), ZeroDivisionError("a mistake"))


class WhenTold(Trigger):
    kind = TriggerKind.PART_PRESENT

    def __init__(self) -> None:
        self.is_due = True

    def due(self, frame: Frame) -> bool:
        return self.is_due


def by_command() -> ByCommand:
    return ByCommand(timeout_s=1e6, lead_s=0.0)


TRIGGERS = (EveryFrame, WhenTold, by_command)


class Moody(ScriptedInspector):
    """Raises once what it is told to, when preparing or when judging."""

    def __init__(self) -> None:
        super().__init__((0.2, 3.0, float("nan")))
        self.prepare_error: Exception | None = None
        self.judge_error: Exception | None = None

    def prepare(self, frame: Frame) -> PreparedPart:
        error, self.prepare_error = self.prepare_error, None
        if error is not None:
            raise error
        return super().prepare(frame)

    def judge(self, part: PreparedPart) -> Inspection:
        error, self.judge_error = self.judge_error, None
        if error is not None:
            raise error
        return super().judge(part)


class DaemonSteps(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.inspector = Moody()
        self.publisher = RecordingPublisher()
        self.closed: list[Model] = []
        self.models: list[Model] = []
        self.owed: list[str] = []
        self.seq = 0
        self.last: Finding | None = None
        self.daemon = Daemon(
            source=ReplayCamera([]),
            model=self.new_model(WhenTold()),
            publisher=self.publisher,
            outbox=ScratchOutbox(),
            settings=DaemonSettings(live=True, queue=2, max_frame_age_s=1e9, flush_timeout_s=0),
            synced=lambda: None,
        )
        self.publisher.start(self.daemon._courier)
        self.capture = self.daemon._capture
        self.course = self.daemon._course
        begin = self.daemon._desk.open

        def opened(job: Job) -> None:
            if not job.may_skip:
                self.owed.append(job.id)
            begin(job)

        self.daemon._desk.open = opened  # type: ignore[method-assign]

    def new_model(self, trigger: Trigger | EventTrigger) -> Model:
        model = Model(self.inspector, trigger, lambda _: (), PROVENANCE, lambda: self.closed.append(model))
        self.models.append(model)
        return model

    # What happens outside.

    @initialize(kind=st.sampled_from(TRIGGERS))
    def begin_with(self, kind: Callable[[], Trigger | EventTrigger]) -> None:
        self.recipe_changes(kind)

    @rule(due=st.booleans())
    def frame_comes(self, due: bool) -> None:
        trigger = self.capture.model.trigger
        if isinstance(trigger, WhenTold):
            trigger.is_due = due
        with self.course.carrying():
            self.capture._hear(0.0)
            self.capture._on_frame(flat_frame(self.seq, width_px=8, height_px=6, age_s=-1))
        self.seq += 1

    @precondition(lambda self: isinstance(self.capture.model.trigger, ByCommand))
    @rule()
    def fired(self) -> None:
        trigger = self.capture.model.trigger
        assert isinstance(trigger, EventTrigger)
        if not trigger._closed:
            self.owed.append(trigger.fire("SN").id)

    @rule(error=st.sampled_from(MISTAKES), where=st.sampled_from(["prepare", "judge"]))
    def inspector_will_fail(self, error: Exception, where: str) -> None:
        setattr(self.inspector, f"{where}_error", error)

    @rule()
    def bad_frame(self) -> None:
        with self.course.carrying():
            self.capture._bad_frames = 0
            self.capture._on_bad_frame(FrameError("NaN"))

    @rule(kind=st.sampled_from(TRIGGERS))
    def change_recipe(self, kind: Callable[[], Trigger | EventTrigger]) -> None:
        self.recipe_changes(kind)

    def recipe_changes(self, kind: Callable[[], Trigger | EventTrigger]) -> None:
        self.daemon.exchange(self.new_model(kind()))
        if not self.course.stopping:
            self.capture._exchange()
            self.capture._hear(0.0)

    @rule()
    def stop(self) -> None:
        self.daemon.stop()

    # What the threads do next.

    @precondition(lambda self: len(self.daemon._prepared) == 0)
    @rule()
    def prepare_one(self) -> None:
        item = self.daemon._frames.take(0)
        if item is not None:
            with self.course.carrying():
                self.daemon._preparation._on(item)

    @precondition(lambda self: len(self.daemon._findings) < 8)
    @rule()
    def inspect_one(self) -> None:
        item = self.daemon._prepared.take(0)
        if item is not None:
            with self.course.carrying():
                self.daemon._inspection.on(item)

    @rule()
    def publish_one(self) -> None:
        item = self.daemon._findings.take(0)
        if isinstance(item, Finding):
            self.last = item
        if item is not None:
            with self.course.carrying():
                self.daemon._publishing.on(item)

    @precondition(lambda self: self.last is not None)
    @rule()
    def answered_again(self) -> None:
        """A thread that was given up finds out too late."""
        self.daemon._findings.put_always(self.last)

    # What must hold.

    @invariant()
    def verdicts_are_numbered_and_none_comes_twice(self) -> None:
        verdicts = self.publisher.verdicts
        assert [verdict.seq for verdict in verdicts] == list(range(len(verdicts)))
        assert len({verdict.result_id for verdict in verdicts}) == len(verdicts)

    @invariant()
    def no_more_waits_than_may(self) -> None:
        jobs = [item for item, _ in self.daemon._frames._waiting if isinstance(item, Job)]
        assert len(jobs) <= 2
        assert len(self.daemon._prepared) <= 1 + len(self.models)

    def teardown(self) -> None:
        self.capture.leave()
        while not self.daemon._frames.ended:
            item = self.daemon._frames.take(0)
            assert item is not None
            with self.course.carrying():
                self.daemon._preparation._on(item)
            self.inspect_and_publish_all()
        self.daemon._preparation.leave()
        self.inspect_and_publish_all()
        self.daemon._inspection.leave()
        self.inspect_and_publish_all()
        assert len(self.daemon._open) == 0  # no thread hung: nothing is left for the end
        self.daemon._answer_the_rest()
        assert self.daemon._publication.deliver(0.0).waiting == 0
        self.daemon._outbox.close()
        self.verdicts_are_numbered_and_none_comes_twice()
        answered = [verdict.result_id for verdict in self.publisher.verdicts]
        assert set(self.owed) <= set(answered)
        assert sorted(map(id, self.closed)) == sorted(map(id, self.models))  # each once
        self.order_holds(answered)

    def inspect_and_publish_all(self) -> None:
        for _ in iter(lambda: len(self.daemon._prepared) + len(self.daemon._findings), 0):
            self.inspect_one() if len(self.daemon._findings) < 8 else None
            self.publish_one()

    def order_holds(self, answered: list[str]) -> None:
        """Findings come in the order of their frames; only what is refused at once may come before."""
        at_once = {"overrun", "stopped", "no_frame"}
        judged = [verdict for verdict in self.publisher.verdicts if in_turn(verdict, at_once)]
        seqs = [verdict.frame_seq for verdict in judged if verdict.frame_seq is not None]
        assert seqs == sorted(seqs)


def in_turn(verdict: Verdict, at_once: set[str]) -> bool:
    return verdict.outcome.value in ("pass", "fail") and verdict.reason not in at_once


TestDaemonSteps = DaemonSteps.TestCase
TestDaemonSteps.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
