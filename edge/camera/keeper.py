"""Keeps a camera going: who reads gets frames that are what they seem, or is told why there are none."""

from __future__ import annotations

import concurrent.futures
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from edge.backoff import Backoff
from edge.camera.config import CareConfig
from edge.camera.driver import Driver, DriverThread
from edge.camera.events import CameraEvent, CameraEventKind
from edge.camera.identity import Identity
from edge.camera.ladder import Ladder, Step
from edge.camera.source import CareCounts, FrameSource, SourceHealth
from edge.camera.watch import FrameWatch
from edge.clock import utc_now
from edge.errors import (
    CameraAway,
    CameraError,
    CameraFrozen,
    CameraHung,
    CameraStalled,
    EdgeError,
    FrameError,
)
from edge.frame import Frame
from edge.reasons import reason_of

__all__ = ["CLOSE_S", "CameraKeeper"]

_log = logging.getLogger(__name__)

_SLICE_S = 0.05
"""How long a wait lasts without a look at whether it is to stop."""

_READ_S = 0.5
"""How long the driver is asked to wait for a frame at a time: `close` waits for that."""

CLOSE_S = 4.0
"""A clean stop ends under 5 s; a driver that hangs must not keep it."""

_NO_METADATA = (
    "not reported: this machine numbers the frames, so lost ones can't be seen; a kernel with librealsense's "
    "patches passes on what the camera says"
)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that the driver is making."""

    step: Step
    future: Future[Any]
    began_s: float


class CameraKeeper(FrameSource):
    """A live source that looks after the one it wraps. One thread reads; `stop` and `health` are for any.

    `read` gives frames, those with `Frame.stale` set where something speaks against them, and raises

    - `CameraStalled` where `timeout_s` has passed and nothing is wrong yet,
    - `CameraAway` where it has passed and the camera is being opened again (`__cause__` is why),
    - `FrameError` at once for a frame that is garbage;

    after each of these, read again: the care goes on where it was. `CameraHung` is final: only a new
    process gets the camera back.

    A camera is opened again when it is lost, raises, or has given no frame that is fresh for `stall_s`:
    close, wait, open, check that it is the same camera with the same settings, and see a fresh frame; only
    then it is up. In vain, that is repeated for ever by `care`, with a reset of the hardware now and then.

    `max_age_s` and `max_skew_s` see `FrameWatch`. `on_event` is called on the reading thread. `driver`,
    `clock_s` (monotonic), `sleep` and `chance` (in [0, 1)) are for tests.

    The source is called on a thread of its own: while it hangs, or takes seconds to open, `read` still
    returns by its time-out.
    """

    def __init__(
        self,
        source: FrameSource,
        care: CareConfig,
        *,
        stall_s: float = 5.0,
        max_age_s: float = 2.0,
        max_skew_s: float | None = None,
        close_timeout_s: float = CLOSE_S,
        on_event: Callable[[CameraEvent], None] = lambda event: None,
        driver: Callable[[], Driver] = DriverThread,
        clock_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._source = source
        self._care = care
        self._stall_s = stall_s
        self._close_timeout_s = close_timeout_s
        self._on_event = on_event
        self._new_driver = driver
        self._clock_s = clock_s
        self._sleep = sleep
        self._chance = chance
        self._ladder = Ladder(
            Backoff(care.first_backoff_s, care.last_backoff_s),
            reset_after=care.reset_after,
            reset_wait_s=care.reset_wait_s,
        )
        self._identity = Identity(care)
        self._watch = FrameWatch(
            max_age_s=max_age_s, max_skew_s=max_skew_s, noisy=care.frozen_frames is not None
        )
        self._driver: Driver | None = None
        self._call: _Call | None = None
        self._hung = False
        # A plain flag: a signal handler that takes a lock can deadlock with the wait that it interrupts.
        self._stopping = False
        self._garbage_in_a_row = 0
        self._frames = self._garbage = self._replaced = 0
        self._gaps: int | None = None
        self._gaps_before = 0

    @property
    def name(self) -> str:
        return self._source.name

    def stop(self) -> None:
        """Let `read` return None within 0.1 s, whatever the camera does; safe in a signal handler."""
        self._stopping = True

    def open(self) -> None:
        """Open the camera, once; with `care.start_without` also where it can't be opened yet.

        Raises what the source raises, `CameraUsbSlow`, `DepthUnitWrong`, or `CameraHung`.
        """
        if self._driver is not None:
            raise CameraError(f"{self.name}: is open already")
        if self._hung:
            raise CameraHung(self._hung_message("close", self._close_timeout_s))
        self._driver = self._new_driver()
        self._call = None
        self._ladder.begin()
        try:
            while self._ladder.step is Step.OPEN and not self._stopping:
                self._advance(self._clock_s() + _SLICE_S)
            cause = self._ladder.cause
            if self._ladder.step is Step.CLOSE and cause is not None and not self._care.start_without:
                raise cause
        except BaseException:
            self.close()
            raise
        if self._ladder.step is Step.READ:
            self._begin()  # its first frame is the measure of how old the others are: it must not wait

    def read(self, timeout_s: float = 5.0) -> Frame | None:
        if self._driver is None:
            raise CameraError(f"{self.name}: is not open")
        deadline_s = self._clock_s() + timeout_s
        while not self._stopping:
            frame, ended = self._advance(deadline_s)
            if frame is not None or ended:
                return frame
            if self._clock_s() >= deadline_s:
                raise self._nothing(timeout_s)
        return None

    def close(self) -> None:
        """Release the camera; a driver that hangs is left to itself after some seconds.

        Raises what the source raises where it can't be closed in good order.
        """
        driver, self._driver = self._driver, None
        if driver is None:
            return
        self._call = None
        # Behind whatever the driver is still doing: should that return one day, the camera is released then.
        closed = driver.submit(self._source.close)
        driver.close()
        end_s = self._clock_s() + self._close_timeout_s
        while not closed.done() and self._clock_s() < end_s:
            concurrent.futures.wait([closed], _SLICE_S)
        if not closed.done():
            self._hung = True
            _log.error("%s", self._hung_message("close", self._close_timeout_s))
            return
        closed.result()

    def reset(self) -> bool:
        return self._source.reset()

    def health(self) -> SourceHealth:
        health, ladder = self._source.health(), self._ladder
        down_since_s, cause = ladder.down_since_s, ladder.cause
        down = self._driver is not None and down_since_s is not None
        return replace(
            health,
            frames=self._frames,
            gaps=self._gaps,
            details={**health.details, **({"metadata": _NO_METADATA} if health.metadata is False else {})},
            care=CareCounts(
                reopened=ladder.reopened,
                attempts=ladder.attempts,
                resets=ladder.resets,
                stale=self._watch.stale,
                garbage=self._garbage,
                time_jumps=self._watch.time_jumps,
                down_s=self._clock_s() - down_since_s if down and down_since_s is not None else None,
                down_reason=reason_of(cause) if down and cause is not None else None,
            ),
        )

    # One thing after the other. `_advance` returns by `deadline_s`, or soon after; what the driver has not
    # finished by then is looked at again the next time.

    def _advance(self, deadline_s: float) -> tuple[Frame | None, bool]:
        """A frame, if there is one now, and whether the source has ended."""
        now_s = self._clock_s()
        if self._call is None and now_s < self._ladder.due_s:
            self._sleep(max(0.0, min(self._ladder.due_s - now_s, deadline_s - now_s, _SLICE_S)))
            return None, False
        call = self._call or self._begin()
        if not call.future.done():
            self._check_not_hung(call, now_s)
            concurrent.futures.wait([call.future], max(0.0, min(deadline_s - now_s, _SLICE_S)))
            return None, False
        self._call = None
        error = call.future.exception()
        if error is not None and not isinstance(error, EdgeError):
            raise error  # a mistake of ours
        if call.step is Step.READ:
            return self._after_read(call, error)
        if call.step is Step.OPEN:
            self._after_open(call, error)
        elif call.step is Step.RESET:
            self._after_reset(call, error)
        else:
            if error is not None:
                self._tell(CameraEventKind.CLOSE_FAILED, error, self._clock_s() - call.began_s)
            self._ladder.closed(self._clock_s(), self._chance())
        return None, False

    def _begin(self) -> _Call:
        if self._driver is None:
            raise CameraError(f"{self.name}: is not open")
        made: dict[Step, Callable[[], object]] = {
            Step.CLOSE: self._source.close,
            Step.RESET: self._source.reset,
            Step.OPEN: self._source.open,
            Step.READ: lambda: self._source.read(min(_READ_S, self._stall_s)),
        }
        step = self._ladder.step
        self._call = _Call(step, self._driver.submit(made[step]), self._clock_s())
        return self._call

    def _after_open(self, call: _Call, error: EdgeError | None) -> None:
        if error is None:
            try:
                self._identity.check_opened(self.name, self._source.health())
            except CameraError as wrong:
                error = wrong
        if error is not None:
            self._fail(error, call)
            return
        self._ladder.opened(self._clock_s())
        self._watch.begin()
        self._garbage_in_a_row = 0
        self._gaps_before = self._source.health().gaps or 0

    def _after_reset(self, call: _Call, error: EdgeError | None) -> None:
        now_s = self._clock_s()
        done = error is None and bool(call.future.result())
        self._ladder.was_reset(done, now_s)
        if done or error is not None:
            self._tell(CameraEventKind.RESET, error or self._ladder.cause, now_s - call.began_s)

    def _after_read(self, call: _Call, error: EdgeError | None) -> tuple[Frame | None, bool]:
        if isinstance(error, FrameError):
            self._after_garbage(error, call)
            raise error.with_traceback(None)
        if isinstance(error, CameraStalled):
            self._check_stall(call, str(error))
        elif error is not None:
            self._fail(error, call)
        else:
            frame: Frame | None = call.future.result()
            return (None, True) if frame is None else (self._after_frame(frame, call), False)
        return None, False

    def _after_garbage(self, error: FrameError, call: _Call) -> None:
        self._garbage += 1
        self._garbage_in_a_row += 1
        if self._garbage_in_a_row >= self._care.garbage_frames:
            self._fail(error, call)
        else:
            self._check_stall(call, str(error))

    def _after_frame(self, frame: Frame, call: _Call) -> Frame | None:
        self._garbage_in_a_row = 0
        if not self._ladder.proven:
            try:
                self._identity.check_frame(frame)
            except CameraError as wrong:
                self._fail(wrong, call)
                return None
        self._count(self._source.health().gaps)
        stale = self._watch.judge(frame, round(self._clock_s() * 1e9))
        if stale is None:
            self._after_fresh()
            return frame
        limit = self._care.frozen_frames
        if limit is not None and self._watch.same_pictures >= limit:
            message = f"{self.name}: {limit} frames in a row with the very same depth; a sensor has noise"
            self._fail(CameraFrozen(message), call)
        else:
            self._check_stall(call, stale)
        return replace(frame, stale=stale)

    def _after_fresh(self) -> None:
        away_s = self._ladder.fresh(self._clock_s())
        if away_s is not None:
            other, self._replaced = self._identity.replaced > self._replaced, self._identity.replaced
            kind = CameraEventKind.REPLACED if other else CameraEventKind.UP
            self._tell(kind, self._ladder.cause, away_s)

    def _count(self, gaps: int | None) -> None:
        self._frames += 1
        if gaps is not None:
            self._gaps = (self._gaps or 0) + max(0, gaps - self._gaps_before)
            self._gaps_before = gaps

    def _check_stall(self, call: _Call, last_word: str) -> None:
        for_s = self._clock_s() - self._ladder.fresh_s
        if for_s >= self._stall_s:
            message = f"{self.name}: gave no fresh frame for {for_s:.1f} s; the last word: {last_word}"
            self._fail(CameraStalled(message), call)

    def _fail(self, error: EdgeError, call: _Call) -> None:
        """It does not deliver: close it, wait, and open it again."""
        now_s = self._clock_s()
        began_s = self._ladder.opened_s if call.step is Step.READ else call.began_s
        if self._ladder.failed(error, now_s):
            self._tell(CameraEventKind.DOWN, error, 0.0, self._ladder.attempt - 1)
        else:
            self._tell(CameraEventKind.ATTEMPT_FAILED, error, now_s - began_s, self._ladder.attempt - 1)

    def _check_not_hung(self, call: _Call, now_s: float) -> None:
        if now_s - call.began_s >= self._care.hung_after_s:
            self._hung = True
            raise CameraHung(self._hung_message(call.step.value, self._care.hung_after_s))

    def _hung_message(self, call: str, after_s: float) -> str:
        return (
            f"{self.name}: {call} has not returned for {after_s:g} s, the camera's driver hangs; only a new "
            "process gets the camera back. Where that repeats itself, power the camera off and on, and look "
            "at its cable and hub"
        )

    def _nothing(self, timeout_s: float) -> CameraError:
        cause, down_since_s = self._ladder.cause, self._ladder.down_since_s
        if down_since_s is None or cause is None:
            return CameraStalled(f"{self.name}: no frame within {timeout_s:g} s; nothing is wrong yet")
        away_s, in_vain = self._clock_s() - down_since_s, self._ladder.attempt - 1
        away = CameraAway(f"{cause} (away for {away_s:.1f} s, {in_vain} attempts in vain)")
        away.__cause__ = cause
        return away

    def _tell(
        self, kind: CameraEventKind, cause: EdgeError | None, duration_s: float, attempt: int | None = None
    ) -> None:
        attempt = self._ladder.attempt if attempt is None else attempt
        well = kind in (CameraEventKind.UP, CameraEventKind.REPLACED)
        level = logging.WARNING if well else logging.ERROR
        _log.log(level, "camera %s (attempt %d, %.1f s): %s", kind.value, attempt, duration_s, cause)
        self._on_event(
            CameraEvent(
                kind=kind,
                at_ns=round(self._clock_s() * 1e9),
                at_utc=utc_now(),
                source=self.name,
                reason="" if cause is None else reason_of(cause),
                detail=str(cause or ""),
                attempt=attempt,
                duration_s=duration_s,
            )
        )
