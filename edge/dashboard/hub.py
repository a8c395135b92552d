"""What the page is told: the daemon's threads put it here, the server's thread passes it on."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from edge.dashboard.counts import ShiftCounter
from edge.messages import Health, MachineState, PictureInfo, PictureKind, Verdict
from edge.order_messages import RecipeState
from edge.publisher import Picture

__all__ = ["EVENTS_KEPT", "Hub", "Now", "event_frame"]

EVENTS_KEPT = 512
"""A reader that is further behind is cut: when it comes back it gets what is true then."""

_PICTURES_KEPT = 8
_PICTURES_MAX_BYTES = 32 * 1024 * 1024


def event_frame(event: str, data: bytes, event_id: str | None = None) -> bytes:
    """One event of a stream (WHATWG HTML, server-sent events); `data` is JSON in one line."""
    head = "" if event_id is None else f"id: {event_id}\n"
    return f"{head}event: {event}\ndata: ".encode() + data + b"\n\n"


@dataclass(frozen=True, slots=True)
class Now:
    """What a reader that comes now is told first, and where it goes on."""

    frames: tuple[bytes, ...]
    next_number: int


class Hub:
    """An `Onlooker` that keeps the last events and pictures in memory, and never more than that.

    There is one copy of each event, whoever reads: a reader holds a number, and no queue.
    """

    def __init__(self, counter: ShiftCounter) -> None:
        self.counter = counter
        self._lock = threading.Lock()
        self._events: deque[bytes] = deque(maxlen=EVENTS_KEPT)
        self._next = 0
        self._latest: dict[str, bytes] = {}
        self._of_latest: dict[str, bytes] = {}
        self._pictures: OrderedDict[str, dict[PictureKind, Picture]] = OrderedDict()
        self._on_change: Callable[[], None] | None = None

    def listen(self, on_change: Callable[[], None] | None) -> None:
        """Whom to call from the daemon's threads when there is news; it must not wait, and not raise."""
        with self._lock:
            self._on_change = on_change

    # -- from the daemon's threads -------------------------------------------------------------------

    def on_verdict(self, verdict: Verdict) -> None:
        self.counter.add(verdict.outcome, verdict.creation_time)
        frame = event_frame("verdict", verdict.to_json(), f"{verdict.epoch}-{verdict.seq}")
        with self._lock:
            self._of_latest = {"verdict": frame}
            self._add(frame)
        self._tell()

    def on_picture(self, picture: Picture, info: PictureInfo) -> None:
        if picture.kind is PictureKind.MAP:  # the page draws none; it is large, and the outbox has it
            return
        frame = event_frame("picture", info.to_json())
        with self._lock:
            self._pictures.setdefault(info.result_id, {})[picture.kind] = picture
            while len(self._pictures) > _PICTURES_KEPT or self._picture_bytes() > _PICTURES_MAX_BYTES:
                self._pictures.popitem(last=False)
            self._of_latest[picture.kind.value] = frame
            self._add(frame)
        self._tell()

    def on_health(self, health: Health) -> None:
        self._say("health", health.to_json())

    def on_machine_state(self, state: MachineState) -> None:
        self._say("state", state.to_json())

    def on_recipe(self, state: RecipeState) -> None:
        self._say("recipe", state.to_json())

    # -- from the server's ---------------------------------------------------------------------------

    def now(self) -> Now:
        """What is true now, and the number of what comes next."""
        with self._lock:
            return Now((*self._latest.values(), *self._of_latest.values()), self._next)

    def after(self, number: int) -> tuple[bytes, ...] | None:
        """The events from that number on; None where some of them are gone."""
        with self._lock:
            behind = self._next - number
            if behind > len(self._events):
                return None
            return tuple(islice(self._events, len(self._events) - behind, None))

    def picture(self, result_id: str, kind: PictureKind) -> Picture | None:
        """A picture of one of the last parts."""
        with self._lock:
            return self._pictures.get(result_id, {}).get(kind)

    def _say(self, event: str, data: bytes) -> None:
        frame = event_frame(event, data)
        with self._lock:
            self._latest[event] = frame
            self._add(frame)
        self._tell()

    def _add(self, frame: bytes) -> None:
        self._events.append(frame)
        self._next += 1

    def _picture_bytes(self) -> int:
        return sum(len(one.data) for kinds in self._pictures.values() for one in kinds.values())

    def _tell(self) -> None:
        with self._lock:
            on_change = self._on_change
        if on_change is not None:
            on_change()
