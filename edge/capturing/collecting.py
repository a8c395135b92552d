"""The loop: frames come, are looked at and shown, and those that are due are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edge.camera.source import FrameSource
from edge.capturing.concerns import Concern
from edge.capturing.events import Ended, Event, Summary
from edge.capturing.keys import Key, Keyboard, Press
from edge.capturing.pace import OnDemand, Pace
from edge.capturing.session import Seen, Session, info_of
from edge.capturing.showing import Shown, Shows, measured_lines
from edge.errors import CameraAway, CameraStalled, FrameError

__all__ = ["Collector", "Plan"]

_LIVE_READ_S = 0.5
_KEY_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be collected.

    `labels` the classes, the first to begin with; `count` how many captures, None as many as come;
    `keep` which concerns hold nothing back; `live`: frames come by themselves, else the next one comes when
    it is asked for; `read_s` how long to wait for one. With `asks_serial` a serial is typed, or scanned,
    before each part.
    """

    labels: tuple[str, ...]
    count: int | None
    keep: frozenset[Concern]
    live: bool
    read_s: float
    asks_serial: bool = False


class Collector:
    """Runs one session on one thread, until its count is reached, its source ends, or somebody ends it."""

    def __init__(
        self,
        source: FrameSource,
        session: Session,
        plan: Plan,
        pace: Pace,
        *,
        keyboard: Keyboard | None,
        shows: Sequence[Shows],
        on_event: Callable[[Event], None] = lambda event: None,
        on_resume: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        self._source, self._session, self._plan, self._pace = source, session, plan, pace
        self._keyboard = keyboard
        self._shows = shows
        self._on_event = on_event
        self._on_resume = on_resume
        self._label = 0
        self._serial = ""
        self._held: Seen | None = None
        """A frame that waits for the person to say that it is to be kept all the same."""
        self._seen: Seen | None = None
        self._next = True
        self._tries = 0
        self._trouble = ""
        self._note = ""
        self._ended: Ended | None = None

    def stop(self) -> None:
        """End soon; safe in a signal handler."""
        self._ended = self._ended or Ended.SIGNAL

    def run(self) -> Summary:
        """Collect; raises what the source raises, and `CaptureError`. What was kept stays kept."""
        self._show()
        while self._ended is None:
            waits = not (self._plan.live or self._next)
            for press in self._keyboard.pressed(_KEY_WAIT_S if waits else 0.0) if self._keyboard else ():
                self._pressed(press)
            if self._ended is None and (self._plan.live or self._next):
                self._step()
            self._show()
        summary = self._session.summary(self._ended)
        self._tell(summary)
        return summary

    def _step(self) -> None:
        try:
            frame = self._source.read(_LIVE_READ_S if self._plan.live else self._plan.read_s)
        except (CameraAway, FrameError) as error:
            self._trouble = str(error)
            return
        except CameraStalled as error:
            if not self._plan.live:
                raise
            self._trouble = str(error)
            return
        self._trouble = ""
        if frame is None:
            self._ended = self._ended or Ended.SOURCE
            return
        if not self._session.begun:
            self._session.begin(info_of(frame, self._source.health()), self._on_resume)
        seen = self._seen = self._session.look(frame)
        self._next = not isinstance(self._pace, OnDemand)
        if frame.stale is not None:
            return
        if self._pace.due(frame):
            self._tries = self._pace.tries
        if self._tries:
            self._tries -= 1
            self._offer(seen)

    def _offer(self, seen: Seen) -> None:
        """A frame that is to be taken, unless something speaks against it."""
        if not self._against(seen):
            self._tries = 0
            self._keep(seen)
        elif isinstance(self._pace, OnDemand):
            self._held = seen
        elif not self._tries:
            self._tell(self._session.hold_back(seen, self._plan.labels[self._label]))

    def _against(self, seen: Seen) -> bool:
        return any(worry.concern not in self._plan.keep for worry in seen.worries)

    def _keep(self, seen: Seen) -> None:
        info = info_of(seen.measured.frame, self._source.health())
        label = self._plan.labels[self._label]
        kept = self._session.keep(seen, label, info, self._serial or None)
        self._serial, self._held, self._next = "", None, True
        self._tell(kept)
        if self._plan.count is not None and self._session.kept >= self._plan.count:
            self._ended = self._ended or Ended.COUNT

    def _pressed(self, press: Press) -> None:
        self._note = ""
        held, self._held = self._held, None
        if held is not None and press.key is not Key.TAKE:
            self._tell(self._session.hold_back(held, self._plan.labels[self._label]))
        if press.key is Key.END:
            self._ended = self._ended or Ended.KEY
        elif press.key is Key.TAKE:
            self._take(held)
        elif press.key is Key.NEXT:
            self._next = True
        elif press.key is Key.UNDO:
            undone = self._session.undo()
            if undone is not None:
                self._tell(undone)
            self._note = "" if undone is not None else "nothing to take back: none was kept in this run"
        elif press.key is Key.LABEL:
            self._label = (self._label + 1) % len(self._plan.labels)
        elif press.key is Key.TEXT:
            self._serial = (self._serial + press.text)[:128]
        elif press.key is Key.ERASE:
            self._serial = self._serial[:-1]

    def _take(self, held: Seen | None) -> None:
        if self._plan.asks_serial and not self._serial.strip():
            self._note = "scan or type the part's serial first"
            return
        self._serial = self._serial.strip()
        if held is not None:
            self._keep_all_the_same(held)
        elif isinstance(self._pace, OnDemand):
            if self._plan.live:
                self._pace.ask()
            elif self._seen is not None:
                self._offer(self._seen)

    def _keep_all_the_same(self, held: Seen) -> None:
        if any(worry.concern is Concern.STALE for worry in held.worries):
            self._tell(self._session.hold_back(held, self._plan.labels[self._label]))
        else:
            self._keep(held)

    def _tell(self, event: Event) -> None:
        self._on_event(event)
        for shows in self._shows:
            shows.tell(event)

    def _show(self) -> None:
        seen = self._held or self._seen
        shown = Shown(
            seen=seen,
            lines=(*self._lines(), *(measured_lines(seen) if seen is not None else ())),
            prompt=self._prompt(),
            trouble=self._trouble,
            keys=self._keys(),
        )
        for shows in self._shows:
            shows.show(shown)

    def _lines(self) -> Iterator[tuple[str, str]]:
        labels, of = self._plan.labels, self._plan.count
        counts = dict.fromkeys(labels, 0) | {k: n for k, n in self._session.counts.items() if n}
        yield "label", labels[self._label]
        yield "kept", f"{self._session.kept}" + (f" of {of}" if of is not None else "") + " in this run"
        yield "folder", ", ".join(f"{count} {label}" for label, count in counts.items())

    def _prompt(self) -> str:
        if self._held is not None:
            again = "Enter" if self._plan.asks_serial else "space"
            return f"not kept yet: {again} again keeps it all the same, any other key drops it"
        if self._note:
            return self._note
        if self._plan.asks_serial:
            return f"serial: {self._serial}▏"
        return "taking …" if isinstance(self._pace, OnDemand) and self._pace.asked else ""

    def _keys(self) -> str:
        if self._keyboard is None:
            return "Ctrl-C ends"
        asks, on_demand = self._plan.asks_serial, isinstance(self._pace, OnDemand)
        keys = []
        if on_demand:
            keys.append("Enter takes" if asks else "space takes")
            if not self._plan.live:
                keys.append("Ctrl-N next" if asks else "n next")
        keys.append("Ctrl-U takes the last one back" if asks else "u takes the last one back")
        if len(self._plan.labels) > 1:
            keys.append("Tab changes the label")
        keys.append("Ctrl-D ends" if asks else "q ends")
        return " · ".join(keys)
