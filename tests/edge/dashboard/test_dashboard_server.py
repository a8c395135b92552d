"""The dashboard's server: who gets what, and that no stranger can slow, fill or end the inspection."""

from __future__ import annotations

import errno
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from edge.clock import utc_now
from edge.config import PicturesConfig
from edge.daemon import Daemon, DaemonSettings, Model
from edge.dashboard.config import DashboardConfig
from edge.dashboard.counts import ShiftCounter
from edge.dashboard.http import MAX_CONNECTIONS
from edge.dashboard.hub import EVENTS_KEPT, Hub
from edge.dashboard.routes import ASSETS
from edge.dashboard.server import Dashboard
from edge.messages import PictureInfo, PictureKind
from edge.onlookers import Onlookers
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.pictures import pictures_of
from edge.publisher import Picture, picture_info
from edge.testing import (
    RecordingPublisher,
    ReplayCamera,
    ScratchOutbox,
    ScriptedInspector,
    flat_frame,
    sample_verdict,
)
from edge.trigger import EveryFrame
from tests.edge.dashboard.serving import PATIENCE_S, RIG, SESSION, Served, serving
from tests.provenance import PROVENANCE

TOKEN = "a token that nobody guesses"
JPEG = b"\xff\xd8 a picture \xff\xd9"

