"""One part to inspect: asked for once, answered by exactly one verdict."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace
from datetime import datetime

from edge.clock import utc_now
from edge.errors import EdgeError
from edge.event_trigger import Firing
from edge.frame import Frame
from edge.messages import TriggerKind
from edge.work.model import Model

__all__ = ["Job", "job_from_firing", "job_now"]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A part that is to be inspected, from the trigger to the verdict; `id` becomes the verdict's.

    `asked_ns` (monotonic) and `asked_utc` say when the trigger came, `got_ns` when its frame was in hand.
    `failure` is why it can't be inspected: its verdict is then an error.
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
    failure: EdgeError | None = None

    def with_frame(self, frame: Frame) -> Job:
        """The same job, with the frame to inspect."""
        return replace(self, frame=frame, got_ns=time.monotonic_ns())

    def failed(self, failure: EdgeError) -> Job:
        """The same job, which can only end in an error."""
        return replace(self, failure=failure)


def job_now(model: Model, asked_ns: int, asked_utc: datetime | None = None) -> Job:
    """A job that the model's own trigger asked for."""
    return Job(
        id=str(uuid.uuid4()),
        kind=model.trigger.kind,
        asked_ns=asked_ns,
        asked_utc=asked_utc or utc_now(),
        model=model,
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
    )
