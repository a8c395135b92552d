"""One part to inspect: asked for once, answered by exactly one verdict."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime

from edge.clock import utc_now
from edge.errors import EdgeError
from edge.event_trigger import Firing
from edge.frame import Frame
from edge.messages import TriggerKind
from edge.reasons import reason_of
from edge.trigger import Trigger
from edge.work.model import Model

__all__ = ["Failure", "Job", "job_from_firing", "job_of_frame"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job ends in an error: `reason` in one stable word, `detail` in a sentence for people."""

    reason: str
    detail: str

    @staticmethod
    def of(error: BaseException) -> Failure:
        """`CameraLost` → `camera_lost`; what is no error of ours is an `internal_error`."""
        ours = isinstance(error, EdgeError | KeyboardInterrupt)
        return Failure(
            reason=reason_of(error) if ours else "internal_error",
            detail=str(error) or type(error).__name__,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A part that is to be inspected, from the trigger to the verdict; `id` becomes the verdict's.

    `asked_ns` (monotonic) and `asked_utc` say when the trigger came, `got_ns` when its frame was in hand.
    `failure` is why it can't be inspected: its verdict is then an error. Where it `may_skip`, nobody asked
    for it, and it may be passed over for a newer frame. `taken` is done once the trigger is on disk: from
    then on it will have its verdict; it raises `OutboxError` where that could not be.
    """

    id: str
    kind: TriggerKind
    asked_ns: int
    asked_utc: datetime
    model: Model
    part_serial: str | None = None
    request_id: str | None = None
    frame: Frame | None = None
    got_ns: int | None = None
    got_utc: datetime | None = None
    failure: Failure | None = None
    may_skip: bool = False
    taken: Future[None] = field(default_factory=Future)

    def with_frame(self, frame: Frame) -> Job:
        """The same job, with the frame to inspect."""
        return replace(self, frame=frame, got_ns=time.monotonic_ns(), got_utc=utc_now())

    def failed(self, failure: Failure) -> Job:
        """The same job, which can only end in an error."""
        return replace(self, failure=failure, may_skip=False)


def job_of_frame(model: Model, asked_ns: int, asked_utc: datetime) -> Job:
    """A job of a model whose trigger sees the frames."""
    trigger = model.trigger
    return Job(
        id=str(uuid.uuid4()),
        kind=trigger.kind,
        asked_ns=asked_ns,
        asked_utc=asked_utc,
        model=model,
        may_skip=isinstance(trigger, Trigger) and trigger.may_skip,
    )


def job_from_firing(model: Model, firing: Firing) -> Job:
    """The job of one firing."""
    return Job(
        id=firing.id,
        kind=model.trigger.kind,
        asked_ns=firing.asked_ns,
        asked_utc=firing.asked_utc,
        model=model,
        part_serial=firing.part_serial,
        request_id=firing.request_id,
        failure=None if firing.lost is None else Failure("overrun", firing.lost),
        taken=firing.taken,
    )
