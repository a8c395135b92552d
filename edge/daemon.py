"""The daemon: frame → trigger → inspection → verdict → broker, until it is told to stop or the source ends.

It knows none of its parts but by what they promise, so that it runs the same over a D405 and a broker as
over the fakes of `edge.testing`.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from edge.camera.source import FrameSource
from edge.clock import clock_synced, utc_now
from edge.errors import CameraError, CameraLost, CameraStalled, EdgeError, FrameError, GpuLost, RunnerError
from edge.frame import Frame
from edge.health import HealthReporter, Tally
from edge.inspection import Durations, Inspection, Outcome
from edge.messages import MachineState, MachineStateName, Verdict
from edge.publisher import FlushReport, Picture, Publisher
from edge.systemd import Notifier
from edge.verdict import Circumstances, Provenance, error_verdict, verdict_from_inspection

__all__ = ["Daemon", "DaemonSettings", "FrameInspector", "PictureMaker", "RunSummary", "Trigger"]

_log = logging.getLogger(__name__)

_BAD_FRAMES_IN_A_ROW = 10  # a camera that gives only broken frames is as good as gone
_SLICE_S = 0.1  # how long the loop may sleep without looking whether it is to stop


class Trigger(Protocol):
    """Says when to inspect."""

    def due(self, frame: Frame) -> bool:
        """Whether `frame` is the one to inspect; called once for each frame, in order."""


class FrameInspector(Protocol):
    """Says what it finds in a frame (`edge.inspector.Inspector`)."""

    def inspect(self, frame: Frame) -> Inspection:
        """Raises `FrameError` or `RunnerError` where it can't."""


