"""What systemd itself says of our files, without booting."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FILES = Path(__file__).parents[2] / "systemd"
UNIT = FILES / "edge-daemon.service"
MOST_EXPOSED = 2.0

pytestmark = pytest.mark.systemd


@pytest.fixture(scope="module", autouse=True)
def _systemd() -> None:
    if shutil.which("systemd-analyze") is None:
        reason = "no systemd-analyze; on Debian and Ubuntu: apt-get install systemd"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def _settings() -> dict[str, list[str]]:
    """Each key of the unit with all its values."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if match := re.fullmatch(r"([A-Za-z]+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    # Its program must be there to be verified; where it is, only install.sh knows.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/edge-inspect/venv/bin/edge-daemon", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_is_exposed_to_little() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", UNIT],
        capture_output=True,
        text=True,
        check=True,
    )
    level = re.search(r"Overall exposure level for edge-daemon\.service: ([\d.]+)", done.stdout)
    assert level is not None, done.stdout
    assert float(level[1]) <= MOST_EXPOSED, done.stdout


def test_it_may_use_the_gpu_and_ask_the_clock() -> None:
    settings = _settings()
    assert "MemoryDenyWriteExecute" not in settings  # CUDA and ONNX Runtime compile at run time
    assert "ProtectClock" not in settings
    assert "PrivateDevices" not in settings
    assert not [
        value for value in settings["SystemCallFilter"] if value.startswith("~") and "@resources" in value
    ]


def test_it_waits_longer_for_a_stop_than_the_daemon_does_for_the_broker() -> None:
    from edge.config import DaemonConfig

    assert float(_settings()["TimeoutStopSec"][0]) > DaemonConfig().flush_timeout_s


def test_it_waits_longer_for_a_start_than_the_trial_of_the_stages_may_take() -> None:
    from edge import trial

    assert float(_settings()["TimeoutStartSec"][0]) > 2 * trial._TIMEOUT_S


def test_every_device_of_a_class_is_read_and_written_and_none_is_made() -> None:
    settings = _settings()
    assert settings["DevicePolicy"] == ["closed"]
    assert all(re.fullmatch(r"(char-|/dev/)\S+ rw", value) for value in settings["DeviceAllow"])


def test_the_account_and_its_groups_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    command = ["systemd-sysusers", f"--root={tmp_path}", str(FILES / "edge-inspect.sysusers.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 and os.geteuid() != 0:
        pytest.skip(f"systemd-sysusers needs root here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    groups = dict(line.split(":", 1) for line in (tmp_path / "etc/group").read_text().splitlines())
    for name in ("plugdev", "video", "render", "gpio"):
        assert groups[name].endswith(":edge-inspect")
    assert "edge-inspect:" in (tmp_path / "etc/passwd").read_text()


def test_tmpfiles_are_understood(tmp_path: Path) -> None:
    # `--root` looks accounts up below it; only what can't be parsed is an error here.
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nedge-inspect:x:990:\n")
    if os.geteuid() != 0:
        pytest.skip("systemd-tmpfiles changes owners, which needs root")
    command = ["systemd-tmpfiles", "--create", f"--root={tmp_path}"]
    done = subprocess.run(
        [*command, str(FILES / "edge-inspect.tmpfiles.conf")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    folder = (tmp_path / "etc/edge-inspect").stat()
    assert (folder.st_mode & 0o777, folder.st_gid) == (0o750, 990)


def test_the_udev_rule_is_for_the_camera_and_for_its_group_alone() -> None:
    """Read, not run: udev needs a kernel's events, and these a camera."""
    text = (FILES / "70-edge-inspect.rules").read_text()
    rules = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(
        re.fullmatch(r'[A-Z]+(\{[\w/]+\})?(==|!=|:=|=|\+=)"[^"]*"', key.strip())
        for rule in rules
        for key in rule.split(", ")
    )
    assert 'ATTRS{idVendor}=="8086"' in rules[1]
    assert "|0b5b|" in rules[1]
    assert rules[1].endswith('MODE:="0660", GROUP:="plugdev"')
    assert "0666" not in "".join(rules)
