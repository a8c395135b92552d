"""The daemon: one verdict for each part, whatever happens, and a clean end."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest

from edge.broker import LocalBroker, find_mosquitto
from edge.clock import utc_now
from edge.config import BrokerConfig, PicturesConfig
from edge.daemon import Daemon, DaemonSettings, Model, RunSummary
from edge.errors import (
    BrokerRefused,
    CameraLost,
    CameraNotFound,
    CameraStalled,
    CaptureError,
    EdgeError,
    FrameError,
    GpuLost,
    RunnerError,
)
from edge.frame import Frame
from edge.inspection import Inspection, Outcome
from edge.inspector import Inspector
from edge.messages import InspectionCounts, MachineStateName, TriggerKind
from edge.mqtt import MqttPublisher
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_records import TriggerInHand
from edge.pictures import pictures_of
from edge.publisher import Picture, Publisher
from edge.rig import stopped_by_signals
from edge.systemd import Notifier
from edge.testing import (
    FakeRunner,
    Listener,
    RecordingPublisher,
    ReplayCamera,
    ScratchOutbox,
    ScriptedInspector,
    fake_bundle,
    flat_frame,
)
from edge.topics import RigIdentity
from edge.trigger import EveryFrame, Trigger
from edge.work.model import FrameInspector, PictureMaker
from tests.provenance import PROVENANCE

PATIENCE_S = 60
SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
RIG = RigIdentity(enterprise="acme", site="dresden", area="assembly", line="line-3", cell="cell-2")
QUICK = DaemonSettings(
    frame_timeout_s=1.0,
    max_frame_age_s=1e6,
    flush_timeout_s=0.0,
    hang_timeout_s=1e6,
    stop_timeout_s=1e6,
    health_interval_s=60,
    first_backoff_s=0.01,
    last_backoff_s=0.02,
)


class Due(Trigger):
    """A trigger that says what it was told to, or raises it."""

    kind = TriggerKind.PART_PRESENT

    def __init__(self, answers: Sequence[bool | EdgeError]) -> None:
        self._answers = list(answers)

    def due(self, frame: Frame) -> bool:
        answer = self._answers.pop(0)
        if isinstance(answer, EdgeError):
            raise answer
        return answer


def no_pictures(inspection: Inspection) -> Sequence[Picture]:
    return ()


def all_pictures(inspection: Inspection) -> Sequence[Picture]:
    return pictures_of(inspection, PicturesConfig())


def make_daemon(
    source: ReplayCamera,
    publisher: Publisher,
    *,
    inspector: FrameInspector | None = None,
    trigger: Trigger | None = None,
    pictures: PictureMaker = no_pictures,
    settings: DaemonSettings = QUICK,
    notifier: Notifier | None = None,
    outbox: Outbox | None = None,
) -> Daemon:
    return Daemon(
        source=source,
        model=Model(
            inspector=inspector or ScriptedInspector(),
            trigger=trigger or EveryFrame(),
            pictures=pictures,
            provenance=PROVENANCE,
            close=lambda: None,
        ),
        publisher=publisher,
        outbox=outbox or ScratchOutbox(),
        settings=settings,
        notifier=notifier,
        synced=lambda: None,
    )


def frames(count: int) -> list[Frame]:
    return [flat_frame(seq) for seq in range(count)]


def states(publisher: RecordingPublisher) -> list[tuple[str, str | None]]:
    return [(state.state.value, state.reason) for state in publisher.machine_states]


def outcomes(publisher: RecordingPublisher) -> list[tuple[str, str | None]]:
    return [(verdict.outcome.value, verdict.reason) for verdict in publisher.verdicts]


class TestVerdicts:
    def test_one_for_each_frame_numbered_from_zero(self) -> None:
        publisher = RecordingPublisher()
        source = ReplayCamera(frames(5), restamp=True)
        summary = make_daemon(source, publisher, inspector=ScriptedInspector((0.2, 3.0))).run()
        assert [v.seq for v in publisher.verdicts] == list(range(5))
        assert [v.frame_seq for v in publisher.verdicts] == list(range(5))
        assert [v.outcome.value for v in publisher.verdicts] == ["pass", "fail", "pass", "fail", "pass"]
        assert {v.camera_serial for v in publisher.verdicts} == {"REPLAY-1"}
        assert summary.verdicts == summary.delivery.acknowledged == 5
        assert summary.outcomes[Outcome.FAIL] == 2
        assert publisher.closed
        assert not source.is_open
        assert states(publisher) == [
            ("Preoperational", "starting"),
            ("ContinuousExecution", None),
            ("Halted", "stopped"),
        ]

    def test_only_for_frames_that_are_due(self) -> None:
        publisher = RecordingPublisher()
        make_daemon(
            ReplayCamera(frames(4), restamp=True), publisher, trigger=Due([False, True, False, True])
        ).run()
        assert [v.frame_seq for v in publisher.verdicts] == [1, 3]

    @pytest.mark.parametrize(
        ("error", "reason"), [(RunnerError("x"), "runner_error"), (FrameError("y"), "frame_error")]
    )
    def test_an_error_of_the_inspection_is_a_verdict_and_the_daemon_goes_on(
        self, error: EdgeError, reason: str
    ) -> None:
        publisher = RecordingPublisher()
        inspector = ScriptedInspector((0.2, error, 0.2))
        make_daemon(ReplayCamera(frames(3), restamp=True), publisher, inspector=inspector).run()
        assert outcomes(publisher) == [("pass", None), ("error", reason), ("pass", None)]
        assert publisher.verdicts[1].frame_seq == 1

    def test_a_lost_gpu_is_a_verdict_and_ends_the_daemon_so_that_it_is_started_anew(self) -> None:
        publisher = RecordingPublisher()
        inspector = ScriptedInspector((0.2, GpuLost("restart the process"), 0.2))
        with pytest.raises(GpuLost) as caught:
            make_daemon(ReplayCamera(frames(3), restamp=True), publisher, inspector=inspector).run()
        assert caught.value.exit_code != 0
        assert outcomes(publisher) == [("pass", None), ("error", "gpu_lost")]
        assert states(publisher)[-1] == ("Halted", "gpu_lost")

    def test_a_broken_frame_is_a_verdict_and_the_daemon_goes_on(self) -> None:
        publisher = RecordingPublisher()
        steps = [flat_frame(0), FrameError("depth holds NaN"), flat_frame(2)]
        make_daemon(ReplayCamera(steps, restamp=True), publisher).run()
        assert outcomes(publisher) == [("pass", None), ("error", "frame_error"), ("pass", None)]
        assert [v.seq for v in publisher.verdicts] == [0, 1, 2]
        assert publisher.verdicts[1].detail == "depth holds NaN"

    def test_a_mistake_of_ours_ends_the_daemon_but_not_without_a_verdict(self) -> None:
        publisher = RecordingPublisher()
        source = ReplayCamera(frames(3), restamp=True)
        inspector = ScriptedInspector((0.2, ZeroDivisionError("oops")))
        with pytest.raises(ZeroDivisionError):
            make_daemon(source, publisher, inspector=inspector).run()
        assert outcomes(publisher) == [("pass", None), ("error", "internal_error")]
        assert states(publisher)[-1][0] == "Halted"
        assert publisher.closed
        assert not source.is_open

    def test_a_stale_frame_gets_no_decision(self) -> None:
        publisher = RecordingPublisher()
        inspector = ScriptedInspector()
        make_daemon(
            ReplayCamera([flat_frame(0, age_s=60.0), flat_frame(1)]),
            publisher,
            inspector=inspector,
            settings=replace(QUICK, max_frame_age_s=30.0),
        ).run()
        assert outcomes(publisher) == [("no_decision", "stale_frame"), ("pass", None)]
        assert inspector.inspected == 1

    def test_a_trigger_that_can_not_see_is_told_once(self) -> None:
        publisher = RecordingPublisher()
        blind = FrameError("no background")
        trigger = Due([True, blind, blind, blind, False, True])
        make_daemon(ReplayCamera(frames(6), restamp=True), publisher, trigger=trigger).run()
        assert outcomes(publisher) == [("pass", None), ("error", "frame_error"), ("pass", None)]
        assert states(publisher)[2:4] == [
            ("Error", "frame_error"),
            ("ContinuousExecution", "trigger_sees_again"),
        ]


class TestCamera:
    @pytest.mark.parametrize("error", [CameraLost("unplugged"), CameraStalled("nothing for 5 s")])
    def test_lost_is_opened_again_as_often_as_it_takes(self, error: EdgeError) -> None:
        publisher = RecordingPublisher()
        source = ReplayCamera(
            [flat_frame(0), error, flat_frame(1)],
            restamp=True,
            open_errors=[None, CameraNotFound("not there"), CameraNotFound("not yet")],
        )
        make_daemon(source, publisher).run()
        assert outcomes(publisher) == [("pass", None), ("pass", None)]
        assert source.times_opened == 2
        reasons = [reason for state, reason in states(publisher) if state == "Error"]
        assert reasons[1:] == ["camera_not_found", "camera_not_found"]
        assert states(publisher)[-2] == ("ContinuousExecution", "reopened")

    def test_one_that_gives_only_broken_frames_is_opened_again(self) -> None:
        publisher = RecordingPublisher()
        source = ReplayCamera([*[FrameError("x")] * 10, flat_frame(0)], restamp=True)
        make_daemon(source, publisher).run()
        assert source.times_opened == 2
        assert len(publisher.verdicts) == 11

    def test_one_that_is_not_there_at_the_start_ends_the_daemon(self) -> None:
        publisher = RecordingPublisher()
        source = ReplayCamera([], open_errors=[CameraNotFound("plug it in")])
        with pytest.raises(CameraNotFound):
            make_daemon(source, publisher).run()
        assert states(publisher)[-1] == ("Halted", "camera_not_found")
        assert publisher.closed

    def test_a_source_that_breaks_for_good_is_never_a_short_success(self) -> None:
        publisher = RecordingPublisher()
        source = ReplayCamera([flat_frame(0), CaptureError("cut off")], restamp=True)
        with pytest.raises(CaptureError):
            make_daemon(source, publisher).run()
        assert len(publisher.verdicts) == 1
        assert publisher.closed
        assert not source.is_open

    def test_a_stop_is_heard_while_it_is_away(self) -> None:
        publisher = RecordingPublisher()
        daemon: list[Daemon] = []

        class Gone(ReplayCamera):
            def open(self) -> None:
                super().open()
                if self.times_opened > 1:
                    daemon[0].stop()
                    raise CameraNotFound("still away")

        daemon.append(make_daemon(Gone([CameraLost("x")]), publisher))
        daemon[0].run()
        assert states(publisher)[-1] == ("Halted", "stopped")


class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_finishes_the_part_in_hand(self, number: signal.Signals) -> None:
        publisher = RecordingPublisher()
        before = signal.getsignal(number)
        heard = threading.Event()

        class Signalled(ScriptedInspector):
            def inspect(self, frame: Frame) -> Inspection:
                if frame.seq == 1:
                    os.kill(os.getpid(), number)
                    assert heard.wait(PATIENCE_S)  # it is the main thread that Python runs handlers in
                return super().inspect(frame)

        source = ReplayCamera(frames(1000), restamp=True)
        daemon = make_daemon(source, publisher, inspector=Signalled())

        def stop() -> None:
            daemon.stop()
            heard.set()

        with stopped_by_signals(stop):
            daemon.run()
        assert [v.frame_seq for v in publisher.verdicts] == [0, 1]
        assert publisher.closed
        assert not source.is_open
        assert signal.getsignal(number) is before

    def test_verdicts_without_acknowledgement_wait_for_the_next_start(self, tmp_path: Path) -> None:
        publisher = RecordingPublisher(acknowledge=lambda verdict: verdict.seq != 1)
        outbox = Outbox(tmp_path / "outbox", OutboxConfig())
        summary = make_daemon(ReplayCamera(frames(3), restamp=True), publisher, outbox=outbox).run()
        assert (summary.delivery.acknowledged, summary.delivery.waiting) == (2, 1)
        again = RecordingPublisher()
        outbox = Outbox(tmp_path / "outbox", OutboxConfig())
        make_daemon(ReplayCamera([]), again, outbox=outbox).run()
        assert [verdict.result_id for verdict in again.verdicts] == [publisher.verdicts[1].result_id]

    def test_verdicts_that_the_broker_refuses_are_an_error_with_its_reason(self) -> None:
        publisher = RecordingPublisher(refuse=lambda verdict: verdict.seq == 1)
        with pytest.raises(BrokerRefused, match=r"refused 1 of 1 verdicts .*not authorised") as caught:
            make_daemon(ReplayCamera(frames(3), restamp=True), publisher).run()
        assert caught.value.exit_code == 7

    def test_a_trigger_that_an_earlier_start_took_gets_its_error(self, tmp_path: Path) -> None:
        with Outbox(tmp_path / "outbox", OutboxConfig()) as outbox:
            outbox.begin(TriggerInHand("trigger-1", "command", utc_now(), "SN-1", 4, "request-1"))
        publisher = RecordingPublisher()
        outbox = Outbox(tmp_path / "outbox", OutboxConfig())
        make_daemon(ReplayCamera(frames(1), restamp=True), publisher, outbox=outbox).run()
        first = publisher.verdicts[0]
        assert (first.result_id, first.part_id, first.outcome.value, first.reason) == (
            "trigger-1",
            "SN-1",
            "error",
            "interrupted",
        )
        assert first.request_id == "request-1"
        assert [verdict.seq for verdict in publisher.verdicts] == [0, 1]

    def test_a_broker_that_refuses_ends_the_daemon_before_the_camera_is_opened(self) -> None:
        publisher = RecordingPublisher(start_error=BrokerRefused("no"))
        source = ReplayCamera(frames(1))
        with pytest.raises(BrokerRefused):
            make_daemon(source, publisher).run()
        assert source.times_opened == 0

    def test_systemd_hears_ready_watchdog_and_stopping(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(str(tmp_path / "notify"))
            server.settimeout(PATIENCE_S)
            notifier = Notifier(str(tmp_path / "notify"))
            said: list[str] = []

            def wait_for_watchdog() -> None:
                while "WATCHDOG=1" not in said:
                    said.append(server.recv(4096).decode())

            source = ReplayCamera([*frames(3), wait_for_watchdog], restamp=True)
            make_daemon(source, RecordingPublisher(), notifier=notifier).run()
            server.setblocking(False)
            while True:
                try:
                    said.append(server.recv(4096).decode())
                except BlockingIOError:
                    break
        assert said.count("READY=1") == 1
        assert said.count("WATCHDOG=1") >= 1
        assert said.index("READY=1") < said.index("WATCHDOG=1") < said.index("STOPPING=1")
        assert "STATUS=ContinuousExecution" in said

    def test_a_dead_notify_socket_does_not_stop_the_daemon(self, tmp_path: Path) -> None:
        notifier = Notifier(str(tmp_path / "nobody"))
        make_daemon(ReplayCamera(frames(1), restamp=True), RecordingPublisher(), notifier=notifier).run()


def test_the_real_inspector_runs_over_the_fake_runner() -> None:
    publisher = RecordingPublisher()
    bundle = fake_bundle(threshold=0.4)
    empty = flat_frame(0, width_px=128, height_px=96)
    part = flat_frame(1, width_px=128, height_px=96, part_height_m=0.02)
    with FakeRunner(bundle) as runner:
        source = ReplayCamera([empty, part], restamp=True)
        make_daemon(source, publisher, inspector=Inspector(bundle, runner), pictures=all_pictures).run()
    assert runner.closed
    assert outcomes(publisher) == [("no_decision", "no_part"), ("fail", None)]
    assert publisher.verdicts[1].score == pytest.approx(0.5, abs=1e-3)
    assert [p.kind.value for p, v in publisher.pictures if v.seq == 1] == ["heatmap", "image/rgb", "map"]


def test_health_counts_what_happened() -> None:
    publisher = RecordingPublisher()

    def wait_for_health() -> None:
        seen = len(publisher.healths)
        deadline = time.monotonic() + 30
        while len(publisher.healths) < seen + 2 and time.monotonic() < deadline:
            time.sleep(0.005)

    source = ReplayCamera([*frames(4), wait_for_health], restamp=True)
    make_daemon(
        source,
        publisher,
        inspector=ScriptedInspector((0.2, 3.0)),
        settings=replace(QUICK, health_interval_s=0.02),
    ).run()
    last = publisher.healths[-1]
    assert last.inspections == InspectionCounts(passed=2, failed=2, no_decision=0, error=0)
    assert (last.camera.frames, last.camera.serial, last.recipe_id) == (4, "REPLAY-1", "plate")
    assert last.disk_free_bytes is not None
    schema = json.loads((SCHEMAS / "health.schema.json").read_text(encoding="utf-8"))
    for health in publisher.healths:
        jsonschema.Draft202012Validator(schema).validate(json.loads(health.to_json()))


@pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)
class TestOverMosquitto:
    def run_over(self, config: BrokerConfig, count: int) -> RunSummary:
        publisher = MqttPublisher(config, RIG, PROVENANCE.session)
        return make_daemon(
            ReplayCamera(frames(count), restamp=True),
            publisher,
            inspector=ScriptedInspector((0.2, 3.0)),
            pictures=all_pictures,
            settings=replace(QUICK, health_interval_s=0.05, flush_timeout_s=30),
        ).run()

    def test_n_frames_are_n_verdicts_and_pictures_at_an_independent_subscriber(self) -> None:
        with LocalBroker("mosquitto") as broker, Listener(broker.host, broker.port) as listener:
            summary = self.run_over(broker.client_config(), 28)
            verdicts = listener.wait_for("/verdict", lambda heard: len(heard) >= 28)
            heatmaps = listener.wait_for("/heatmap", lambda heard: len(heard) >= 28)
            twins = listener.wait_for("/heatmap/info", lambda heard: len(heard) >= 28)
            maps = listener.wait_for("/map", lambda heard: len(heard) >= 28)
            states_ = listener.wait_for("/state/machine", lambda heard: len(heard) >= 3)
            healths = listener.wait_for("/health", lambda heard: len(heard) >= 1)
            gone = listener.wait_for("/availability", lambda heard: len(heard) >= 2)
        assert summary.verdicts == 28
        schema = json.loads((SCHEMAS / "verdict.schema.json").read_text(encoding="utf-8"))
        for message in verdicts:
            jsonschema.Draft202012Validator(schema).validate(message.json())
        assert [v.json()["seq"] for v in verdicts] == list(range(28))
        assert [v.json()["outcome"] for v in verdicts] == ["pass", "fail"] * 14
        assert [t.json()["result_id"] for t in twins] == [v.json()["result_id"] for v in verdicts]
        for heatmap, values in zip(heatmaps, maps, strict=True):
            image = cv2.imdecode(np.frombuffer(heatmap.payload, np.uint8), cv2.IMREAD_COLOR)
            assert image is not None
            assert image.shape == (48, 64, 3)
            assert np.frombuffer(values.payload, "<f2").reshape(48, 64)[24, 32] > 0
        assert [s.json()["state"] for s in states_] == [
            MachineStateName.PREOPERATIONAL.value,
            MachineStateName.CONTINUOUS_EXECUTION.value,
            MachineStateName.HALTED.value,
        ]
        assert healths[-1].json()["recipe_id"] == "plate"
        assert [a.json()["state"] for a in gone] == ["online", "offline"]

    def test_what_a_broker_misses_that_is_not_there_goes_out_at_the_next_start(self, tmp_path: Path) -> None:
        with LocalBroker("mosquitto") as gone:
            config = gone.client_config()
        publisher = MqttPublisher(config, RIG, PROVENANCE.session)
        outbox = Outbox(tmp_path / "outbox", OutboxConfig())
        summary = make_daemon(ReplayCamera(frames(2), restamp=True), publisher, outbox=outbox).run()
        assert (summary.verdicts, summary.delivery.acknowledged, summary.delivery.waiting) == (2, 0, 2)
        with LocalBroker("mosquitto") as broker, Listener(broker.host, broker.port) as listener:
            publisher = MqttPublisher(broker.client_config(), RIG, replace(PROVENANCE.session, epoch=6))
            outbox = Outbox(tmp_path / "outbox", OutboxConfig())
            settings = replace(QUICK, flush_timeout_s=30)
            daemon = make_daemon(ReplayCamera([]), publisher, outbox=outbox, settings=settings)
            assert daemon.run().delivery.waiting == 0
            heard = [message.json() for message in listener.wait_for("/verdict", lambda all_: len(all_) >= 2)]
        assert [(verdict["epoch"], verdict["seq"]) for verdict in heard] == [(5, 0), (5, 1)]


def test_pictures_are_those_that_are_wanted_and_there() -> None:
    inspection = ScriptedInspector((3.0,)).inspect(flat_frame())
    everything = pictures_of(inspection, PicturesConfig())
    assert [p.kind.value for p in everything] == ["heatmap", "image/rgb", "map"]
    assert (everything[0].low, everything[0].high, everything[0].colour_map) == (0.0, 2.0, "turbo")
    assert pictures_of(inspection, PicturesConfig(heatmap=False, image=False, map=False)) == ()
    photo = cv2.imdecode(np.frombuffer(everything[1].data, np.uint8), cv2.IMREAD_COLOR)
    assert photo is not None
    assert photo.shape == (48, 64, 3)
    no_map = Inspection(
        frame=inspection.frame,
        outcome=Outcome.NO_DECISION,
        durations=inspection.durations,
        reason="no_part",
    )
    assert [p.kind.value for p in pictures_of(no_map, PicturesConfig())] == ["image/rgb"]
    assert len(everything[2].data) == 48 * 64 * 2
