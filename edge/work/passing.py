"""What passes from thread to thread."""

from __future__ import annotations

from dataclasses import dataclass

from edge.inspection import Inspection
from edge.inspector import PreparedPart
from edge.messages import MachineStateName
from edge.work.job import Failure, Job
from edge.work.model import Model

__all__ = ["Begun", "Finding", "Ready", "Retire", "Said"]


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A job whose part is prepared for the model: capture → preparation → inspection."""

    job: Job
    part: PreparedPart


@dataclass(frozen=True, slots=True, eq=False)
class Retire:
    """No job of this model comes any more: the inspection thread is to close it."""

    model: Model


@dataclass(frozen=True, slots=True, eq=False)
class Begun:
    """Somebody asked for this job: it is to be on disk before it is answered."""

    job: Job


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What came of a job: an inspection, or why there is none."""

    job: Job
    inspection: Inspection | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """A state of the machine to publish."""

    state: MachineStateName
    reason: str | None = None
    detail: str | None = None
