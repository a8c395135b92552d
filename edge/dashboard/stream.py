"""The stream of events that the page lives on (`GET /events`)."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from edge.clock import utc_now
from edge.dashboard.http import Request, Response, Send, plain
from edge.dashboard.hub import Hub, event_frame
from edge.dashboard.past import Past
from edge.errors import OutboxError

__all__ = ["BEAT_S", "STREAMS_MAX", "Streams"]

_log = logging.getLogger(__name__)

BEAT_S = 2.0
"""How often a reader hears that the connection stands, so that it knows within seconds when it does not."""

STREAMS_MAX = 32
_RETRY_MS = 1000
_EVENT_ID = re.compile(r"(\d{1,18})-(\d{1,18})")


class Streams:
    """Passes on what the hub has, to each reader at its own pace; belongs to the loop's thread.

    `hello` is what a reader is told first. A reader that falls behind, or takes nothing for ten seconds, is
    cut off; it comes back by itself, and says what it got last.
    """

    def __init__(
        self, hub: Hub, past: Past, hello: dict[str, Any], *, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._hub = hub
        self._past = past
        self._hello = hello
        self._now = now
        self._open = 0
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """There is something new in the hub."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def open(self, request: Request) -> Response:
        """The stream, from what the request says it got last."""
        if self._open >= STREAMS_MAX:
            return plain(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{STREAMS_MAX} pages are open already; close one",
                (("Retry-After", "5"),),
            )
        last = request.headers.get("last-event-id") or parse_qs(request.query).get("after", [""])[0]
        return Response(
            HTTPStatus.OK,
            "text/event-stream; charset=utf-8",
            headers=(("X-Accel-Buffering", "no"),),  # a reverse proxy must not hold it back
            stream=lambda send: self._run(send, last),
        )

    async def _run(self, send: Send, last: str) -> None:
        self._open += 1
        try:
            now = self._hub.now()  # before the past is read: rather twice than never
            await send(f"retry: {_RETRY_MS}\n\n".encode() + event_frame("hello", self._json(self._hello)))
            for frame in await self._opening(last):
                await send(frame)
            await send(b"".join(now.frames) + self._counts())
            await self._follow(send, now.next_number)
        finally:
            self._open -= 1

    async def _follow(self, send: Send, number: int) -> None:
        while True:
            changed = self._changed
            frames = self._hub.after(number)
            if frames is None:
                _log.info("a reader of the dashboard was too slow and is cut off")
                return
            if frames:
                number += len(frames)
                await send(b"".join(frames) + self._counts())
                continue
            try:
                await asyncio.wait_for(changed.wait(), BEAT_S)
            except asyncio.TimeoutError:
                await send(event_frame("beat", self._json({})))

    async def _opening(self, last: str) -> tuple[bytes, ...]:
        known = _EVENT_ID.fullmatch(last)
        try:
            missed = None if known is None else await self._past.since(int(known[1]), int(known[2]))
            return (await self._past.opening(),) if missed is None else missed
        except OutboxError as error:
            _log.warning("the dashboard shows nothing of before: %s", error)
            return ()

    def _counts(self) -> bytes:
        return event_frame("counts", self._hub.counter.counts(self._now()).model_dump_json().encode())

    def _json(self, said: dict[str, Any]) -> bytes:
        return json.dumps({**said, "now": self._now().isoformat()}, ensure_ascii=False).encode()
