"""Which jobs have no verdict yet: what makes it exactly one for each, whatever thread ends how."""

from __future__ import annotations

import threading
from collections import OrderedDict

from edge.work.job import Job

__all__ = ["OpenJobs"]


class OpenJobs:
    """Jobs from the trigger to the verdict; thread-safe.

    Whoever wants to answer a job must `claim` it first, and only one can.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Job] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, job: Job) -> None:
        """A job begins."""
        with self._lock:
            self._open[job.id] = job

    def claim(self, job: Job) -> bool:
        """Whether the job is the caller's to answer, or to let go unanswered where no answer is owed."""
        with self._lock:
            return self._open.pop(job.id, None) is not None

    def left(self) -> list[Job]:
        """Those without a verdict, the oldest first."""
        with self._lock:
            return list(self._open.values())
