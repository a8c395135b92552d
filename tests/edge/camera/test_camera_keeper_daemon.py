"""The whole daemon over a kept camera that fails: the keeper mends it, and no old picture becomes a pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from edge.camera.config import CareConfig
from edge.camera.keeper import CameraKeeper
from edge.daemon import Daemon, DaemonSettings, Model
from edge.frame import Frame
from edge.inspector import PreparedPart
from edge.testing import Fault, FaultyCamera, RecordingPublisher, ScratchOutbox, ScriptedInspector
from edge.trigger import EveryFrame
from tests.edge.camera.pushed import PushedCamera
from tests.provenance import PROVENANCE

PATIENCE_S = 60


def wait_until(true: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.01)


class Watchful(ScriptedInspector):
    """Whom a stale frame never reaches."""

    def prepare(self, frame: Frame) -> PreparedPart:
        assert frame.stale is None
        return super().prepare(frame)


@pytest.mark.parametrize(
    "fault", [Fault.STALLED, Fault.UNPLUGGED, Fault.GARBAGE, Fault.FROZEN, Fault.REPLAYING]
)
def test_a_daemon_whose_camera_fails_goes_on_by_itself(fault: Fault) -> None:
    camera = FaultyCamera(PushedCamera())
    care = CareConfig(first_backoff_s=0.01, last_backoff_s=0.02, garbage_frames=20, frozen_frames=20)
    # As patient as the daemon itself: it is the keeper that opens the camera again, not both.
    keeper = CameraKeeper(camera, care, stall_s=0.6, max_age_s=20.0)
    publisher = RecordingPublisher()
    daemon = Daemon(
        source=keeper,
        model=Model(
            inspector=Watchful(),
            trigger=EveryFrame(),
            pictures=lambda inspection: (),
            provenance=PROVENANCE,
            close=lambda: None,
        ),
        publisher=publisher,
        outbox=ScratchOutbox(),
        settings=DaemonSettings(
            live=True,
            frame_timeout_s=0.6,
            max_frame_age_s=20.0,
            flush_timeout_s=0.0,
            hang_timeout_s=1e6,
            stop_timeout_s=1e6,
            health_interval_s=0.1,
        ),
        synced=lambda: None,
    )

    def passes() -> int:
        return sum(verdict.outcome.value == "pass" for verdict in list(publisher.verdicts))

    worker = threading.Thread(target=daemon.run)
    worker.start()
    try:
        wait_until(lambda: passes() >= 3)
        camera.break_by(fault)
        wait_until(lambda: camera.closed >= 1)
        camera.mend()
        before = passes()
        wait_until(lambda: passes() >= before + 3)
    finally:
        daemon.stop()
        worker.join(PATIENCE_S)
    assert not worker.is_alive()
    care_taken = keeper.health().care
    assert care_taken is not None
    assert care_taken.reopened == 1
    # No one else closed or opened it: each opening is an attempt of the keeper's, but the first.
    assert camera.opened <= 1 + care_taken.attempts  # fewer where it was not plugged in
    assert publisher.machine_states[-1].reason == "stopped"
    told = publisher.healths[-1].camera
    assert (told.reopened, told.attempts) == (1, care_taken.attempts)
    undecided = [verdict for verdict in publisher.verdicts if verdict.outcome.value == "no_decision"]
    assert all(verdict.reason == "stale_frame" and verdict.score is None for verdict in undecided)
    assert bool(undecided) == (fault in (Fault.FROZEN, Fault.REPLAYING))
