"""The live picture: what is shown, to whom, and nothing else."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from edge.capturing.concerns import Concern, Worry
from edge.capturing.events import HeldBack
from edge.capturing.live_view import LiveView
from edge.capturing.measuring import foreground_for, measure
from edge.capturing.session import Seen
from edge.capturing.showing import Shown, measured_lines
from edge.errors import ConfigError
from edge.testing import flat_frame
from tests.browser import find_chromium, needs_chromium

NASTY = "<img src=x onerror=alert(1)>"


def seen(*worries: Worry) -> Seen:
    frame = flat_frame(width_px=320, height_px=240, part_height_m=0.02)
    return Seen(measure(frame, foreground_for(0.005)), worries, 0.9)


@pytest.fixture
def view() -> Iterator[LiveView]:
    with LiveView(0) as view:
        yield view


def ask(
    view: LiveView, path: str, method: str = "GET", host: str | None = None
) -> tuple[int, bytes, dict[str, str]]:
    address = urlsplit(view.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    try:
        connection.request(method, path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def test_the_picture_has_the_parts_outline(view: LiveView) -> None:
    assert ask(view, "/live.jpg")[0] == 503
    for worries, colour in (((), (60, 220, 90)), ((Worry(Concern.SAME, "same"),), (255, 170, 0))):
        view.show(Shown(seen=seen(*worries)))
        status, data, headers = ask(view, "/live.jpg?3")
        assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == (240, 320, 3)
        left, middle = picture[120, 80, ::-1].astype(int), picture[120, 160, ::-1].astype(int)
        assert np.abs(left - colour).max() < 60
        assert np.abs(middle - 128).max() < 8


def test_the_figures_stand_beside_it(view: LiveView) -> None:
    now = seen(Worry(Concern.BLURRED, "blurred: 20%"))
    view.show(Shown(now, tuple(measured_lines(now)), prompt="space again", trouble="away"))
    view.tell(HeldBack(label="good", concerns={"blurred": "blurred: 20%"}))
    status = json.loads(ask(view, "/status.json")[1])
    assert ["sharpness", "███████████░ 90% of the median"] in status["figures"]
    assert {name for name, _ in status["figures"]} == {"sharpness", "fill rate", "part", "distance", "tilt"}
    assert status["worries"] == ["blurred: 20%"]
    assert (status["prompt"], status["trouble"]) == ("space again", "away")
    assert status["last"] == "not kept: blurred: 20%"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/../../etc/passwd", "/%2e%2e/", "/live.jpg/", "/capture.yaml", "*"]
)
def test_there_are_no_other_addresses(view: LiveView, path: str) -> None:
    status, body, _ = ask(view, path)
    assert (status, body) == (404, b"404 Not Found\n")


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_nothing_but_get(view: LiveView, method: str) -> None:
    assert ask(view, "/", method)[0] == 405


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil:1"]
)
def test_a_page_of_the_web_can_not_read_it_under_its_own_name(view: LiveView, host: str) -> None:
    view.show(Shown(seen=seen()))
    assert ask(view, "/live.jpg", host=host)[0] == 421
    assert ask(view, "/live.jpg", host="localhost:9000")[0] == 200  # through ssh -L


def test_each_answer_says_what_may_be_done_with_it(view: LiveView) -> None:
    for path in ("/", "/status.json", "/nothing"):
        headers = ask(view, path)[2]
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "Python" not in headers["Server"]


def test_only_this_machine_and_a_taken_port_is_said(view: LiveView) -> None:
    port = urlsplit(view.url).port
    assert port is not None
    with pytest.raises(ConfigError, match="name another port"), LiveView(port):
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=30)


def test_browsers_that_hold_on_do_not_stop_it(view: LiveView) -> None:
    address = urlsplit(view.url)
    held = [socket.create_connection((address.hostname, address.port), timeout=30) for _ in range(30)]
    try:
        view.show(Shown(seen=seen()))  # who collects never waits for them
    finally:
        for connection in held:
            connection.close()


@pytest.mark.browser
@needs_chromium
def test_it_is_a_page(view: LiveView, tmp_path: Path) -> None:
    now = seen(Worry(Concern.SAME, NASTY))
    view.show(Shown(now, (("label", NASTY), *measured_lines(now))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 900, "height": 600})
            complaints: list[str] = []
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(view.url)
            # Not by wait_for_function: it evaluates text within the page, which the page forbids.
            expect(page.locator("#figures dt")).to_have_count(6, timeout=60_000)
            while page.locator("#picture").evaluate("picture => picture.naturalWidth") != 320:
                page.wait_for_timeout(20)
            assert page.locator("#worries p").inner_text() == NASTY
            assert page.locator("img").count() == 1
            page.screenshot(path=tmp_path / "page.png")
            assert complaints == []
        finally:
            browser.close()
