"""The broker of our own: starts, stays on 127.0.0.1, and is gone when we are."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import edge.broker
from edge.broker import BrokerKind, LocalBroker, find_mosquitto
from edge.errors import BrokerUnreachable
from edge.testing import Listener

_LISTENING = "0A"

needs_mosquitto = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)
KINDS = [pytest.param("mosquitto", marks=needs_mosquitto), "amqtt"]


def listening_addresses(port: int) -> set[str]:
    """The local addresses (hex, as the kernel writes them) on which somebody listens at `port`."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            if state == _LISTENING and int(address.split(":")[1], 16) == port:
                found.add(address.split(":")[0])
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_listens_on_the_loopback_alone_and_goes(kind: BrokerKind) -> None:
    with LocalBroker(kind) as broker:
        assert broker.kind == kind
        assert listening_addresses(broker.port) == {"0100007F"}
        pid, port = broker.pid, broker.port
        with Listener(broker.host, port, five=kind == "mosquitto") as listener:
            assert listener.heard() == []
    assert not is_alive(pid)
    assert listening_addresses(port) == set()
    broker.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_goes_with_a_parent_that_is_killed(kind: BrokerKind) -> None:
    script = (
        "import time\nfrom edge.broker import LocalBroker\n"
        f"broker = LocalBroker({kind!r})\nbroker.start()\n"
        "import sys\nsys.stdout.write(f'{broker.pid}\\n')\nsys.stdout.flush()\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.send_signal(signal.SIGKILL)
    wait_until_gone(pid)
    assert not is_alive(pid)


@needs_mosquitto
def test_a_broker_that_does_not_answer_is_killed() -> None:
    with LocalBroker("mosquitto") as broker:
        pid = broker.pid
        os.kill(pid, signal.SIGSTOP)
    assert not is_alive(pid)


@pytest.mark.parametrize("kind", KINDS)
def test_a_taken_port_is_told(kind: BrokerKind) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(BrokerUnreachable, match=f"did not start on 127.0.0.1:{port}; it said: .*"):
            LocalBroker(kind, port=port, start_timeout_s=3).start()


@needs_mosquitto
def test_a_port_that_was_taken_in_between_is_left_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ports = [taken.getsockname()[1], edge.broker.free_port()]
        monkeypatch.setattr(edge.broker, "free_port", lambda: ports.pop(0))
        with LocalBroker("mosquitto") as broker:
            assert broker.port != taken.getsockname()[1]
        assert ports == []


@needs_mosquitto
def test_only_who_knows_the_password_gets_in() -> None:
    with LocalBroker("mosquitto", username="rig", password="s3cret: ü") as broker:
        with Listener(broker.host, broker.port, username="rig", password="s3cret: ü"):
            pass
        for wrong in (None, "wrong"):
            with (
                pytest.raises(BrokerUnreachable, match="no subscription"),
                Listener(
                    broker.host, broker.port, username="rig" if wrong else None, password=wrong, timeout_s=1
                ),
            ):
                pass


@pytest.mark.parametrize("options", [{"username": "a", "password": "b"}, {"extra": ("max_packet_size 1",)}])
def test_what_amqtt_can_not_do_is_told(options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.broker, "find_mosquitto", lambda: None)
    with pytest.raises(BrokerUnreachable, match="need mosquitto"):
        LocalBroker("auto", **options)  # type: ignore[arg-type]  # a dict of either option
    with pytest.raises(BrokerUnreachable, match="not installed"):
        LocalBroker("mosquitto")
    assert LocalBroker("auto").kind == "amqtt"
