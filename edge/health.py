"""How the rig feels: counted by the inspection loop, told by a thread of its own."""

from __future__ import annotations

import logging
import math
import os
import shutil
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from edge.camera.source import FrameSource
from edge.clock import clock_synced, utc_now
from edge.errors import BrokerError
from edge.inspection import Outcome
from edge.labelling.health import RecentFramesHealth
from edge.messages import (
    CameraHealth,
    Health,
    InspectionCounts,
    OutboxHealth,
    RejectHealth,
    StepTimes,
    Verdict,
    WorkHealth,
)
from edge.onlookers import Onlooker, Onlookers
from edge.outbox_records import OutboxStatus
from edge.promise_messages import PromiseHealth
from edge.publisher import Publisher
from edge.reject import RejectStatus
from edge.scene.health import SceneHealth
from edge.score_messages import ScoreHealth
from edge.verdict import Provenance

__all__ = ["HealthReporter", "Tally"]

_log = logging.getLogger(__name__)

_LAST_WORD_S = 2.0
_THERMAL = Path("/sys/class/thermal")
_SAMPLES = 1000
"""Of how many parts durations are kept: a daemon that runs for months must not grow."""


class Tally:
    """Counts what the loop does; the loop adds, the reporter reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: Counter[Outcome] = Counter()
        self._latencies_ms: deque[float] = deque(maxlen=_SAMPLES)
        self._steps_ms: dict[str, deque[float]] = {}
        self._dropped = 0
        self._overruns = 0
        self._late = 0
        self._recent = 0
        self._reopened = 0
        self._last_frame_ns: int | None = None

    def frame(self) -> None:
        with self._lock:
            self._last_frame_ns = time.monotonic_ns()

    def verdict(self, verdict: Verdict) -> None:
        with self._lock:
            self._outcomes[verdict.outcome] += 1
            self._recent += 1
            if verdict.processing_times.latency_ms is not None:
                self._latencies_ms.append(verdict.processing_times.latency_ms)

    def reopened(self) -> None:
        with self._lock:
            self._reopened += 1

    def steps(self, **took_ms: float) -> None:
        """How long the steps of one part took."""
        with self._lock:
            for name, value_ms in took_ms.items():
                self._steps_ms.setdefault(name, deque(maxlen=_SAMPLES)).append(value_ms)

    def dropped(self) -> None:
        """A frame was passed over for a newer one."""
        with self._lock:
            self._dropped += 1

    def overrun(self) -> None:
        """A trigger came when nothing more could wait."""
        with self._lock:
            self._overruns += 1

    def set_late(self, late: int) -> None:
        with self._lock:
            self._late = late

    def work(self, queues: Mapping[str, int], beat_age_s: Mapping[str, float]) -> WorkHealth:
        """How the threads get on."""
        with self._lock:
            samples = {name: sorted(values) for name, values in self._steps_ms.items() if values}
            dropped, overruns, late = self._dropped, self._overruns, self._late
        return WorkHealth(
            queues=dict(queues),
            beat_age_s=dict(beat_age_s),
            frames_dropped=dropped,
            overruns=overruns,
            intervals_late=late,
            steps={
                name: StepTimes(p50_ms=_nearest_rank(values, 0.5), p99_ms=_nearest_rank(values, 0.99))
                for name, values in samples.items()
            },
        )

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """Verdicts since the start, every outcome named."""
        with self._lock:
            return {outcome: self._outcomes[outcome] for outcome in Outcome}

    @property
    def times_reopened(self) -> int:
        with self._lock:
            return self._reopened

    @property
    def last_frame_age_s(self) -> float | None:
        with self._lock:
            last = self._last_frame_ns
        return None if last is None else (time.monotonic_ns() - last) / 1e9

    def take_interval(self) -> tuple[int, list[float]]:
        """Verdicts and latencies (ms) since the last call."""
        with self._lock:
            recent, latencies = self._recent, list(self._latencies_ms)
            self._recent = 0
            self._latencies_ms.clear()
        return recent, latencies


class HealthReporter:
    """Publishes a `Health` every `interval_s`, from a thread of its own, while its context lasts.

    Of its own, for a loop that hangs in a driver is what health must still be able to tell.
    """

    def __init__(
        self,
        *,
        tally: Tally,
        source: FrameSource,
        publisher: Publisher,
        provenance: Callable[[], Provenance],
        interval_s: float,
        disk: Path,
        synced: Callable[[], bool | None] = clock_synced,
        work: Callable[[], WorkHealth] | None = None,
        scene: Callable[[], SceneHealth] | None = None,
        score: Callable[[], ScoreHealth | None] = lambda: None,
        promise: Callable[[], PromiseHealth | None] = lambda: None,
        recent: Callable[[], RecentFramesHealth | None] = lambda: None,
        outbox: Callable[[], OutboxStatus] | None = None,
        reject: Callable[[], RejectStatus] | None = None,
        onlooker: Onlooker | None = None,
    ) -> None:
        self._work = work
        self._scene = scene
        self._score = score
        self._promise = promise
        self._recent_frames = recent
        self._outbox = outbox
        self._reject = reject
        self._onlooker = onlooker or Onlookers()
        self._tally = tally
        self._source = source
        self._publisher = publisher
        self._provenance = provenance
        self._interval_s = interval_s
        self._disk = disk
        self._synced = synced
        self._started_s = self._interval_began_s = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # A camera that hangs may hang whoever asks how it is; the end must not wait for that.
        self._thread.join(_LAST_WORD_S)

    def now(self) -> Health:
        """The rig's health since the last call."""
        now_s = time.monotonic()
        interval_s, self._interval_began_s = now_s - self._interval_began_s, now_s
        recent, latencies_ms = self._tally.take_interval()
        provenance, outcomes = self._provenance(), self._tally.outcomes
        session = provenance.session
        outbox = None if self._outbox is None else self._outbox()
        return Health(
            creation_time=utc_now(),
            epoch=session.epoch,
            boot_id=session.boot_id,
            software_version=session.software_version,
            uptime_s=now_s - self._started_s,
            recipe_id=provenance.product,
            model_sha256=provenance.model_sha256,
            calibration_id=provenance.calibration_id,
            inspections=InspectionCounts(
                passed=outcomes[Outcome.PASS],
                failed=outcomes[Outcome.FAIL],
                review=outcomes[Outcome.REVIEW],
                no_decision=outcomes[Outcome.NO_DECISION],
                error=outcomes[Outcome.ERROR],
            ),
            inspections_per_s=recent / interval_s if interval_s > 0 else 0.0,
            latency_p50_ms=statistics.median(latencies_ms) if latencies_ms else None,
            latency_max_ms=max(latencies_ms, default=None),
            camera=self._camera(),
            broker=self._publisher.health().model_copy(
                update={} if outbox is None else {"verdicts_pending": outbox.unacknowledged}
            ),
            work=None if self._work is None else self._work(),
            scene=None if self._scene is None else self._scene(),
            score=self._score(),
            promise=self._promise(),
            recent_frames=self._recent_frames(),
            outbox=None if outbox is None else _outbox_health(outbox),
            reject=None if self._reject is None else _reject_health(self._reject()),
            disk_free_bytes=_disk_free_bytes(self._disk),
            soc_temperature_c=_soc_temperature_c(),
            clock_synced=self._synced(),
        )

    def _run(self) -> None:
        self._publish()
        while not self._stop.wait(self._interval_s):
            self._publish()
        self._publish()  # how it was in the end

    def _publish(self) -> None:
        health = self.now()
        self._onlooker.on_health(health)
        try:
            self._publisher.publish_health(health)
        except BrokerError as error:
            # The publishing thread meets the same error with its next verdict, and ends the daemon.
            _log.error("health can't be published: %s", error)

    def _camera(self) -> CameraHealth:
        health = self._source.health()
        care = health.care
        return CameraHealth(
            name=self._source.name,
            serial=health.serial,
            firmware=health.firmware,
            usb=health.usb,
            temperature_c=health.temperature_c,
            frames=health.frames,
            gaps=health.gaps,
            reopened=self._tally.times_reopened if care is None else care.reopened,
            last_frame_age_s=self._tally.last_frame_age_s,
            details=health.details,
            metadata=health.metadata,
            attempts=None if care is None else care.attempts,
            resets=None if care is None else care.resets,
            stale_frames=None if care is None else care.stale,
            garbage_frames=None if care is None else care.garbage,
            time_jumps=None if care is None else care.time_jumps,
            down_s=None if care is None else care.down_s,
            down_reason=None if care is None else care.down_reason,
        )


