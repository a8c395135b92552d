"""The real unit, put there by the real install.sh, in a booted Debian: start, watchdog, kill -9, stop.

Not proven here: that the device list lets the camera and a Jetson's GPU through, and the udev rule.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.image import IMAGE, must_boot, reason_against
from tests.systemd.machine import Machine
from tests.tiny_bundle import make_tiny_bundle

pytestmark = [pytest.mark.slow, pytest.mark.systemd, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).parents[2]
PASSWORD = "correct horse battery staple"
VENV = "/opt/edge-inspect/venv"
TOPICS = "acme/dresden/assembly/line-3/cell-2/inspection"

RIG = """
rig: {enterprise: acme, site: dresden, area: assembly, line: line-3, cell: cell-2}
camera: {source: simulated, product: plate, interval_s: 0.2}
bundle: /opt/edge-inspect/bundles/plate
broker: {username: cell-2, password_credential: mqtt-password}
pictures: {heatmap: false, image: false, map: false}
"""
BROKER = "listener 1883 127.0.0.1\nallow_anonymous false\npassword_file /etc/mosquitto/passwd\n"

INSTALL = f"""
echo /opt/python/lib >/etc/ld.so.conf.d/python.conf && ldconfig
install -D -m 600 /mnt/files/rig.yaml /etc/edge-inspect/rig.yaml
echo '{PASSWORD}' >/etc/edge-inspect/mqtt-password
cp /mnt/files/broker.conf /etc/mosquitto/conf.d/rig.conf
mosquitto_passwd -c -b /etc/mosquitto/passwd cell-2 '{PASSWORD}' && chown mosquitto: /etc/mosquitto/passwd
cp -r /mnt/files/plate /tmp/plate
export PIP_NO_INDEX=1
for time in first second; do
  /mnt/project/systemd/install.sh --from /mnt/files/*.whl --system-site-packages \\
    --python /opt/python/bin/python{sys.version_info.major}.{sys.version_info.minor}
done
cp -r /tmp/plate /opt/edge-inspect/bundles/plate
cp -r /mnt/files/*_daemon.py /opt/edge-inspect/
systemctl enable edge-daemon mosquitto
"""


def _skip_or_fail(reason: str) -> None:
    if must_boot():
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Machine, str]:
    """A machine on which install.sh ran twice, and what it printed."""
    reason = reason_against() or (None if IMAGE.is_dir() else "no image; run python -m tests.systemd.image")
    if not Path(sysconfig.get_path("stdlib"), "site-packages").is_dir():
        reason = "this Python keeps its packages elsewhere than in lib/pythonX.Y/site-packages"
    if reason is not None:
        _skip_or_fail(reason)
    files = tmp_path_factory.mktemp("files")
    make_tiny_bundle(files / "plate")
    (files / "rig.yaml").write_text(RIG)
    (files / "broker.conf").write_text(BROKER)
    for name in ("hanging_daemon.py", "building_daemon.py"):
        (files / name).write_bytes((Path(__file__).parent / name).read_bytes())
    _wheel(tmp_path_factory.mktemp("source"), files)
    machine = Machine(tmp_path_factory.mktemp("machine"), files)
    return machine, machine.prepare(INSTALL)


def _wheel(copy: Path, into: Path) -> None:
    """From a copy: a build leaves folders behind."""
    subprocess.run(
        ["cp", "-r", *("pyproject.toml", "README.md", "LICENSE", "edge", "train", "export"), str(copy)],
        cwd=REPOSITORY,
        check=True,
    )
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={into}", str(copy)],
        check=True,
    )


@pytest.fixture(scope="module")
def machine(prepared: tuple[Machine, str]) -> Iterator[Machine]:
    with prepared[0] as booted:
        yield booted


def _pid(machine: Machine) -> str:
    return machine.show("MainPID")


def _inside(machine: Machine, script: str) -> str:
    """What a shell prints that sees what the daemon sees, as the daemon's account."""
    as_daemon = ["setpriv", "--reuid=edge-inspect", "--regid=edge-inspect", "--init-groups"]
    pid = _pid(machine)
    return machine.run(
        "nsenter", f"--target={pid}", "--mount", *as_daemon, "/bin/sh", "-c", script, check=False
    )


def _received(machine: Machine, topic: str) -> dict[str, object]:
    """The next message of a topic that the broker has, taken with the right password."""
    client = f"mosquitto_sub -h 127.0.0.1 -u cell-2 -P '{PASSWORD}' -t {TOPICS}/{topic} -C 1 -W 20"
    given: list[str] = []

    def received() -> bool:
        told = machine.run("/bin/sh", "-c", client, check=False)
        given[:] = [line for line in told.splitlines() if line.startswith("{")]
        return bool(given)

    machine.wait(topic, received)
    message: dict[str, object] = json.loads(given[0])
    return message


def _verdict(machine: Machine) -> dict[str, object]:
    return _received(machine, "verdict")


def _ready(machine: Machine) -> None:
    machine.wait("running daemon", lambda: machine.show("ActiveState") == "active")


def _drop_in(machine: Machine, text: str) -> None:
    folder = "/etc/systemd/system/edge-daemon.service.d"
    machine.run("mkdir", "-p", folder)
    machine.run("/bin/sh", "-c", f'printf "%s" "$1" >{folder}/test.conf', "sh", text)
    machine.run("systemctl", "daemon-reload")


def test_a_second_installation_changes_nothing(prepared: tuple[Machine, str]) -> None:
    told = prepared[1].split("Next:")
    assert len(told) == 3
    assert "written: /etc/systemd/system/edge-daemon.service" in told[0]
    assert "kept: /etc/edge-inspect/rig.yaml" in told[0]
    assert "written" not in told[1]


def test_it_is_ready_after_the_boot_and_publishes_with_the_credential(machine: Machine) -> None:
    _ready(machine)
    verdict = _verdict(machine)
    assert verdict["is_simulated"] is True
    # adjtimex(2) that only reads is not among the calls that the filter forbids
    assert verdict["clock_synced"] is not None


def test_it_is_confined(machine: Machine) -> None:
    _ready(machine)
    status = machine.run("cat", f"/proc/{_pid(machine)}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split()[0] != "0"
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert int(fields["CapBnd"], 16) == 0
    assert int(fields["CapEff"], 16) == 0
    groups = machine.run("id", "-nG", "edge-inspect").split()
    assert set(groups) == {"edge-inspect", "plugdev", "video", "render", "gpio"}

    pid = _pid(machine)
    for path in ("/usr", "/etc/edge-inspect", "/opt/edge-inspect/bundles"):
        # As root: not the rights keep it out, but the file system.
        told = machine.run("nsenter", f"--target={pid}", "--mount", "touch", f"{path}/x", check=False)
        assert told.endswith("Read-only file system")
    assert (
        _inside(machine, "touch /var/lib/edge-inspect/x /var/cache/edge-inspect/x /run/edge-inspect/x /tmp/x")
        == ""
    )
    assert _inside(machine, "ls /root /home; rm /var/lib/edge-inspect/x").count("Permission denied") == 2


def test_the_password_is_read_where_systemd_puts_it_and_nowhere_else(machine: Machine) -> None:
    _ready(machine)
    assert _inside(machine, "cat /etc/edge-inspect/mqtt-password").endswith("Permission denied")
    assert _inside(machine, "cat /run/credentials/edge-daemon.service/mqtt-password") == PASSWORD
    assert _inside(machine, "cat /etc/edge-inspect/rig.yaml") == RIG.strip()
    assert PASSWORD not in machine.journal()


def test_after_kill_9_it_is_started_again_and_counts_on(machine: Machine) -> None:
    _ready(machine)
    before, epoch = _pid(machine), int(str(_verdict(machine)["epoch"]))
    machine.run("/bin/sh", "-c", f"kill -9 {before}")
    machine.wait("restart", lambda: machine.show("NRestarts") == "1")
    _ready(machine)
    assert _pid(machine) != before
    machine.wait("verdict of the new daemon", lambda: int(str(_verdict(machine)["epoch"])) > epoch)


def test_a_start_that_builds_engines_may_take_longer_than_its_timeout(machine: Machine) -> None:
    program = "ExecStart=\nExecStart=/opt/edge-inspect/venv/bin/python /opt/edge-inspect/building_daemon.py"
    _drop_in(machine, f"[Service]\n{program}\nTimeoutStartSec=3\n")
    machine.run("systemctl", "restart", "edge-daemon")
    assert machine.show("ActiveState") == "active"
    assert machine.show("StatusText").startswith("building the engine of teacher.onnx: ")
    assert machine.show("Result") == "success"


def test_the_watchdog_ends_a_hung_inspection_and_the_journal_says_where_it_hung(machine: Machine) -> None:
    program = "ExecStart=\nExecStart=/opt/edge-inspect/venv/bin/python /opt/edge-inspect/hanging_daemon.py"
    _drop_in(machine, f"[Service]\n{program} /etc/edge-inspect/rig.yaml\nWatchdogSec=6\n")
    machine.run("systemctl", "restart", "edge-daemon")
    restarts, before = int(machine.show("NRestarts")), _pid(machine)
    assert _inside(machine, "touch /run/edge-inspect/hang") == ""
    machine.wait("restart by the watchdog", lambda: int(machine.show("NRestarts")) > restarts)
    journal = machine.journal()
    assert "Watchdog timeout (limit 6s)" in journal
    assert f"Killing process {before} " in journal
    assert "SIGABRT" in journal
    assert "in _run_or_hang" in journal  # the stack of the thread that hung
    _ready(machine)  # the run folder is new, so nothing hangs any more
    _verdict(machine)


def test_it_stops_cleanly_within_five_seconds(machine: Machine) -> None:
    # systemd holds the watch: later than TimeoutStopSec= it would kill, and the result be "timeout".
    _drop_in(machine, "[Service]\nTimeoutStopSec=5\n")
    machine.run("systemctl", "restart", "edge-daemon")
    _verdict(machine)
    machine.run("systemctl", "stop", "edge-daemon")
    assert machine.show("ActiveState") == "inactive"
    assert machine.show("Result") == "success"
    assert machine.show("ExecMainStatus") == "0"
    assert _received(machine, "availability")["state"] == "offline"


def test_a_mistake_in_its_configuration_is_an_error_in_the_journal_and_tried_again(machine: Machine) -> None:
    _drop_in(machine, "[Service]\nRestartSec=1\n")
    machine.run("sed", "-i", "s/^bundle:/bundel:/", "/etc/edge-inspect/rig.yaml")
    machine.run("systemctl", "start", "edge-daemon", check=False)
    told = machine.run(
        "journalctl", "--no-pager", "--unit=edge-daemon", "--output=cat", "--priority=err", check=False
    )
    assert "/etc/edge-inspect/rig.yaml:4: bundel" in told
    machine.run("sed", "-i", "s/^bundel:/bundle:/", "/etc/edge-inspect/rig.yaml")
    _ready(machine)  # by itself


def test_it_is_taken_away_and_leaves_what_is_the_operators(machine: Machine) -> None:
    machine.run("/mnt/project/systemd/install.sh", "--uninstall")
    assert machine.show("LoadState") in {"not-found", "masked"}
    left = machine.run(
        "find", "/opt/edge-inspect", "/etc/edge-inspect", "/var/lib/edge-inspect", "-maxdepth", "1"
    )
    assert {"/opt/edge-inspect/bundles", "/etc/edge-inspect/rig.yaml"} <= set(left.splitlines())
    assert VENV not in left.splitlines()
    machine.run("/mnt/project/systemd/install.sh", "--uninstall", "--purge")
    gone = machine.run(
        *(
            "/bin/sh",
            "-c",
            "ls -d /etc/edge-inspect /var/lib/edge-inspect /opt/edge-inspect; id edge-inspect",
        ),
        check=False,
    )
    assert gone.count("No such file") == 3
    assert "no such user" in gone
