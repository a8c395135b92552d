"""One verdict for each job, on disk before anything else happens to it; and what is done where that fails."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass

from edge.errors import OutboxError, TriggerKnown
from edge.messages import Verdict
from edge.outbox import Outbox
from edge.outbox_records import TriggerInHand
from edge.reject import Rejector

__all__ = ["Keeping"]

_log = logging.getLogger(__name__)

_OWED_MAX = 1000


@dataclass(frozen=True, slots=True)
class _Owed:
    """A verdict for the outbox; `trigger_id` where its trigger is in hand there."""

    verdict: Verdict
    trigger_id: str | None


class Keeping:
    """Commit, then reject, as one: no part goes its way on a verdict that could be lost.

    Owned by the thread that owns the outbox. A verdict that could not be kept is tried again with each
    `tend`; until then it is in memory alone, and the reject output is in its safe state.
    """

    def __init__(self, outbox: Outbox, rejector: Rejector) -> None:
        self._outbox = outbox
        self._rejector = rejector
        self._in_hand: set[str] = set()
        self._owed: deque[_Owed] = deque(maxlen=_OWED_MAX)
        self._said: str | None = None
        self._at_work = False

    def at_work(self) -> None:
        """Parts can be judged."""
        self._at_work = True
        if not self._owed:
            self._rejector.ready()

    def not_at_work(self, why: str) -> None:
        """No part can be judged now."""
        self._at_work = False
        self._rejector.safe(why)

    def begin(self, trigger: TriggerInHand) -> None:
        """Write down that a trigger was taken; raises `OutboxError` where that can't be."""
        self._outbox.begin(trigger)
        self._in_hand.add(trigger.trigger_id)

    def keep(self, trigger_id: str, verdict: Verdict) -> None:
        """Commit a verdict, and reject the part if it says so; raises `OutboxError`."""
        self._write(_Owed(verdict, trigger_id if trigger_id in self._in_hand else None))
        self._in_hand.discard(trigger_id)
        self._rejector.on_verdict(verdict)
        if self._at_work and not self._owed:
            self._rejector.ready()

    def not_kept(self, trigger_id: str, verdict: Verdict, error: OutboxError) -> None:
        """The outbox could not take it: the part is rejected, and the verdict owed."""
        self._say(error)
        self._rejector.not_kept(verdict, str(error))
        known = trigger_id in self._in_hand
        self._in_hand.discard(trigger_id)
        if len(self._owed) == _OWED_MAX:
            lost = self._owed[0].verdict
            _log.critical("verdict %d/%d was rejected, and can't be kept: too many", lost.epoch, lost.seq)
        self._owed.append(_Owed(verdict, trigger_id if known else None))

    def finish_interrupted(self, trigger_id: str, verdict: Verdict) -> None:
        """The verdict of a trigger that an earlier start left in hand; its part is gone, nothing moves."""
        owed = _Owed(verdict, trigger_id)
        try:
            self._write(owed)
        except OutboxError as error:
            self._say(error)
            self._owed.append(owed)

    def tend(self) -> bool:
        """Try again what is owed, and keep the outbox's limits; whether something was committed."""
        committed = False
        try:
            while self._owed:
                self._write(self._owed[0])
                self._owed.popleft()
                committed = True
            self._outbox.maintain()
            self._said = None
        except OutboxError as error:
            self._say(error)
        if committed and self._at_work and not self._owed:
            self._rejector.ready()
        return committed

    def _write(self, owed: _Owed) -> None:
        try:
            if owed.trigger_id is None:
                self._outbox.commit(owed.verdict)
            else:
                self._outbox.finish(owed.trigger_id, owed.verdict)
        except TriggerKnown:
            # It has its verdict: what failed the last time had been written after all.
            _log.warning("trigger %s has its verdict already", owed.trigger_id)

    def _say(self, error: OutboxError) -> None:
        if self._said != str(error):
            _log.critical("%s", error)
        self._said = str(error)