PictureMaker = Callable[[Inspection], Sequence[Picture]]


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """How patient the daemon is; seconds. `disk` is the file system whose free space health tells."""

    frame_timeout_s: float = 5.0
    max_frame_age_s: float = 2.0
    flush_timeout_s: float = 10.0
    health_interval_s: float = 5.0
    first_backoff_s: float = 0.5
    last_backoff_s: float = 30.0
    disk: Path = Path("/")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run came to: verdicts by outcome, and what the broker said to them."""

    outcomes: dict[Outcome, int]
    delivery: FlushReport

    @property
    def verdicts(self) -> int:
        return sum(self.outcomes.values())


class Daemon:
    """One rig at work; `run` may be called once.

    One thread reads, inspects and hands over; `stop` may be called from any thread, or a signal handler.
    """

    def __init__(
        self,
        *,
        source: FrameSource,
        trigger: Trigger,
        inspector: FrameInspector,
        pictures: PictureMaker,
        publisher: Publisher,
        provenance: Provenance,
        settings: DaemonSettings = DaemonSettings(),
        notifier: Notifier | None = None,
        synced: Callable[[], bool | None] = clock_synced,
    ) -> None:
        self._source = source
        self._trigger = trigger
        self._inspector = inspector
        self._pictures = pictures
        self._publisher = publisher
        self._provenance = provenance
        self._settings = settings
        self._notifier = notifier or Notifier("")
        self._synced = synced
        # A plain flag: a signal handler that sets an Event can deadlock with the wait that it interrupts.
        self._stopping = False
        self._tally = Tally()
        self._seq = 0
        self._blind = False

    def stop(self) -> None:
        """Finish the part in hand, flush, say offline, release the camera; `run` then returns."""
        self._stopping = True

    def run(self) -> RunSummary:
        """Inspect until `stop`, or until the source ends.

        Raises `BrokerRefused` or `CameraError` where it can't begin, `RecordingCorrupt` or `CaptureError`
        where the source breaks for good, and `BrokerError` where a verdict was not acknowledged in the
        end. Whatever it raises, verdicts are flushed and the camera is released first.
        """
        failure: BaseException | None = None
        try:
            self._publisher.start()
            self._say(MachineStateName.PREOPERATIONAL, "starting")
            with self._source:
                self._inspect_all()
        except BaseException as error:
            failure = error
            raise
        finally:
            delivery = self._wind_up(failure)
        undelivered = delivery.error()
        if undelivered is not None:
            raise undelivered
        return RunSummary(self._tally.outcomes, delivery)

    def _inspect_all(self) -> None:
        reporter = HealthReporter(
            tally=self._tally,
            source=self._source,
            publisher=self._publisher,
            provenance=self._provenance,
            interval_s=self._settings.health_interval_s,
            disk=self._settings.disk,
            synced=self._synced,
        )
        with reporter:
            self._say(MachineStateName.CONTINUOUS_EXECUTION)
            self._notifier.ready()
            bad_frames = 0
            while not self._stopping:
                self._notifier.watchdog()
                asked_ns, asked = time.monotonic_ns(), utc_now()
                try:
                    frame = self._source.read(self._settings.frame_timeout_s)
                except (CameraLost, CameraStalled) as error:
                    self._reopen(error)
                    continue
                except FrameError as error:
                    bad_frames += 1
                    self._publish_error(error, None, asked_ns, asked)
                    if bad_frames >= _BAD_FRAMES_IN_A_ROW:
                        self._reopen(error)
                        bad_frames = 0
                    continue
                if frame is None:
                    _log.info("%s has ended", self._source.name)
                    return
                bad_frames = 0
                self._tally.frame()
                self._on_frame(frame, asked_ns)

    def _on_frame(self, frame: Frame, asked_ns: int) -> None:
        """One frame, and if it is due exactly one verdict, whatever happens."""
        started_ns, start = time.monotonic_ns(), utc_now()
        try:
            if not self._is_due(frame, asked_ns, start):
                return
            inspection = self._inspect(frame, started_ns)
            verdict = verdict_from_inspection(
                inspection, self._circumstances(frame, start, (started_ns - asked_ns) / 1e6)
            )
        except (FrameError, RunnerError) as error:
            _log.error("frame %d of %s: %s", frame.seq, frame.source, error)
            self._publish_error(error, frame, asked_ns, start)
            if isinstance(error, GpuLost):
                raise  # the next frame would end the same way; a new process, which systemd starts, need not
            return
        except BaseException as error:
            # A mistake of ours: the daemon ends with it, but the part that was due gets its verdict.
            self._publish_error(error, frame, asked_ns, start)
            raise
        self._publish(verdict)
        try:
            for picture in self._pictures(inspection):
                self._publisher.publish_picture(picture, verdict)
        except FrameError as error:
            _log.error("frame %d of %s has no picture: %s", frame.seq, frame.source, error)

    def _is_due(self, frame: Frame, asked_ns: int, start: datetime) -> bool:
        """What the trigger says. Where it can't see, that gives one verdict, and a state while it lasts."""
        try:
            due = self._trigger.due(frame)
        except FrameError as error:
            if not self._blind:
                self._blind = True
                _log.error("the trigger can't see: %s", error)
                self._publish_error(error, frame, asked_ns, start)
                self._say(MachineStateName.ERROR, _reason(error), str(error))
            return False
        if self._blind:
            self._blind = False
            self._say(MachineStateName.CONTINUOUS_EXECUTION, "trigger_sees_again")
        return due

    def _inspect(self, frame: Frame, now_ns: int) -> Inspection:
        age_s = (now_ns - frame.captured_ns) / 1e9
        if age_s <= self._settings.max_frame_age_s:
            return self._inspector.inspect(frame)
        return Inspection(
            frame=frame,
            outcome=Outcome.NO_DECISION,
            durations=Durations(preprocess_ms=0.0, inference_ms=0.0, postprocess_ms=0.0),
            reason="stale_frame",
            detail=(
                f"the frame is {age_s:.2f} s old, at most {self._settings.max_frame_age_s:g} s are allowed; "
                "a slower trigger or a smaller model keeps up, or raise daemon.max_frame_age_s"
            ),
        )

    def _publish_error(
        self, error: BaseException, frame: Frame | None, asked_ns: int, start: datetime
    ) -> None:
        self._publish(
            error_verdict(
                _reason(error) if isinstance(error, EdgeError | KeyboardInterrupt) else "internal_error",
                str(error) or type(error).__name__,
                self._circumstances(frame, start, (time.monotonic_ns() - asked_ns) / 1e6),
                frame=frame,
            )
        )

    def _publish(self, verdict: Verdict) -> None:
        self._seq += 1
        self._tally.verdict(verdict)
        self._publisher.publish_verdict(verdict)

    def _circumstances(self, frame: Frame | None, start: datetime, acquisition_ms: float) -> Circumstances:
        return Circumstances(
            provenance=self._provenance,
            camera_serial=self._source.health().serial or (frame.source if frame else self._source.name),
            seq=self._seq,
            start=start,
            end=utc_now(),
            acquisition_ms=acquisition_ms,
            latency_ms=None if frame is None else max(0.0, (time.monotonic_ns() - frame.captured_ns) / 1e6),
            clock_synced=self._synced(),
        )

    def _reopen(self, error: EdgeError) -> None:
        """Close the camera and open it again, as often as it takes, ever more patiently."""
        ceiling_s = self._settings.first_backoff_s
        self._say(MachineStateName.ERROR, _reason(error), str(error))
        while True:
            self._source.close()
            delay_s = random.uniform(ceiling_s / 2, ceiling_s)
            _log.error("%s; opening it again in %.1f s", error, delay_s)
            self._sleep(delay_s)
            ceiling_s = min(self._settings.last_backoff_s, 2 * ceiling_s)
            if self._stopping:
                return
            try:
                self._source.open()
            except CameraError as again:
                error = again
                self._say(MachineStateName.ERROR, _reason(error), str(error))
            else:
                self._tally.reopened()
                self._say(MachineStateName.CONTINUOUS_EXECUTION, "reopened")
                return

    def _sleep(self, duration_s: float) -> None:
        end_s = time.monotonic() + duration_s
        while (left_s := end_s - time.monotonic()) > 0 and not self._stopping:
            self._notifier.watchdog()
            time.sleep(min(left_s, _SLICE_S))

    def _wind_up(self, failure: BaseException | None) -> FlushReport:
        self._notifier.stopping()
        _log.info("stopping; waiting for acknowledgements")
        delivery = self._publisher.flush(self._settings.flush_timeout_s)
        undelivered = delivery.error()
        if undelivered is not None and failure is not None:
            _log.error("%s", undelivered)  # `failure` is what the daemon ends with; this must be told too
        self._say_last(failure)
        self._publisher.close()
        return delivery

    def _say_last(self, failure: BaseException | None) -> None:
        try:
            if failure is None:
                self._say(MachineStateName.HALTED, "stopped")
            else:
                self._say(MachineStateName.HALTED, _reason(failure), str(failure))
        except EdgeError as error:
            # The first failure is what ends the daemon; this one is only about telling the broker.
            _log.warning("the last state could not be published: %s", error)

    def _say(self, state: MachineStateName, reason: str | None = None, detail: str | None = None) -> None:
        session = self._provenance.session
        self._notifier.status(f"{state.value}{f': {detail or reason}' if reason else ''}")
        self._publisher.publish_machine_state(
            MachineState(
                state=state,
                reason=reason,
                detail=detail,
                creation_time=utc_now(),
                epoch=session.epoch,
                boot_id=session.boot_id,
            )
        )


def _reason(error: BaseException) -> str:
    """`CameraLost` → `camera_lost`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
