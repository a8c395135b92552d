"""The daemon's threads at work: late frames, triggers from outside, threads that hang, a stop at any time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge.camera.source import FrameSource, SourceHealth
from edge.daemon import Daemon, DaemonSettings, Model
from edge.errors import (
    BrokerUnreachable,
    CameraAway,
    CameraLost,
    CameraStalled,
    ConfigError,
    ThreadHung,
    TriggerError,
    TriggerRefused,
)
from edge.event_trigger import ByCommand, EventTrigger
from edge.frame import Frame
from edge.inspection import Inspection
from edge.inspector import PreparedPart
from edge.messages import TriggerKind
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_records import StoredVerdict
from edge.systemd import Notifier
from edge.testing import RecordingPublisher, ReplayCamera, ScratchOutbox, ScriptedInspector, flat_frame
from edge.trigger import EveryFrame, Trigger
from edge.work.handover import Handover
from edge.work.pulse import Pulse
from tests.provenance import PROVENANCE

PATIENCE_S = 300
SETTINGS = DaemonSettings(
    flush_timeout_s=0,
    health_interval_s=60,
    max_frame_age_s=1e6,
    first_backoff_s=0.01,
    hang_timeout_s=1e6,
    stop_timeout_s=1e6,
)
LIVE = replace(SETTINGS, live=True, frame_timeout_s=1e6)


class Live(FrameSource):
    """A camera that gives a frame each time that it is told to, and ends when told to."""

    def __init__(self) -> None:
        self._steps: Handover[Frame | CameraAway | None] = Handover(10)
        self.is_open = False
        self._shown = 0

    def show(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._steps.put(flat_frame(self._shown), PATIENCE_S)
            self._shown += 1

    def away(self, error: CameraAway) -> None:
        self._steps.put(error, PATIENCE_S)

    def end(self) -> None:
        self._steps.close()

    @property
    def name(self) -> str:
        return "live"

    def open(self) -> None:
        self.is_open = True

    def read(self, timeout_s: float = 5.0) -> Frame | None:
        item = self._steps.take(timeout_s)
        if item is None and not self._steps.ended:
            raise CameraStalled("nothing yet")
        if isinstance(item, CameraAway):
            raise item
        return item

    def close(self) -> None:
        self.is_open = False

    def health(self) -> SourceHealth:
        return SourceHealth(frames=self._shown, serial="LIVE-1")


class Gate:
    """A place where a thread waits until it is let on."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self._on = threading.Event()

    def wait(self) -> None:
        self.reached.release()
        assert self._on.wait(PATIENCE_S)

    def open(self) -> None:
        self._on.set()


class Gated(ScriptedInspector):
    """Waits at a gate before it judges, or prepares."""

    def __init__(self, gate: Gate, *, at: str = "judge") -> None:
        super().__init__()
        self._gate = gate
        self._at = at

    def prepare(self, frame: Frame) -> PreparedPart:
        if self._at == "prepare":
            self._gate.wait()
        return super().prepare(frame)

    def judge(self, part: PreparedPart) -> Inspection:
        if self._at == "judge":
            self._gate.wait()
        return super().judge(part)


class Due(Trigger):
    kind = TriggerKind.PART_PRESENT

    def due(self, frame: Frame) -> bool:
        return True


class Deaf(ByCommand):
    def open(self) -> None:
        raise TriggerError("no such line")


def model_of(
    inspector: ScriptedInspector | None = None,
    trigger: Trigger | EventTrigger | None = None,
    closed: Callable[[], None] = lambda: None,
    product: str = "plate",
) -> Model:
    return Model(
        inspector or ScriptedInspector(),
        trigger or EveryFrame(),
        lambda _: (),
        replace(PROVENANCE, product=product),
        closed,
    )


