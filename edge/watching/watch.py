"""Listens at a broker, and shows what is heard: live, as a line per change, or once."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.text import Text
from typing_extensions import Self

from edge.clock import utc_now
from edge.config import BrokerConfig
from edge.connection import BrokerConnection, ConnectionStatus
from edge.errors import BrokerRefused, BrokerUnreachable
from edge.inbox import Inbox, Incoming
from edge.outgoing import QueueLimit
from edge.terminal import LiveDrawing
from edge.watching.fleet import Fleet
from edge.watching.reading import printable
from edge.watching.report import RigRow, WatchReport
from edge.watching.table import rig_table

__all__ = ["LiveTable", "Watch"]

_WAITING_MAX = 20_000
_MAX_PACKET_BYTES = 256 * 1024
_LOOK_S = 0.5  # how often what grows old is looked at
_CLOSE_S = 2.0


class Watch:
    """Listens to `topics` as long as the context lasts, over any outage of the broker; publishes nothing.

    Raises `BrokerRefused` where the broker says no for good, `ConfigError` where the password or a
    certificate can't be read.
    """

    def __init__(self, config: BrokerConfig, topics: tuple[str, ...]) -> None:
        self._config = config
        self._fleet = Fleet()
        self._changed: SimpleQueue[str] | None = None
        self._connection = BrokerConnection(
            config,
            f"edge-watch-{secrets.token_hex(4)}",
            password=config.read_password(),
            limit=QueueLimit(0, 0, drop_oldest=False),
            on_delivery=lambda delivery: None,
            inbox=Inbox(topics, self._on_message, _WAITING_MAX, _MAX_PACKET_BYTES),
        )

    def __enter__(self) -> Self:
        self._connection.start()
        try:
            self._connection.wait_for_answer(2 * self._config.connect_timeout_s + 1)
        except BrokerRefused:
            self._connection.stop(None, 0.0)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.stop(None, _CLOSE_S)

    @property
    def status(self) -> ConnectionStatus:
        return self._connection.status

    @property
    def broker(self) -> str:
        return f"{self._config.host}:{self._config.port}"

    def rows(self) -> tuple[RigRow, ...]:
        """All rigs as they are now."""
        return self._fleet.rows(time.monotonic())

    def trouble(self) -> str | None:
        """What stands between us and the broker now; None where nothing does."""
        status = self._connection.status
        if status.connected and (status.hears or status.last_error is None):
            return None
        return printable(status.last_error or "not connected")

    def after(self, seconds: float) -> WatchReport:
        """What has been heard after so many seconds of connection.

        Raises `BrokerUnreachable` where there was none in that time, `BrokerRefused` where nothing may be
        heard.
        """
        threading.Event().wait(seconds)
        status = self._connection.status
        if not status.connects:
            raise BrokerUnreachable(f"{status.last_error or self.broker}; nothing was heard")
        if status.connected and not status.hears and status.last_error is not None:
            raise BrokerRefused(status.last_error)
        return WatchReport(
            broker=self.broker,
            connected=status.connected,
            creation_time=utc_now(),
            rigs=self.rows(),
            rigs_left_out=self._fleet.left_out,
        )

    def follow(self, told: Callable[[RigRow], None]) -> None:
        """Give each row as it is, and again whenever it has changed; until interrupted."""
        self._changed = SimpleQueue()
        before: dict[str, RigRow] = {}
        while True:
            for row in self.rows():
                if before.get(row.root) != (now := row.without_ages()):
                    before[row.root] = now
                    told(row)
            try:
                self._changed.get(timeout=_LOOK_S)
                while True:  # a burst is one change
                    self._changed.get_nowait()
            except Empty:
                continue

    def _on_message(self, message: Incoming) -> None:
        """From the connection's thread."""
        root = self._fleet.hear(message)
        if root is not None and (changed := self._changed) is not None:
            changed.put(root)


class LiveTable(LiveDrawing):
    """The rigs of a watch, drawn twice a second."""

    def __init__(self, console: Console, watch: Watch) -> None:
        super().__init__(console, per_second=2)
        self._watch = watch

    def render(self) -> RenderableType:
        parts: list[RenderableType] = [rig_table(self._watch.rows(), self._watch.broker)]
        if trouble := self._watch.trouble():
            parts.append(Text(f"no connection: {trouble}", "bold red"))
        return Group(*parts)
