"""The promise in the daemon's health: verdicts and labels in a real outbox, through restarts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.calibration import PromisedRate
from edge.clock import Session, utc_now
from edge.daemon import Daemon
from edge.frame import Frame
from edge.labelling.filing import Filed
from edge.messages import TriggerKind
from edge.orders import OrderDesk
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_labels import PartLabel
from edge.outbox_orders import outbox_handlers
from edge.promise_messages import PromiseHealth
from edge.promise_monitor import PromiseMonitor
from edge.testing import RecordingPublisher, ReplayCamera, ScriptedInspector, flat_frame, sample_verdict
from edge.topics import Topics
from edge.trigger import EveryFrame, Trigger
from edge.verdict import Provenance
from edge.work.errands import Errands
from edge.work.model import Model
from edge.work.settings import DaemonSettings

SESSION = Session(epoch=5, boot_id="boot", software_version="0")
PROVENANCE = Provenance(SESSION, "plate", "ast", "0" * 64, "c1", False, None, True)


class EachFrameAPart(Trigger):
    kind = TriggerKind.PART_PRESENT

    def due(self, frame: Frame) -> bool:
        return True


MODEL = Model(
    inspector=ScriptedInspector([0.2, 0.2, 0.2, 2.0]),
    trigger=EachFrameAPart(),
    pictures=lambda _: (),
    provenance=PROVENANCE,
    close=lambda: None,
    promise=PromisedRate(0.05, 0.95),
)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path, OutboxConfig(keep_free_mb=0)) as opened:
        yield opened


def judged(outbox: Outbox, passed: int, rejected: int, *, first: int = 0) -> list[str]:
    """So many verdicts; gives the ids of the rejected ones."""
    verdicts = [
        outbox.commit(sample_verdict(first + seq, int(seq >= passed))) for seq in range(passed + rejected)
    ]
    return [verdict.result_id for verdict in verdicts[passed:]]


def say(outbox: Outbox, result_ids: list[str], label: str = "good") -> None:
    for result_id in result_ids:
        outbox.label(PartLabel(result_id, "anna", label, None, utc_now()))


def look(monitor: PromiseMonitor, model: Model = MODEL) -> PromiseHealth:
    health = monitor.health(model)
    assert health is not None
    return health


def test_a_broken_promise_is_warned_of_and_a_restart_keeps_the_count(outbox: Outbox, tmp_path: Path) -> None:
    monitor = PromiseMonitor(tmp_path)
    ids = judged(outbox, 60, 20)
    before = look(monitor)
    assert (before.good, before.rejected, before.unlabelled, before.warning) == (60, 0, 20, None)
    say(outbox, ids[:19])
    say(outbox, ids[19:], "scratch")
    broken = look(monitor)
    assert (broken.good, broken.rejected, broken.bad, broken.unlabelled) == (79, 19, 1, 0)
    assert broken.warning == "promise_broken"
    assert broken.e_value >= broken.e_value_limit
    assert broken.rate_at_least > broken.promised_rate == 0.05
    assert broken.detail is not None
    assert "19 of 79 good parts" in broken.detail
    again = look(PromiseMonitor(tmp_path))
    leave = {"warned_for_s"}
    assert again.model_dump(exclude=leave) == broken.model_dump(exclude=leave)
    say(outbox, ids, "dent")  # somebody looked again
    mended = look(monitor)
    assert (mended.good, mended.rejected, mended.bad, mended.warning) == (60, 0, 20, None)


def test_another_version_of_the_calibration_begins_anew(outbox: Outbox, tmp_path: Path) -> None:
    monitor = PromiseMonitor(tmp_path)
    say(outbox, judged(outbox, 10, 2))
    assert look(monitor).good == 12
    next_one = replace(MODEL, provenance=replace(PROVENANCE, calibration_version=2))
    assert look(monitor, next_one).good == 0
    assert look(monitor).good == 12


def test_a_passed_part_that_was_found_bad_is_no_good_part(outbox: Outbox, tmp_path: Path) -> None:
    verdict = outbox.commit(sample_verdict(0))
    say(outbox, [verdict.result_id], "dent")
    health = look(PromiseMonitor(tmp_path))
    assert (health.good, health.bad, health.unlabelled) == (0, 1, 0)


def test_a_long_ledger_is_read_in_pieces(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.promise_monitor._VERDICTS", 2)
    say(outbox, judged(outbox, 25, 5))
    monitor = PromiseMonitor(tmp_path)
    first = look(monitor)
    assert (first.state, first.good, first.rejected) == ("reading", 20, 0)
    whole = look(monitor)
    assert (whole.state, whole.good, whole.rejected) == ("watching", 30, 5)


def test_what_promises_nothing_has_no_section(tmp_path: Path) -> None:
    assert PromiseMonitor(tmp_path).health(replace(MODEL, promise=None)) is None


def test_frames_in_free_running_are_no_parts(outbox: Outbox, tmp_path: Path) -> None:
    free = replace(MODEL, trigger=EveryFrame())
    outbox.commit(sample_verdict(0).model_copy(update={"trigger": TriggerKind.EVERY_FRAME}))
    assert look(PromiseMonitor(tmp_path), free).state == "not_tested"
    assert look(PromiseMonitor(tmp_path)).good == 0
    assert look(PromiseMonitor(tmp_path, frames_are_parts=True), free).good == 1


def test_an_outbox_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    health = look(PromiseMonitor(tmp_path / "nowhere"))
    assert health.state == "reading"
    assert health.detail is not None


def test_a_daemon_tells_of_parts_that_were_labelled_through_the_desk(tmp_path: Path) -> None:
    def run(epoch: int, parts: int) -> RecordingPublisher:
        publisher = RecordingPublisher()
        session = Session(epoch=epoch, boot_id="boot", software_version="0")
        Daemon(
            source=ReplayCamera([flat_frame(seq) for seq in range(parts)], restamp=True),
            model=replace(MODEL, provenance=replace(PROVENANCE, session=session)),
            publisher=publisher,
            outbox=Outbox(tmp_path, OutboxConfig(keep_free_mb=0)),
            promises=PromiseMonitor(tmp_path),
            settings=DaemonSettings(max_frame_age_s=1e6, hang_timeout_s=1e6, health_interval_s=60),
            synced=lambda: None,
        ).run()
        return publisher

    first = run(5, 80)
    promise = first.healths[-1].promise
    assert promise is not None
    assert (promise.good, promise.unlabelled) == (60, 20)
    with Outbox(tmp_path, OutboxConfig(keep_free_mb=0)) as outbox:
        errands = Errands(nudge=lambda: None)
        handlers = outbox_handlers(
            errands.ask,
            lambda work: work(),
            lambda result_id, position, then: then(Filed(reason="frame_gone")),
        )
        desk = OrderDesk(handlers, Topics("r"), SESSION, lambda *_: None)
        for verdict in first.verdicts:
            if verdict.outcome.value == "fail":
                said = {"request_id": verdict.result_id, "issued_by": "hmi", "result_id": verdict.result_id}
                answer = desk.ask("label", json.dumps({**said, "label": "good"}).encode())
                errands.do_one(outbox)
                assert answer.result(0).status == "done"
    promise = run(6, 1).healths[-1].promise
    assert promise is not None
    assert (promise.good, promise.rejected, promise.unlabelled) == (81, 20, 0)
    assert promise.warning == "promise_broken"
