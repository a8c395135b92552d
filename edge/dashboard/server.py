"""The dashboard in the daemon's process, on a thread of its own: parts are inspected whatever it does."""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from edge.clock import Session, utc_now
from edge.dashboard.access import Access
from edge.dashboard.commands import Ask, Commands
from edge.dashboard.config import DashboardConfig
from edge.dashboard.counts import ShiftCounter, shift_start
from edge.dashboard.http import HttpServer
from edge.dashboard.hub import Hub
from edge.dashboard.past import SHOWN_POINTS, Past
from edge.dashboard.routes import ALWAYS, Routes
from edge.dashboard.stream import BEAT_S, Streams
from edge.errors import EdgeError, OutboxError
from edge.order_messages import Answer
from edge.outbox_ledger import Ledger
from edge.topics import RigIdentity

__all__ = ["Dashboard"]

_log = logging.getLogger(__name__)

_AGAIN_S = 10.0
_STOP_S = 2.0


class Dashboard:
    """Serves the page while its context lasts; `hub` is the onlooker for the daemon.

    `outbox` is the folder of the daemon's outbox, `health_s` how often the daemon says how it feels. A port
    that is taken is tried again until it is free, and said in the log: it is no reason not to inspect.
    Raises `ConfigError` where the token can't be read.
    """

    def __init__(
        self, config: DashboardConfig, rig: RigIdentity, session: Session, outbox: Path, *, health_s: float
    ) -> None:
        self._health_s = health_s
        self._config = config
        self._rig = rig
        self._session = session
        self._outbox = outbox
        self._access = Access(config)
        self.hub = Hub(ShiftCounter(config.shift_starts))
        self._ask: Ask = _nobody_to_ask
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._bound = threading.Event()
        self._told = threading.Lock()
        self._port: int | None = None
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)

    @property
    def url(self) -> str | None:
        """Its address, for a browser on this machine; None while the port can't be had."""
        if self._port is None:
            return None
        host = self._config.host
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"http://[{host}]:{self._port}/" if ":" in host else f"http://{host}:{self._port}/"

    def obey(self, ask: Ask) -> None:
        """Whom the page's commands go to; before it is entered."""
        self._ask = ask

    def wait_until_bound(self, timeout_s: float) -> bool:
        """Whether it listens within `timeout_s`."""
        return self._bound.wait(timeout_s)

    def __enter__(self) -> Self:
        self._count_the_past()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hub.listen(None)
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            _log.warning("the dashboard did not end within %g s and goes with the process", _STOP_S)

    def _count_the_past(self) -> None:
        """Before the first part, or it would be counted twice."""
        try:
            with Ledger(self._outbox) as ledger:
                since = shift_start(utc_now(), self._config.shift_starts)
                self.hub.counter.fill(ledger.counted_since(since))
        except OutboxError as error:
            _log.warning("the dashboard counts from now on: %s", error)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        past = Past(self._outbox)
        streams = Streams(self.hub, past, self._hello())
        server = HttpServer(Routes(self._access, self.hub, past, streams, Commands(self._ask)).answer, ALWAYS)
        self._stop = stop = asyncio.Event()
        self._loop = loop = asyncio.get_running_loop()

        def look() -> None:
            self._told.release()
            streams.changed()

        def on_change() -> None:
            # At most one look waits, however much there is to see.
            if self._told.acquire(blocking=False):
                try:
                    loop.call_soon_threadsafe(look)
                except RuntimeError:  # the loop has just been closed
                    _log.debug("nobody looks at the dashboard's news any more")

        self.hub.listen(on_change)
        try:
            listening = await self._listen(server, stop)
            if listening is not None:
                await stop.wait()
                listening.close()
            await server.close()
        finally:
            self.hub.listen(None)
            past.close()

    async def _listen(self, server: HttpServer, stop: asyncio.Event) -> asyncio.Server | None:
        """Until the port is ours, or `stop`."""
        said = ""
        while not stop.is_set():
            try:
                listening = await server.listen(self._config.host, self._config.port)
            except OSError as error:
                why = "it is taken" if error.errno == errno.EADDRINUSE else str(error.strerror or error)
                if why != said:
                    _log.error("no dashboard on %s:%d: %s; parts are inspected all the same, and it is tried "
                               "again; give dashboard.port another number", self._config.host,
                               self._config.port, why)  # fmt: skip
                said = why
                try:
                    await asyncio.wait_for(stop.wait(), _AGAIN_S)
                except asyncio.TimeoutError:
                    continue
            else:
                self._port = int(listening.sockets[0].getsockname()[1])
                self._bound.set()
                _log.info("dashboard on %s", self.url)
                return listening
        return None

    def _hello(self) -> dict[str, Any]:
        return {
            "rig": self._rig.model_dump(),
            "software_version": self._session.software_version,
            "epoch": self._session.epoch,
            "beat_s": BEAT_S,
            "health_s": self._health_s,
            "points": SHOWN_POINTS,
        }


def _nobody_to_ask(command: str, payload: bytes) -> Future[Answer]:
    raise EdgeError(f"{command}: this dashboard has nobody to carry out commands; call obey() first")
