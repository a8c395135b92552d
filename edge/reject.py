"""The reject output: what takes a part off the line, driven once its verdict is on disk.

It has three states: *safe* while no part can be judged (at the start, at the end, and where verdicts can't be
kept), *ready* between parts, and *reject* for the length of a pulse.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Literal, Protocol

from typing_extensions import Self

from edge.errors import RejectError
from edge.inspection import Outcome
from edge.messages import Verdict
from edge.reject_command import CommandOutput
from edge.reject_config import CommandReject, NoReject, RejectConfig
from edge.reject_gpio import GpioOutput

__all__ = ["Output", "RejectStatus", "Rejector", "rejector_from_config"]

_log = logging.getLogger(__name__)


class Output(Protocol):
    """Something that takes a part off the line; each method raises `RejectError` where it can't do so."""

    @property
    def trouble(self) -> str | None:
        """What went wrong while nobody called, and still does."""

    def open(self) -> None:
        """Take hold of it, in the safe state."""

    def ready(self) -> None:
        """Parts may come: between them nothing is rejected."""

    def safe(self) -> None:
        """No part can be judged."""

    def reject(self, verdict: Verdict) -> None:
        """Reject one part; returns when it has begun, whatever a pulse takes."""

    def close(self) -> None:
        """Leave it in the safe state, and let go of it; harmless when it is not open."""


RejectKind = Literal["none", "command", "gpio"]


class State(str, Enum):
    """What the output was last told."""

    CLOSED = "closed"
    SAFE = "safe"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class RejectStatus:
    """How the output is: `error` says why it could not be driven the last time, None where it could."""

    kind: RejectKind
    state: State
    rejected: int
    errors: int
    error: str | None


class Rejector:
    """Decides by the verdict, drives the output, and remembers what went wrong with it.

    One thread drives it; any may ask for `status`. No method but `open` raises for an output that can't be
    driven: the verdict stands, `status.error` says so, and with the next part it is tried again.
    """

    def __init__(
        self, kind: RejectKind, output: Output | None, *, no_decision: bool, review: bool = True
    ) -> None:
        self._kind = kind
        self._output = output
        wanted = {Outcome.NO_DECISION: no_decision, Outcome.REVIEW: review}
        self._rejects = {Outcome.FAIL, Outcome.ERROR} | {one for one, also in wanted.items() if also}
        self._state = State.CLOSED
        self._rejected = 0
        self._errors = 0
        self._error: str | None = None

    @property
    def status(self) -> RejectStatus:
        """How it is now."""
        trouble = None if self._output is None else self._output.trouble
        return RejectStatus(self._kind, self._state, self._rejected, self._errors, self._error or trouble)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Take hold of the output, in its safe state; raises `RejectError` where it can't be."""
        if self._output is not None:
            self._output.open()
        self._state = State.SAFE

    def ready(self) -> None:
        """Parts may come; harmless when they could before."""
        if self._state is State.SAFE and self._drive(lambda output: output.ready()):
            self._state = State.READY

    def safe(self, reason: str) -> None:
        """No part can be judged, or no verdict kept: the safe state, until `ready`."""
        if self._state is State.READY:
            if self._output is not None:
                _log.warning("the reject output goes to its safe state: %s", reason)
            self._state = State.SAFE
            self._drive(lambda output: output.safe())

    def on_verdict(self, verdict: Verdict) -> bool:
        """Reject the part if its verdict, which is on disk, says so; whether it was rejected."""
        if self._output is None or verdict.outcome not in self._rejects:
            return False
        return self._reject(self._output, verdict)

    def not_kept(self, verdict: Verdict, why: str) -> None:
        """The verdict could not be committed: the part is rejected whatever it says, and all that follow.

        The output stays in its safe state until `ready`.
        """
        self.safe(f"verdict {verdict.epoch}/{verdict.seq} could not be kept: {why}")
        if self._output is not None:
            self._reject(self._output, verdict)

    def close(self) -> None:
        """The safe state, and let go; harmless when called twice."""
        if self._state is not State.CLOSED:
            self._state = State.CLOSED
            self._drive(lambda output: output.close())

    def _reject(self, output: Output, verdict: Verdict) -> bool:
        if not self._drive(lambda _: output.reject(verdict)):
            return False
        self._rejected += 1
        return True

    def _drive(self, act: Callable[[Output], None]) -> bool:
        if self._output is None:
            return True
        try:
            act(self._output)
        except RejectError as error:
            self._errors += 1
            if self._error != str(error):
                _log.error("the reject output can't be driven: %s", error)
            self._error = str(error)
            return False
        self._error = None
        return True


def rejector_from_config(config: RejectConfig) -> Rejector:
    """What the rig's configuration asks for; nothing is touched until `open`."""
    if isinstance(config, NoReject):
        return Rejector("none", None, no_decision=False)
    output = CommandOutput(config) if isinstance(config, CommandReject) else GpioOutput(config)
    return Rejector(config.kind, output, no_decision=config.no_decision, review=config.review)