_REFUSED_ALREADY = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)
"""It was told no, and the connection closed, before all was said."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as served:
        yield served


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with serving(tmp_path, token_file=tmp_path / "token") as served:
        yield served


def keep(served: Served, seq: int, regions: int = 0) -> str:
    """A verdict in the outbox, as the daemon keeps it; told to the hub, too."""
    verdict = sample_verdict(seq, regions)
    served.outbox.commit(verdict)
    served.hub.on_verdict(verdict)
    return verdict.result_id


def a_picture(kind: PictureKind = PictureKind.IMAGE, data: bytes = JPEG) -> Picture:
    return Picture(kind, data, "image/jpeg", 320, 240)


class TestWhatThereIs:
    def test_the_page_and_each_of_its_files(self, served: Served) -> None:
        status, body, headers = served.ask("/")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b'<h2 id="verdict-word">' in body
        assert b'action="/logout" method="post" hidden' in body  # there is nothing to log out of
        names = {path.name for path in ASSETS.iterdir() if path.suffix != ".html"}
        assert {"dashboard.css", "main.js", "icon.svg"} <= names
        for name in names:
            status, body, headers = served.ask(f"/assets/{name}")
            assert (status, body) == (200, (ASSETS / name).read_bytes())
            assert served.ask(f"/assets/{name}", if_none_match=headers["etag"])[0] == 304

    def test_each_answer_says_what_may_be_done_with_it(self, served: Served) -> None:
        for path in ("/", "/assets/main.js", "/nothing", "/blob/none/rgb"):
            headers = served.ask(path)[2]
            assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"
            assert headers["cache-control"] in {"no-store", "no-cache"}
            assert "python" not in headers.get("server", "").lower()

    @pytest.mark.parametrize(
        "path",
        [
            "/assets/../config.py",
            "/assets/%2e%2e/config.py",
            "/assets/..%2fconfig.py",
            "/assets/",
            "/assets/index.html",
            "/../../etc/passwd",
            "//etc/passwd",
            "/blob/../rgb",
            "/blob/a%2f..%2fb/rgb",
            "/blob/x/outbox.db",
            "/blob/x/rgb/",
            "/events/",
            "*",
        ],
    )
    def test_there_are_no_other_addresses(self, served: Served, path: str) -> None:
        status, body, _ = served.ask(path)
        assert (status, body) == (404, b"404 Not Found\n")

    @pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
    def test_no_other_methods(self, served: Served, method: str) -> None:
        for path in ("/", "/command", "/events", "/assets/main.js"):
            assert served.ask(path, method, origin=served.origin)[0] == 405


class TestEvents:
    def test_a_reader_is_told_what_is_true_now_and_then_what_happens(self, served: Served) -> None:
        first = keep(served, 0)
        with served.events() as events:
            heard = [next(events) for _ in range(4)]
            assert [kind for kind, _, _ in heard] == ["hello", "past", "verdict", "counts"]
            assert heard[0][2]["rig"]["cell"] == "cell-2"
            assert [one["result_id"] for one in heard[1][2]["verdicts"]] == [first]
            assert heard[2][1] == "7-0"
            assert heard[2][2]["result_id"] == first
            assert heard[3][2]["outcomes"]["pass"] == 1
            second = keep(served, 1, regions=1)
            kind, number, verdict = next(one for one in events if one[0] == "verdict")
            assert (kind, number, verdict["result_id"]) == ("verdict", "7-1", second)
            counts = next(one for one in events if one[0] == "counts")[2]
            assert counts["outcomes"] == {**counts["outcomes"], "pass": 1, "fail": 1}

    def test_the_last_rejects_are_told_with_their_regions_and_what_is_kept_of_them(
        self, served: Served
    ) -> None:
        keep(served, 0)
        rejected = sample_verdict(1, regions=2)
        served.outbox.commit(rejected)
        served.outbox.add_picture(picture_info(a_picture(), rejected), JPEG)
        with served.events() as events:
            past = next(one for one in events if one[0] == "past")[2]
        (reject,) = past["rejects"]
        assert reject["result_id"] == rejected.result_id
        assert [region["bbox_px"] for region in reject["regions"]] == [[1, 2, 3, 4]] * 2
        assert reject["pictures"] == ["image/rgb"]

    @pytest.mark.parametrize("how", ["header", "query"])
    def test_a_reader_that_comes_back_gets_what_it_missed(self, served: Served, how: str) -> None:
        ids = [keep(served, seq) for seq in range(4)]
        headers, path = (
            ({"last_event_id": "7-1"}, "/events") if how == "header" else ({}, "/events?after=7-1")
        )
        with served.events(path, **headers) as events:
            heard = [next(events) for _ in range(3)]
        assert [kind for kind, _, _ in heard] == ["hello", "verdict", "verdict"]
        assert [data["result_id"] for _, _, data in heard[1:]] == ids[2:]

    @pytest.mark.parametrize(
        "last", ["7-99", "nonsense", "-1--1", "9" * 40 + "-1", "7-1; DROP TABLE verdict"]
    )
    def test_a_number_that_nobody_gave_gets_all(self, served: Served, last: str) -> None:
        keep(served, 0)
        with served.events(last_event_id=last) as events:
            assert [next(events)[0] for _ in range(2)] == ["hello", "past"]

    def test_a_beat_says_that_the_connection_stands(self, served: Served) -> None:
        with served.events() as events:
            assert next(one for one in events if one[0] == "beat")[2]["now"]

    def test_what_an_earlier_start_found_is_counted(self, tmp_path: Path) -> None:
        with serving(tmp_path) as served:
            keep(served, 0)
            keep(served, 1, regions=1)
        with serving(tmp_path) as served, served.events() as events:
            counts = next(one for one in events if one[0] == "counts")[2]
            assert (counts["outcomes"]["pass"], counts["outcomes"]["fail"]) == (1, 1)
            assert counts["shift"] is False

    def test_no_more_readers_than_it_can_serve(self, served: Served) -> None:
        held = [served.connect() for _ in range(32)]
        try:
            for connection in held:
                connection.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert connection.recv(64).startswith(b"HTTP/1.1 200")
            status, body, headers = served.ask("/events")
            assert (status, headers["retry-after"]) == (503, "5")
            assert b"32 pages" in body
        finally:
            for connection in held:
                connection.close()


class TestPictures:
    def test_of_the_last_parts_from_memory_and_of_others_from_the_outbox(self, served: Served) -> None:
        live, old = sample_verdict(0), sample_verdict(1)
        served.hub.on_picture(a_picture(data=b"live"), picture_info(a_picture(data=b"live"), live))
        served.outbox.commit(old)
        raw = Picture(PictureKind.MAP, b"\x00\x3c", "float16-le", 1, 1)
        served.outbox.add_picture(picture_info(a_picture(), old), JPEG)
        served.outbox.add_picture(picture_info(raw, old), raw.data)
        status, body, headers = served.ask(f"/blob/{live.result_id}/rgb")
        assert (status, body, headers["content-type"]) == (200, b"live", "image/jpeg")
        assert headers["cache-control"] == "private, max-age=86400, immutable"
        assert served.ask(f"/blob/{old.result_id}/rgb")[:2] == (200, JPEG)
        status, body, headers = served.ask(f"/blob/{old.result_id}/map")
        assert (status, body, headers["content-type"]) == (200, raw.data, "application/octet-stream")
        assert served.ask(f"/blob/{old.result_id}/heatmap")[0] == 404
        assert served.ask("/blob/nobody/rgb")[0] == 404

    def test_memory_holds_a_few_and_no_more(self) -> None:
        hub = Hub(ShiftCounter(()))
        infos: list[PictureInfo] = []
        for seq in range(40):
            picture = a_picture(data=bytes(1_000_000))
            infos.append(picture_info(picture, sample_verdict(seq)))
            hub.on_picture(picture, infos[-1])
        kept = [hub.picture(info.result_id, PictureKind.IMAGE) is not None for info in infos]
        assert kept == [False] * 32 + [True] * 8


class TestReaders:
    def test_one_that_falls_behind_is_told_so(self) -> None:
        hub = Hub(ShiftCounter(()))
        number = hub.now().next_number
        for seq in range(EVENTS_KEPT):
            hub.on_verdict(sample_verdict(seq))
        behind = hub.after(number)
        assert behind is not None
        assert len(behind) == EVENTS_KEPT
        hub.on_verdict(sample_verdict(EVENTS_KEPT))
        assert hub.after(number) is None
        assert hub.after(number + EVENTS_KEPT) is not None


class TestCommands:
    def send(self, served: Served, order: object, **headers: str) -> tuple[int, bytes]:
        body = order if isinstance(order, bytes) else json.dumps(order).encode()
        return served.ask("/command", "POST", body=body, **{"origin": served.origin, **headers})[:2]

    def test_the_rigs_answer_is_the_answer(self, served: Served) -> None:
        order = {"command": "threshold", "request_id": "r1", "threshold": 1.5, "expected_version": 3}
        status, body = self.send(served, order)
        answer = json.loads(body)
        assert (status, answer["status"], answer["reason"]) == (200, "refused", "unknown_command")
        assert (answer["request_id"], answer["issued_by"]) == ("r1", "dashboard")
        said = {"request_id": "r1", "threshold": 1.5, "expected_version": 3, "issued_by": "dashboard"}
        assert served.asked == [("threshold", said)]

    def test_nobody_speaks_in_anothers_name(self, served: Served) -> None:
        self.send(served, {"command": "reload", "issued_by": "hmi-3"})
        assert served.asked[0][1]["issued_by"] == "dashboard"

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b"1", b'{"command": 3}', b"[" * 10_000, b"\xff", b"{}"]
    )
    def test_what_is_no_command_is_refused(self, served: Served, body: bytes) -> None:
        assert self.send(served, body)[0] == 400
        assert served.asked == []

    @pytest.mark.parametrize(
        "origin",
        ["http://evil.example", "null", "", "https://127.0.0.1", "http://127.0.0.1:1", "http://localhost"],
    )
    def test_another_page_can_not_command(self, served: Served, origin: str) -> None:
        assert self.send(served, {"command": "reload"}, origin=origin)[0] == 403
        assert served.ask("/command", "POST", body=b'{"command": "reload"}')[0] == 403  # without any
        assert served.asked == []


class TestNames:
    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:8787",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "192.0.2.1",
            "[::",
            "",
        ],
    )
    def test_a_page_of_the_web_can_not_read_it_under_its_own_name(self, served: Served, host: str) -> None:
        for path in ("/", "/events", "/assets/main.js"):
            assert served.ask(path, host=host)[0] == 421
        assert served.ask("/command", "POST", body=b"{}", host=host, origin=f"http://{host}")[0] == 421

    def test_names_of_this_machine(self, served: Served) -> None:
        for host in ("localhost:9000", "127.0.0.1", "[::1]:8787"):  # the first is through ssh -L
            assert served.ask("/", host=host)[0] == 200

    def test_a_proxy_is_known_by_the_origin_that_it_shows(self, tmp_path: Path) -> None:
        with serving(tmp_path, origins=["https://cell-2.example.com"]) as served:
            order = b'{"command": "reload"}'
            proxied = {"host": "cell-2.example.com", "origin": "https://cell-2.example.com"}
            assert served.ask("/command", "POST", body=order, **proxied)[0] == 200
            assert (
                served.ask("/command", "POST", body=order, **{**proxied, "origin": "https://evil"})[0] == 403
            )


class TestToken:
    def log_in(self, guarded: Served, token: str, **headers: str) -> tuple[int, dict[str, str]]:
        body = f"token={token.replace(' ', '+')}".encode()
        status, _, said = guarded.ask("/login", "POST", body=body, **{"origin": guarded.origin, **headers})
        return status, said

    def test_nothing_of_the_rig_without_it(self, guarded: Served) -> None:
        keep(guarded, 0)
        status, body, _ = guarded.ask("/")
        assert status == 401
        assert b'name="token"' in body
        assert b"verdict" not in body
        assert guarded.ask("/events")[0] == guarded.ask("/blob/x/rgb")[0] == 401
        assert guarded.ask("/command", "POST", body=b"{}", origin=guarded.origin)[0] == 401
        assert guarded.ask("/assets/dashboard.css")[0] == 200  # the form looks like the page

    def test_with_it_a_browser_gets_a_cookie_that_no_script_can_read(self, guarded: Served) -> None:
        status, headers = self.log_in(guarded, TOKEN)
        assert (status, headers["location"]) == (303, "/")
        for flag in ("HttpOnly", "SameSite=Strict", "Path=/"):
            assert flag in headers["set-cookie"]
        assert TOKEN not in headers["set-cookie"]
        cookie = headers["set-cookie"].partition(";")[0]
        status, body, _ = guarded.ask("/", cookie=cookie)
        assert status == 200
        assert b'action="/logout" method="post">' in body
        status, _, headers = guarded.ask("/logout", "POST", cookie=cookie, origin=guarded.origin)
        assert (status, "Max-Age=0" in headers["set-cookie"]) == (303, True)

    def test_a_cookie_outlives_the_daemon_but_not_its_token(self, tmp_path: Path) -> None:
        token = tmp_path / "token"
        token.write_text(TOKEN)
        with serving(tmp_path, token_file=token) as served:
            cookie = self.log_in(served, TOKEN)[1]["set-cookie"].partition(";")[0]
        with serving(tmp_path, token_file=token) as served:
            assert served.ask("/", cookie=cookie)[0] == 200
        token.write_text("another token, as long")
        with serving(tmp_path, token_file=token) as served:
            assert served.ask("/", cookie=cookie)[0] == 401

    @pytest.mark.parametrize(
        "value", ["", "x", "7fffffff.", "7fffffff." + "0" * 64, "zz." + "0" * 64, "a=b; c"]
    )
    def test_a_cookie_that_we_did_not_make_is_none(self, guarded: Served, value: str) -> None:
        name = guarded.dashboard._access.cookie
        assert guarded.ask("/", cookie=f"{name}={value}")[0] == 401

    def test_a_program_shows_it_in_a_header(self, guarded: Served) -> None:
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert guarded.ask("/", **bearer)[0] == 200
        assert guarded.ask("/command", "POST", body=b'{"command": "reload"}', **bearer)[0] == 200
        evil = {**bearer, "origin": "http://evil.example"}
        assert guarded.ask("/command", "POST", body=b'{"command": "reload"}', **evil)[0] == 403
        assert guarded.ask("/", authorization="Bearer wrong")[0] == 401
        assert guarded.ask("/", authorization=f"Basic {TOKEN}")[0] == 401

    def test_guesses_are_few(self, guarded: Served) -> None:
        assert [self.log_in(guarded, f"wrong {i}")[0] for i in range(5)] == [403, 403, 403, 403, 429]
        assert self.log_in(guarded, TOKEN)[0] == 429
        assert guarded.ask("/", authorization=f"Bearer {TOKEN}")[0] == 429

    def test_another_page_can_not_log_a_browser_in(self, guarded: Served) -> None:
        assert self.log_in(guarded, TOKEN, origin="http://evil.example")[0] == 403


class TestStrangers:
    def say(self, served: Served, data: bytes) -> bytes:
        with served.connect() as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            except OSError as error:
                if error.errno not in _REFUSED_ALREADY:
                    raise
            heard = b""
            try:
                while piece := connection.recv(65536):
                    heard += piece
            except ConnectionResetError:  # it did not care to read all of it
                return heard
            return heard

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # without Host
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
            (b"nonsense\r\n\r\n", b"400"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"400"),  # TLS
            (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"431"),
            (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", b"431"),
            (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"x: y\r\n" * 20_000 + b"\r\n", b"431"),
            (b"POST /command HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
            (b"POST /command HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
            (
                b"POST /command HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"40",
            ),
            (
                b"POST /command HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                + b"4000\r\n"
                + bytes(0x4000)
                + b"\r\n"
                + b"4000\r\n"
                + bytes(0x4000)
                + b"\r\n0\r\n\r\n",
                b"413",
            ),
        ],
    )
    def test_what_is_too_much_or_no_http_is_refused(self, served: Served, data: bytes, status: bytes) -> None:
        heard = self.say(served, data)
        assert heard.startswith(b"HTTP/1.1 " + status) or heard == b""
        assert served.ask("/")[0] == 200

    def test_many_requests_over_one_connection(self, served: Served) -> None:
        one = b"GET /assets/icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n"
        heard = self.say(served, one * 5)
        assert heard.count(b"HTTP/1.1 200") == 5

    def test_who_says_nothing_makes_room(self, served: Served) -> None:
        held = [served.connect() for _ in range(MAX_CONNECTIONS + 20)]
        try:
            assert served.ask("/")[0] == 200
        finally:
            for connection in held:
                connection.close()


def files_may_be_many() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_thousand_readers_that_read_nothing_neither_slow_nor_fill_the_inspection(served: Served) -> None:
    files_may_be_many()
    camera, publisher = (
        ReplayCamera([flat_frame(seq) for seq in range(200)], restamp=True),
        RecordingPublisher(),
    )
    daemon = Daemon(
        source=camera,
        model=Model(
            inspector=ScriptedInspector((0.2, 3.0)),
            trigger=EveryFrame(),
            pictures=lambda inspection: pictures_of(inspection, PicturesConfig()),
            provenance=PROVENANCE,
            close=lambda: None,
        ),
        publisher=publisher,
        outbox=ScratchOutbox(),
        settings=DaemonSettings(max_frame_age_s=1e6, hang_timeout_s=1e6, stop_timeout_s=1e6),
        onlooker=Onlookers((served.hub,)),
        synced=lambda: None,
    )
    large = picture_info(a_picture(data=bytes(4_000_000)), sample_verdict(0))
    served.hub.on_picture(a_picture(data=bytes(4_000_000)), large)
    asked = [b"/events", f"/blob/{large.result_id}/rgb".encode(), b"/"]
    before, threads = resident_bytes(), threading.active_count()
    held: list[socket.socket] = []
    try:
        for i in range(1000):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(PATIENCE_S)
            connection.connect(served.address)
            held.append(connection)
            try:
                connection.sendall(b"GET " + asked[i % 3] + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            except ConnectionError:
                continue  # it was cut for another one
        summary = daemon.run()
        assert summary.verdicts == 200
        assert threading.active_count() <= threads + 1  # the one that reads the outbox
        assert resident_bytes() - before < 100e6
        status, body, _ = served.ask("/")
        assert (status, b"verdict-word" in body) == (200, True)
    finally:
        for connection in held:
            connection.close()
    end_s = time.monotonic() + PATIENCE_S
    while served.ask("/assets/icon.svg")[0] != 200 and time.monotonic() < end_s:
        time.sleep(0.05)
    with served.events() as events:
        assert next(events)[0] == "hello"


def test_a_taken_port_is_no_reason_not_to_inspect(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "other"
    with Outbox(other, OutboxConfig()):
        second = Dashboard(DashboardConfig(port=served.address[1]), RIG, SESSION, other, health_s=5.0)
        with second:
            end_s = time.monotonic() + PATIENCE_S
            while "it is taken" not in caplog.text and time.monotonic() < end_s:
                time.sleep(0.02)
            assert second.url is None
            second.hub.on_verdict(sample_verdict(0))
    assert "parts are inspected all the same" in caplog.text


def test_counts_of_a_day_and_no_longer() -> None:
    counter, now = ShiftCounter(()), utc_now()
    for hours in range(60):
        counter.fill([(int((now - timedelta(hours=hours)).timestamp() // 60), "pass", 1)])
    assert counter.counts(now).outcomes["pass"] == 9
