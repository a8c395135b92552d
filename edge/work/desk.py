"""Where all that is to be answered or said is put: on the publishing thread's hand-over, by any thread."""

from __future__ import annotations

from edge.health import Tally
from edge.work.handover import Handover
from edge.work.job import Failure, Job
from edge.work.open_jobs import OpenJobs
from edge.work.passing import Begun, Finding, Said

__all__ = ["Desk"]

_STOPPED = Failure("stopped", "the rig was stopped before the part was inspected")


class Desk:
    """Jobs begin here, and end here with a finding, or are dropped where no verdict is owed.

    What can't be put because the publishing thread has ended stays open, and is answered at the daemon's
    end.
    """

    def __init__(
        self, to_publishing: Handover[Begun | Finding | Said], open_jobs: OpenJobs, tally: Tally
    ) -> None:
        self._to_publishing = to_publishing
        self._open = open_jobs
        self._tally = tally

    @property
    def closed(self) -> bool:
        """The publishing thread takes nothing more."""
        return self._to_publishing.closed

    def open(self, job: Job) -> None:
        """A job begins."""
        self._open.add(job)
        if not job.may_skip:
            self._to_publishing.put_always(Begun(job))

    def found(self, finding: Finding, timeout_s: float) -> bool:
        """Whether there was room for it within `timeout_s`."""
        return self._to_publishing.put(finding, timeout_s)

    def fail(self, job: Job, failure: Failure) -> None:
        """The job ends in an error."""
        self._to_publishing.put_always(Finding(job, failure=failure))

    def drop(self, job: Job) -> None:
        """The job was passed over for a newer frame."""
        if self._open.claim(job):
            self._tally.dropped()

    def stopped(self, job: Job) -> None:
        """The daemon stops, and the job was not begun with: dropped, or reported where a verdict is owed."""
        if job.may_skip:
            self.drop(job)
        else:
            self.fail(job, job.failure or _STOPPED)

    def say(self, said: Said) -> None:
        """Publish a state, after all that was put before."""
        self._to_publishing.put_always(said)

    def close(self) -> None:
        """Nothing more is put here."""
        self._to_publishing.close()
