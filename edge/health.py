"""How the rig feels: counted by the inspection loop, told by a thread of its own."""

from __future__ import annotations

import logging
import os
import shutil
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from edge.camera.source import FrameSource
from edge.clock import clock_synced, utc_now
from edge.errors import BrokerError
from edge.inspection import Outcome
from edge.messages import CameraHealth, Health, InspectionCounts, Verdict
from edge.publisher import Publisher
from edge.verdict import Provenance

__all__ = ["HealthReporter", "Tally"]

_log = logging.getLogger(__name__)

_THERMAL = Path("/sys/class/thermal")


class Tally:
    """Counts what the loop does; the loop adds, the reporter reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: Counter[Outcome] = Counter()
        self._latencies_ms: list[float] = []
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
            recent, latencies = self._recent, self._latencies_ms
            self._recent, self._latencies_ms = 0, []
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
        provenance: Provenance,
        interval_s: float,
        disk: Path,
        synced: Callable[[], bool | None] = clock_synced,
    ) -> None:
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
        self._thread.join()

    def now(self) -> Health:
        """The rig's health since the last call."""
        now_s = time.monotonic()
        interval_s, self._interval_began_s = now_s - self._interval_began_s, now_s
        recent, latencies_ms = self._tally.take_interval()
        session, outcomes = self._provenance.session, self._tally.outcomes
        return Health(
            creation_time=utc_now(),
            epoch=session.epoch,
            boot_id=session.boot_id,
            software_version=session.software_version,
            uptime_s=now_s - self._started_s,
            recipe_id=self._provenance.product,
            model_sha256=self._provenance.model_sha256,
            calibration_id=self._provenance.calibration_id,
            inspections=InspectionCounts(
                passed=outcomes[Outcome.PASS],
                failed=outcomes[Outcome.FAIL],
                no_decision=outcomes[Outcome.NO_DECISION],
                error=outcomes[Outcome.ERROR],
            ),
            inspections_per_s=recent / interval_s if interval_s > 0 else 0.0,
            latency_p50_ms=statistics.median(latencies_ms) if latencies_ms else None,
            latency_max_ms=max(latencies_ms, default=None),
            camera=self._camera(),
            broker=self._publisher.health(),
            disk_free_bytes=_disk_free_bytes(self._disk),
            soc_temperature_c=_soc_temperature_c(),
            clock_synced=self._synced(),
        )

    def _run(self) -> None:
        stopping = False
        while not stopping:
            try:
                self._publisher.publish_health(self.now())
            except BrokerError as error:
                # The inspection loop meets the same error with its next verdict, and ends the daemon.
                _log.error("health can't be published: %s", error)
            stopping = self._stop.wait(self._interval_s)

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
