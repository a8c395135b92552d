"""A dashboard over a real outbox, and somebody who asks it for things."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edge.clock import Session
from edge.dashboard.config import DashboardConfig
from edge.dashboard.server import Dashboard
from edge.order_messages import Answer
from edge.orders import OrderDesk
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.topics import RigIdentity, Topics

__all__ = ["PATIENCE_S", "RIG", "SESSION", "Served", "serving"]

PATIENCE_S = 60.0
RIG = RigIdentity(enterprise="acme", site="dresden", area="assembly", line="line-3", cell="cell-2")
SESSION = Session(epoch=5, boot_id="boot", software_version="1.2.3")


class Served:
    """A dashboard that serves, its outbox, and ways to ask it."""

    def __init__(self, dashboard: Dashboard, outbox: Outbox, asked: list[tuple[str, Any]]) -> None:
        self.dashboard = dashboard
        self.hub = dashboard.hub
        self.outbox = outbox
        self.asked = asked
        assert dashboard.url is not None
        self.url = dashboard.url
        split = urlsplit(dashboard.url)
        assert split.hostname is not None
        assert split.port is not None
        self.address = (split.hostname, split.port)
        self.origin = f"http://{split.netloc}"

    def ask(
        self, path: str, method: str = "GET", *, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of one request; `host=` says another than the true one."""
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body=body, headers=said)
            answer = connection.getresponse()
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=PATIENCE_S)

    @contextmanager
    def events(
        self, path: str = "/events", **headers: str
    ) -> Iterator[Iterator[tuple[str, str | None, Any]]]:
        """The stream as (kind, id, data)."""
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE_S)
        try:
            connection.request("GET", path, headers=said)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            yield _events(answer)
        finally:
            connection.close()


def _events(answer: http.client.HTTPResponse) -> Iterator[tuple[str, str | None, Any]]:
    fields: dict[str, str] = {}
    while line := answer.readline().decode():
        if line != "\n":
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = value
            continue
        if "event" in fields:
            yield fields["event"], fields.get("id"), json.loads(fields["data"])
        fields = {}


@contextmanager
def serving(folder: Path, **config: Any) -> Iterator[Served]:
    """A dashboard on a free port; what it is asked to carry out is noted, and refused by a real desk."""
    asked: list[tuple[str, Any]] = []
    desk = OrderDesk((), Topics(RIG.root), SESSION, lambda answer, topic, correlation: None)

    def ask(command: str, payload: bytes) -> Future[Answer]:
        asked.append((command, json.loads(payload)))
        return desk.ask(command, payload)

    outbox = Outbox(folder / "outbox", OutboxConfig())
    settings = DashboardConfig.model_validate({"port": 0, **config})
    dashboard = Dashboard(settings, RIG, SESSION, folder / "outbox", health_s=5.0)
    dashboard.obey(ask)
    try:
        with dashboard:
            assert dashboard.wait_until_bound(PATIENCE_S)
            yield Served(dashboard, outbox, asked)
        assert not [thread.name for thread in threading.enumerate() if thread.name == "dashboard"]
    finally:
        outbox.close()