def _outbox_health(status: OutboxStatus) -> OutboxHealth:
    return OutboxHealth(
        unacknowledged=status.unacknowledged,
        triggers_in_hand=status.triggers_in_hand,
        verdict_bytes=status.verdict_bytes,
        pictures=status.pictures,
        picture_bytes=status.picture_bytes,
        pictures_evicted=status.pictures_evicted,
        pictures_refused=status.pictures_refused,
        ballast_bytes=status.ballast_bytes,
        alarms=status.alarms,
    )


def _reject_health(status: RejectStatus) -> RejectHealth:
    return RejectHealth(
        kind=status.kind,
        state=status.state.value,
        rejected=status.rejected,
        errors=status.errors,
        error=status.error,
    )


def _nearest_rank(values: Sequence[float], share: float) -> float:
    """The smallest of the sorted `values` that `share` of them don't exceed."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def _disk_free_bytes(path: Path) -> int | None:
    try:
        return shutil.disk_usage(path).free
    except OSError as error:
        _log.warning("%s: free space can't be read (%s)", path, error.strerror)
        return None


def _soc_temperature_c() -> float | None:
    """The hottest thermal zone; None where the machine has none (a virtual one)."""
    readings = []
    for zone in sorted(_THERMAL.glob("thermal_zone*/temp")):
        try:
            readings.append(int(zone.read_text(encoding="ascii")) / 1000)
        except (OSError, ValueError) as error:
            # A Jetson's zones of units that are switched off answer with an error: that is no reading.
            _log.debug("%s%s%s: no reading (%s)", zone.parent, os.sep, zone.name, error)
    return max(readings, default=None)
