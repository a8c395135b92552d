"""Commands from the page: to the same desk as those over MQTT, and the answer to who asked."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from http import HTTPStatus

from edge.dashboard.http import Request, Response, plain
from edge.letters import DASHBOARD
from edge.order_messages import Answer

__all__ = ["Ask", "Commands"]

Ask = Callable[[str, bytes], "Future[Answer]"]
"""`OrderDesk.ask`: a command's name, and the JSON of what it says."""

_PATIENCE_S = 30.0
"""A recipe whose engines have to be built takes longer; the page then shows what runs, and no answer."""


class Commands:
    """Hands commands on by `ask`, in the page's name, and waits for the answer on the loop."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def handle(self, request: Request) -> Response:
        """Carry out `{"command": …, and what it says}`; the answer is the rig's, whatever it says."""
        try:
            said = json.loads(request.body)
            command = said.pop("command")
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            return plain(HTTPStatus.BAD_REQUEST, 'send JSON: {"command": "…", …}')
        if not isinstance(command, str):
            return plain(HTTPStatus.BAD_REQUEST, "command must be text")
        order = {"request_id": secrets.token_hex(8), **said, "issued_by": DASHBOARD}
        try:
            asked = self._ask(command, json.dumps(order).encode())
            answer = await asyncio.wait_for(asyncio.wrap_future(asked), _PATIENCE_S)
        except asyncio.TimeoutError:
            return plain(HTTPStatus.GATEWAY_TIMEOUT, f"no answer within {_PATIENCE_S:g} s; it may still come")
        return Response(HTTPStatus.OK, "application/json", answer.to_json())
