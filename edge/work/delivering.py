"""What is in the outbox goes to the broker, a window at a time, until the broker has acknowledged it."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from edge.outbox import Outbox
from edge.outbox_records import QueuedVerdict, StoredVerdict
from edge.outbox_repeats import Waiting, repeats_due
from edge.publisher import DeliveryReport, Publisher

__all__ = ["Courier"]

_log = logging.getLogger(__name__)

_WINDOWS = {Waiting.NEW: 20, Waiting.REPEATED: 10, Waiting.REPLAYED: 1}
"""How many of a kind may be on their way: of new ones as many as a connection keeps in flight.

Of the others few, and only while nothing new waits: a new one finds the way free, whenever it comes.
"""

_FIRST_REST_S, _LAST_REST_S = 1.0, 60.0
_RESTING_MAX = 100
_REASONS_KEPT = 5


@dataclass(frozen=True, slots=True)
class _Delivered:
    position: int
    refusal: str | None
    heard_s: float


@dataclass(frozen=True, slots=True)
class _Connected:
    """There is a new connection, be it the first of a process: the last one may have died with the broker.

    mosquitto acknowledges first and saves later, with `autosave_on_changes`, too: killed in between, it comes
    back with its sessions and without those messages. `forgotten`: it has lost what it knew of us, too.
    """

    forgotten: bool


class Courier:
    """Sends what waits in the outbox, in its order, and tells the outbox what the broker has.

    Owned by the thread that owns the outbox, but for `delivered`, `forgotten` and `returned`, which any
    thread may call; they call `nudge`, so that the owner looks. A verdict that the broker refuses waits,
    longer each time up to a minute, and is sent again: rights at the broker are mended while the rig runs.
    The others go on meanwhile, unless a hundred are refused: then nothing goes but the one that is tried.

    What the broker never acknowledged goes before what it may have lost, and that goes when its turn is
    (`edge.outbox_repeats`): a connection that is lost again and again is no flood, and holds up nothing new.
    """

    def __init__(
        self,
        outbox: Outbox,
        publisher: Publisher,
        *,
        nudge: Callable[[], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._nudge = nudge
        self._clock_s = clock_s
        self._events: SimpleQueue[_Delivered | _Connected] = SimpleQueue()
        self._connected: _Connected | None = None  # heard, and not yet seen to
        self._since_s: float | None = None  # when the connection of now was there
        self._due = 0
        self._on_the_way: dict[int, QueuedVerdict] = {}
        self._to_mark: list[tuple[QueuedVerdict, float]] = []  # acknowledged then, and not yet marked as such
        self._resting: dict[int, float] = {}
        self._rest_s = _FIRST_REST_S
        self._newest = outbox.newest_sent()
        self._may_wait = True
        self._acknowledged = 0
        self._reasons: deque[str] = deque(maxlen=_REASONS_KEPT)

    # From any thread.

    def delivered(self, position: int, refusal: str | None) -> None:
        """The broker has acknowledged the verdict of this position, or refused it and said why."""
        self._events.put(_Delivered(position, refusal, self._clock_s()))
        self._nudge()

    def forgotten(self) -> None:
        """The broker has lost what it knew of us: it may have lost, too, what it acknowledged last."""
        self._events.put(_Connected(forgotten=True))
        self._nudge()

    def returned(self) -> None:
        """The connection was lost and is back: had the broker died, what it acknowledged last may be gone."""
        self._events.put(_Connected(forgotten=False))
        self._nudge()

    # On the owner's.

    def committed(self) -> None:
        """The outbox holds one more."""
        self._may_wait = True

    def step(self, wait_s: float = 0.0) -> None:
        """See to what was heard, and send on; waits for something to be heard, at most `wait_s`.

        Raises `OutboxError` where the outbox can't be read or written, and `BrokerError` where the
        connection's thread has ended; nothing is lost by either.
        """
        self._hear(wait_s)
        self._go_on()
        while not self._events.empty():
            self._hear(0.0)
            self._go_on()

    def flush(self, timeout_s: float) -> DeliveryReport:
        """Send until nothing more is on its way or `timeout_s` has passed; says what then still waits."""
        end_s = self._clock_s() + timeout_s
        self.step()
        while self._on_the_way and (left_s := end_s - self._clock_s()) > 0:
            self.step(left_s)
        return self.report()

    def report(self) -> DeliveryReport:
        """What became of the verdicts since the start."""
        return DeliveryReport(
            acknowledged=self._acknowledged,
            waiting=self._outbox.waiting(),
            refused=len(self._resting),
            reasons=tuple(self._reasons),
        )

    def _go_on(self) -> None:
        if self._to_mark:
            # When it was heard counts: had this thread been held up, the connection may be long gone.
            now_s = self._clock_s()
            verdicts, ago_s = zip(
                *((queued, now_s - heard_s) for queued, heard_s in self._to_mark), strict=True
            )
            self._acknowledged += self._outbox.acknowledge(verdicts, ago_s)
            self._to_mark.clear()
        if self._connected is not None:
            self._requeue(self._connected.forgotten)
            self._connected = None
        now_s = self._clock_s()
        due = 0 if self._since_s is None else repeats_due(now_s - self._since_s, self._outbox.unsaved_s)
        self._may_wait |= due > self._due
        self._due = due
        rested = [position for position, until_s in self._resting.items() if until_s <= now_s]
        for position in rested:
            del self._resting[position]
            self._may_wait = True
        self._send()

    def _requeue(self, forgotten: bool) -> None:
        count = self._outbox.requeue() if forgotten else self._outbox.requeue_unsaved()
        # What is on its way goes out by the new connection: its acknowledgement is the new one's.
        self._on_the_way = {p: self._outbox.taken_along(q) for p, q in self._on_the_way.items()}
        if count and forgotten:
            _log.warning("the broker has lost its memory; the last %d verdicts are sent again", count)
        self._since_s, self._due = self._clock_s(), 0

    def _hear(self, wait_s: float) -> None:
        """Up to the next new connection: what comes after it is of that one, and must not be mixed up."""
        try:
            while self._connected is None:
                self._on(self._events.get(timeout=wait_s) if wait_s > 0 else self._events.get_nowait())
                wait_s = 0.0
        except Empty:
            return

    def _on(self, event: _Delivered | _Connected) -> None:
        if isinstance(event, _Connected):
            self._connected = event
            return
        queued = self._on_the_way.pop(event.position, None)
        if queued is None:
            return
        self._may_wait = True
        if event.refusal is None:
            self._to_mark.append((queued, event.heard_s))
            self._rest_s = _FIRST_REST_S
            return
        if event.refusal not in self._reasons:
            self._reasons.append(event.refusal)
        self._resting[event.position] = self._clock_s() + self._rest_s
        self._rest_s = min(2 * self._rest_s, _LAST_REST_S)

    def _send(self) -> None:
        if not self._may_wait or len(self._resting) >= _RESTING_MAX:
            return
        for which in (Waiting.NEW, Waiting.REPEATED, Waiting.REPLAYED):
            under_way = sum(_kind(queued.verdict) is which for queued in self._on_the_way.values())
            room = _WINDOWS[which] - under_way
            if room <= 0:
                if which is Waiting.NEW:
                    return
                continue
            without = {*self._on_the_way, *self._resting}
            batch = self._outbox.unacknowledged(room, without=without, which=which, due=self._due)
            for queued in batch:
                self._publish(queued)
            if which is Waiting.NEW and len(batch) == room:
                return
        self._may_wait = False

    def _publish(self, queued: QueuedVerdict) -> None:
        verdict = queued.verdict
        # Also where it goes again: the broker may have lost it there, too.
        newest = not verdict.replayed and verdict.position >= self._newest
        self._publisher.publish_verdict(verdict, newest=newest)
        self._on_the_way[verdict.position] = queued
        if newest:
            self._newest = verdict.position


def _kind(verdict: StoredVerdict) -> Waiting:
    if verdict.replayed:
        return Waiting.REPLAYED
    return Waiting.REPEATED if verdict.repeats else Waiting.NEW