class Running:
    """A daemon in a thread of its own."""

    def __init__(
        self,
        source: FrameSource,
        model: Model,
        settings: DaemonSettings = SETTINGS,
        publisher: RecordingPublisher | None = None,
        *,
        notifier: Notifier | None = None,
        outbox: Outbox | None = None,
    ) -> None:
        self.publisher = publisher or RecordingPublisher()
        self.daemon = Daemon(
            source=source,
            model=model,
            publisher=self.publisher,
            outbox=outbox or ScratchOutbox(),
            settings=settings,
            notifier=notifier,
            synced=lambda: None,
        )
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.daemon.run()
        except BaseException as error:  # noqa: BLE001  # looked at by the test
            self.failure = error

    def ended(self) -> list[tuple[str, str | None]]:
        """Its verdicts, once it has ended."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        verdicts = self.publisher.verdicts
        assert [verdict.seq for verdict in verdicts] == list(range(len(verdicts)))
        assert len({verdict.result_id for verdict in verdicts}) == len(verdicts)
        return [(verdict.outcome.value, verdict.reason) for verdict in verdicts]


def until(done: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(100 * PATIENCE_S):
        if done():
            return
        pause.wait(0.01)
    raise AssertionError("did not come true")


class TestHandOver:
    def test_free_running_takes_the_latest_and_counts_the_rest(self) -> None:
        source, gate = Live(), Gate()
        running = Running(source, model_of(Gated(gate)), LIVE)
        source.show(1)
        assert gate.reached.acquire(timeout=PATIENCE_S)  # frame 0 is in the model
        source.show(1)
        until(lambda: len(running.daemon._prepared) == 1)  # frame 1 is prepared for it
        source.show(5)
        until(lambda: running.daemon._tally.work({}, {}).frames_dropped == 4)  # 2 to 5, for 6
        gate.open()
        source.end()
        assert running.ended() == [("pass", None)] * 3
        assert [verdict.frame_seq for verdict in running.publisher.verdicts] == [0, 1, 6]
        work = running.publisher.healths[-1].work
        assert work is not None
        assert (work.frames_dropped, work.overruns) == (4, 0)
        assert set(work.steps) == {"capture", "depth", "inference", "commit", "total"}

    def test_a_trigger_too_many_gets_its_error_at_once(self) -> None:
        source, gate = Live(), Gate()
        running = Running(source, model_of(Gated(gate), Due()), replace(LIVE, queue=2))
        source.show(1)
        assert gate.reached.acquire(timeout=PATIENCE_S)
        source.show(1)
        until(lambda: len(running.daemon._prepared) == 1)
        source.show(3)  # 2 and 3 wait, 4 does not
        until(lambda: len(running.publisher.verdicts) == 1)
        (verdict,) = running.publisher.verdicts
        assert (verdict.reason, verdict.frame_seq, verdict.trigger) == (
            "overrun",
            4,
            TriggerKind.PART_PRESENT,
        )
        assert verdict.detail is not None
        assert "2 parts wait" in verdict.detail
        gate.open()
        source.end()
        assert sorted(running.ended()) == [("error", "overrun")] + [("pass", None)] * 4
        work = running.publisher.healths[-1].work
        assert work is not None
        assert work.overruns == 1

    def test_the_next_part_is_prepared_while_the_model_runs(self) -> None:
        gate = Gate()
        running = Running(ReplayCamera([flat_frame(0), flat_frame(1)]), model_of(Gated(gate)))
        assert gate.reached.acquire(timeout=PATIENCE_S)
        until(lambda: len(running.daemon._prepared) == 1)
        gate.open()
        assert running.ended() == [("pass", None)] * 2

    def test_a_slow_publisher_slows_the_rig_and_loses_nothing(self) -> None:
        gate = Gate()

        class Slow(RecordingPublisher):
            def publish_verdict(self, verdict: StoredVerdict, *, newest: bool) -> None:
                gate.wait()
                super().publish_verdict(verdict, newest=newest)

        frames = [flat_frame(seq) for seq in range(40)]
        running = Running(ReplayCamera(frames), model_of(trigger=Due()), publisher=Slow())
        assert gate.reached.acquire(timeout=PATIENCE_S)
        # 8 findings wait, and the begun jobs among them; then the inspection waits, and all before it.
        until(lambda: len(running.daemon._findings) >= 8 and len(running.daemon._prepared) == 1)
        gate.open()
        assert running.ended() == [("pass", None)] * 40

    def test_one_that_holds_nothing_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="at least 1"):
            Handover(0)


class TestCommands:
    def test_the_first_frame_after_the_trigger_is_inspected_under_its_serial(self) -> None:
        source = Live()
        trigger = ByCommand(timeout_s=PATIENCE_S, lead_s=0.0)
        running = Running(source, model_of(trigger=trigger), LIVE)
        until(lambda: not trigger._closed)
        before = flat_frame(100)  # exposed before, arrives after
        firing = running.daemon.fire("SN-17", "request-1")
        source._steps.put(before)
        source.show(1)
        until(lambda: len(running.publisher.verdicts) == 1)
        source.show(3)  # nobody asked
        source.end()
        assert running.ended() == [("pass", None)]
        (verdict,) = running.publisher.verdicts
        assert (verdict.result_id, verdict.part_id, verdict.request_id) == (firing.id, "SN-17", "request-1")
        assert (verdict.frame_seq, verdict.trigger) == (0, TriggerKind.COMMAND)
        assert [state.state.value for state in running.publisher.machine_states][1] == "Ready"

    def test_a_frame_that_was_perhaps_exposed_before_is_not_taken(self) -> None:
        source = Live()
        trigger = ByCommand(timeout_s=1e6, lead_s=3600.0)
        running = Running(source, model_of(trigger=trigger), LIVE)
        until(lambda: not trigger._closed)
        running.daemon.fire()
        source.show(5)
        source.end()
        assert running.ended() == [("error", "no_frame")]

    def test_a_frame_that_shows_the_past_answers_no_trigger(self) -> None:
        source = Live()
        trigger = ByCommand(timeout_s=PATIENCE_S, lead_s=0.0)
        running = Running(source, model_of(trigger=trigger), LIVE)
        until(lambda: not trigger._closed)
        running.daemon.fire()
        source._steps.put(replace(flat_frame(100), stale="the picture is frozen"))
        source.show(1)
        source.end()
        assert running.ended() == [("pass", None)]
        assert running.publisher.verdicts[0].frame_seq == 0

    def test_a_frozen_picture_is_no_part_at_rest(self) -> None:
        source = Live()
        running = Running(source, model_of(trigger=Due()), LIVE)
        source._steps.put(replace(flat_frame(100), stale="the picture is frozen"))
        source.show(1)
        source.end()
        assert running.ended() == [("pass", None)]
        assert running.publisher.verdicts[0].frame_seq == 0

    def test_no_frame_in_time_is_one_error(self) -> None:
        source = Live()
        trigger = ByCommand(timeout_s=0.05, lead_s=0.0)
        running = Running(source, model_of(trigger=trigger), LIVE)
        until(lambda: not trigger._closed)
        firing = running.daemon.fire("SN-1")
        gone = CameraAway("looked after")
        while not running.publisher.verdicts:
            source.away(gone)
        source.show(2)
        source.end()
        assert running.ended() == [("error", "no_frame")]
        assert running.publisher.verdicts[0].result_id == firing.id
        assert [state.reason for state in running.publisher.machine_states] == [
            "starting",
            None,
            "camera_away",
            "reopened",
            "stopped",
        ]

    def test_a_source_that_waits_shows_one_part_for_each_trigger(self) -> None:
        trigger = ByCommand(timeout_s=PATIENCE_S, lead_s=1.0)
        source = ReplayCamera([flat_frame(seq) for seq in range(3)], restamp=True)
        running = Running(source, model_of(trigger=trigger))
        until(lambda: not trigger._closed)
        for number in range(3):
            running.daemon.fire(f"SN-{number}")
        until(lambda: len(running.publisher.verdicts) == 3)
        running.daemon.stop()
        assert running.ended() == [("pass", None)] * 3
        assert [(v.part_id, v.frame_seq) for v in running.publisher.verdicts] == [
            ("SN-0", 0),
            ("SN-1", 1),
            ("SN-2", 2),
        ]

    def test_a_rig_that_is_not_triggered_by_command_says_so(self) -> None:
        source = Live()
        running = Running(source, model_of(), LIVE)
        with pytest.raises(TriggerRefused, match="is every_frame"):
            running.daemon.fire()
        source.end()
        running.ended()

    def test_a_stopped_rig_takes_no_trigger(self) -> None:
        trigger = ByCommand(timeout_s=PATIENCE_S, lead_s=0.0)
        running = Running(ReplayCamera([]), model_of(trigger=trigger))
        until(lambda: not trigger._closed)
        running.daemon.stop()
        running.ended()
        with pytest.raises(TriggerRefused):
            running.daemon.fire()

    def test_a_trigger_that_can_t_be_heard_ends_the_daemon(self) -> None:
        closed: list[str] = []
        model = model_of(trigger=Deaf(timeout_s=1, lead_s=0), closed=lambda: closed.append("model"))
        running = Running(Live(), model, LIVE)
        assert running.ended() == []
        assert isinstance(running.failure, TriggerError)
        assert closed == ["model"]


class TestRecipes:
    def test_jobs_of_before_keep_their_model_which_then_is_closed(self) -> None:
        source, gate = Live(), Gate()
        closed: list[tuple[str, str]] = []

        def close(name: str) -> Callable[[], None]:
            return lambda: closed.append((name, threading.current_thread().name))

        running = Running(source, model_of(Gated(gate), Due(), close("a"), "a"), LIVE)
        source.show(2)
        assert gate.reached.acquire(timeout=PATIENCE_S)
        until(lambda: len(running.daemon._prepared) == 1)
        changed = running.daemon.exchange(model_of(None, Due(), close("b"), "b"))
        source.show(1)  # seen by the model before, or the one after: the exchange comes between two frames
        changed.result(PATIENCE_S)
        source.show(2)
        assert closed == []
        gate.open()
        until(lambda: closed == [("a", "inspection")])
        source.end()
        running.ended()
        recipes = [verdict.recipe_id for verdict in running.publisher.verdicts]
        assert recipes in (["a", "a", "a", "b", "b"], ["a", "a", "b", "b", "b"])
        assert closed == [("a", "inspection"), ("b", "inspection")]

    def test_one_whose_trigger_can_t_be_heard_is_closed_and_the_old_one_goes_on(self) -> None:
        source = Live()
        closed: list[str] = []
        first = ByCommand(timeout_s=PATIENCE_S, lead_s=0.0)
        running = Running(source, model_of(None, first, lambda: closed.append("a"), "a"), LIVE)
        until(lambda: not first._closed)
        refused = running.daemon.exchange(
            model_of(None, Deaf(timeout_s=1, lead_s=0), lambda: closed.append("b"), "b")
        )
        source.show(1)
        with pytest.raises(TriggerError, match="no such line"):
            refused.result(PATIENCE_S)
        source.show(1)
        until(lambda: closed == ["b"])
        running.daemon.fire()
        source.show(1)
        until(lambda: len(running.publisher.verdicts) == 1)
        source.end()
        assert running.ended() == [("pass", None)]
        assert running.publisher.verdicts[0].recipe_id == "a"

    def test_one_that_comes_too_late_is_told_so_and_closed(self) -> None:
        source, gate = Live(), Gate()
        closed: list[str] = []
        running = Running(source, model_of(Gated(gate), Due(), lambda: closed.append("a")), LIVE)
        source.show(1)
        assert gate.reached.acquire(timeout=PATIENCE_S)
        running.daemon.stop()
        late = running.daemon.exchange(model_of(closed=lambda: closed.append("b")))
        source.end()
        with pytest.raises(TriggerRefused, match="stops"):
            late.result(PATIENCE_S)
        gate.open()
        running.ended()
        assert sorted(closed) == ["a", "b"]


class TestEnd:
    @pytest.mark.parametrize("at", ["prepare", "judge"])
    def test_a_stop_reports_what_was_not_begun_with(self, at: str) -> None:
        source, gate = Live(), Gate()
        running = Running(source, model_of(Gated(gate, at=at), Due()), LIVE)
        source.show(3)
        assert gate.reached.acquire(timeout=PATIENCE_S)
        until(lambda: len(running.daemon._open) == 3)
        running.daemon.stop()
        source.end()
        gate.open()
        said = running.ended()
        if at == "judge":
            assert sorted(said) == [("error", "stopped")] * 2 + [("pass", None)]
        else:
            assert said == [("error", "stopped")] * 3
        assert running.failure is None
        assert not source.is_open

    def test_a_publisher_that_fails_ends_the_daemon_and_the_verdicts_wait(self, tmp_path: Path) -> None:
        class Broken(RecordingPublisher):
            def publish_verdict(self, verdict: StoredVerdict, *, newest: bool) -> None:
                raise BrokerUnreachable("closed")

        running = Running(
            ReplayCamera([flat_frame(seq, part_id=f"P{seq}") for seq in range(3)]),
            model_of(trigger=Due()),
            publisher=Broken(),
            outbox=Outbox(tmp_path, OutboxConfig()),
        )
        assert running.ended() == []
        assert isinstance(running.failure, BrokerUnreachable)
        assert running.publisher.closed
        with Outbox(tmp_path, OutboxConfig()) as outbox:
            kept = [json.loads(queued.verdict.payload) for queued in outbox.unacknowledged(10)]
            assert outbox.in_hand() == ()
        assert {verdict["part_id"] for verdict in kept} >= {"P0"}
        assert kept[0]["outcome"] == "pass"

    def test_a_mistake_of_another_thread_of_the_rig_ends_the_daemon(self) -> None:
        running = Running(Live(), model_of(trigger=Due()), LIVE)
        with running.daemon.carrying():
            raise RuntimeError("the recipes' thread")
        assert running.ended() == []
        assert str(running.failure) == "the recipes' thread"

    def test_a_thread_that_hangs_ends_the_daemon_with_the_stacks_of_all(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        source, gate = Live(), Gate()
        settings = replace(LIVE, hang_timeout_s=0.5, stop_timeout_s=0.5)
        running = Running(source, model_of(Gated(gate), Due()), settings)
        source.show(3)
        assert gate.reached.acquire(timeout=PATIENCE_S)
        until(lambda: len(running.daemon._open) == 3)
        source.end()
        said = running.ended()
        assert isinstance(running.failure, ThreadHung)
        assert "inspection" in str(running.failure)
        assert running.failure.exit_code == 15
        assert said.count(("error", "thread_hung")) + said.count(("error", "stopped")) == 3
        assert ("error", "thread_hung") in said  # the part in hand
        assert "in judge" in capfd.readouterr().err
        gate.open()  # what the thread finds out too late is no second verdict
        until(lambda: not running.daemon._inspection.alive)
        assert len(running.publisher.verdicts) == 3

    def test_a_source_that_hangs_does_not_keep_the_daemon(self) -> None:
        gate = Gate()

        class Stuck(Live):
            def read(self, timeout_s: float = 5.0) -> Frame | None:
                gate.wait()
                return None

        trigger = ByCommand(timeout_s=PATIENCE_S, lead_s=0.0)
        running = Running(Stuck(), model_of(trigger=trigger), replace(LIVE, stop_timeout_s=0.1))
        assert gate.reached.acquire(timeout=PATIENCE_S)
        running.daemon.fire("SN-1")
        running.daemon.stop()
        assert running.ended() == [("error", "thread_hung")]
        assert isinstance(running.failure, ThreadHung)
        assert "capture" in str(running.failure)
        assert running.publisher.closed
        gate.open()
        until(lambda: not running.daemon._capture.alive)

    def test_the_command_leaves_a_hanging_thread_behind(self, tmp_path: Path) -> None:
        """The process ends, with the code that says why, though a thread of it never will."""
        script = tmp_path / "hangs.py"
        script.write_text(
            textwrap.dedent(
                """
                import concurrent.futures, sys, threading
                import edge.commands.daemon as command
                from edge.errors import ThreadHung

                def hang(*_, **__):
                    # Python joins the threads of an executor before it ends.
                    concurrent.futures.ThreadPoolExecutor(1).submit(threading.Event().wait)
                    raise ThreadHung("the thread inspection made no progress")

                command.run_rig = hang
                command.load_rig_config = lambda *_: None
                sys.argv = ["edge-daemon", "rig.yaml"]
                command.main()
                """
            )
        )
        done = subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert done.returncode == 15
        assert "the thread inspection made no progress" in done.stderr

    def test_the_watchdog_hears_nothing_while_one_thread_makes_no_progress(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(str(tmp_path / "notify"))
            server.setblocking(False)

            def heard() -> int:
                count = 0
                while True:
                    try:
                        count += server.recv(4096) == b"WATCHDOG=1"
                    except BlockingIOError:
                        return count

            source, gate = Live(), Gate()
            running = Running(
                source, model_of(Gated(gate)), LIVE, notifier=Notifier(str(tmp_path / "notify"))
            )
            source.show(1)
            assert gate.reached.acquire(timeout=PATIENCE_S)
            pulse, inspection = running.daemon._pulse, running.daemon._inspection
            until(lambda: inspection.beat.count == pulse._seen["inspection"])
            heard()
            source.show(5)  # all others get on
            others = [w for w in running.daemon._workers if w is not inspection]
            counts = [worker.beat.count for worker in others]
            until(
                lambda: all(w.beat.count > count + 2 for w, count in zip(others[1:], counts[1:], strict=True))
            )
            assert heard() == 0
            gate.open()
            until(lambda: heard() > 0)
            source.end()
            running.ended()


class TestPulse:
    def test_it_goes_only_while_all_get_on(self) -> None:
        now_ns = 0
        pulse = Pulse(lambda: now_ns)
        assert not pulse.all_got_on()  # nobody is there yet
        first, second = pulse.of("first"), pulse.of("second")
        assert not pulse.all_got_on()
        first.beat()
        assert not pulse.all_got_on()
        second.beat()
        assert pulse.all_got_on()
        assert not pulse.all_got_on()  # not again for the same beats
        first.beat()
        now_ns = 3_000_000_000
        assert pulse.ages_s() == {"first": 3.0, "second": 3.0}
        second.rest()
        assert pulse.all_got_on()
        assert pulse.ages_s() == {"first": 3.0}
        first.rest()
        assert not pulse.all_got_on()


def test_a_camera_that_is_lost_while_a_trigger_waits_does_not_cost_it_its_verdict() -> None:
    trigger = ByCommand(timeout_s=PATIENCE_S, lead_s=0.0)
    source = ReplayCamera([CameraLost("unplugged"), flat_frame(0)], restamp=True)
    running = Running(source, model_of(trigger=trigger))
    until(lambda: not trigger._closed)
    firing = running.daemon.fire("SN-1")
    until(lambda: len(running.publisher.verdicts) == 1)
    running.daemon.stop()
    assert running.ended() == [("pass", None)]
    assert running.publisher.verdicts[0].result_id == firing.id
