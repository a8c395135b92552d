"""Onlookers: told all that the rig does, also of what no broker acknowledges."""

from __future__ import annotations

from dataclasses import replace

from edge.config import PicturesConfig
from edge.daemon import Daemon, DaemonSettings, Model
from edge.messages import Health, MachineState, PictureInfo, PictureKind, Verdict
from edge.onlookers import Onlookers
from edge.pictures import pictures_of
from edge.publisher import Picture
from edge.testing import RecordingPublisher, ReplayCamera, ScratchOutbox, ScriptedInspector, flat_frame
from edge.trigger import EveryFrame
from tests.provenance import PROVENANCE

SETTINGS = DaemonSettings(frame_timeout_s=1.0, max_frame_age_s=1e6, flush_timeout_s=0.0, health_interval_s=60)


class Notes:
    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.pictures: list[tuple[PictureKind, str]] = []
        self.healths: list[Health] = []
        self.states: list[str] = []

    def on_verdict(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)

    def on_picture(self, picture: Picture, info: PictureInfo) -> None:
        # A picture comes after the verdict that it belongs to.
        assert info.result_id == self.verdicts[-1].result_id
        self.pictures.append((picture.kind, info.result_id))

    def on_health(self, health: Health) -> None:
        self.healths.append(health)

    def on_machine_state(self, state: MachineState) -> None:
        self.states.append(state.state.value)


def test_each_is_told_all_that_the_rig_does_though_the_broker_acknowledges_nothing() -> None:
    one, other = Notes(), Notes()
    publisher = RecordingPublisher(acknowledge=lambda verdict: False)
    parts = 25  # more than go to the broker without an acknowledgement
    daemon = Daemon(
        source=ReplayCamera([flat_frame(seq) for seq in range(parts)], restamp=True),
        model=Model(
            inspector=ScriptedInspector((0.2, 3.0)),
            trigger=EveryFrame(),
            pictures=lambda inspection: pictures_of(inspection, PicturesConfig(image=False, map=False)),
            provenance=PROVENANCE,
            close=lambda: None,
        ),
        publisher=publisher,
        outbox=ScratchOutbox(),
        settings=replace(SETTINGS, hang_timeout_s=1e6, stop_timeout_s=1e6),
        onlooker=Onlookers((one, other)),
        synced=lambda: None,
    )
    daemon.run()
    assert len(publisher.verdicts) < parts
    for notes in (one, other):
        assert [verdict.seq for verdict in notes.verdicts] == list(range(parts))
        assert [kind for kind, _ in notes.pictures] == [PictureKind.HEATMAP] * parts
        assert notes.states == ["Preoperational", "ContinuousExecution", "Halted"]
        assert notes.healths == publisher.healths
        assert notes.healths[-1].inspections.passed + notes.healths[-1].inspections.failed == parts
