"""The doctor before machines that are not here: what is well, what is wrong, and how it is to be mended."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from edge.camera.config import FolderCamera, LiveCamera
from edge.camera.librealsense import import_librealsense
from edge.camera.software_device import SoftwareD405
from edge.config import BrokerConfig, RigConfig, TensorRTConfig
from edge.doctor.camera import camera
from edge.doctor.examination import examine
from edge.doctor.machine import Answer, DiskSpace, Machine
from edge.doctor.page import print_report
from edge.doctor.people import User
from edge.doctor.probe import cameras_of
from edge.doctor.report import Finding, Level, Report
from edge.frame import Intrinsics
from edge.topics import RigIdentity
from tests.edge.doctor import jetsons
from tests.edge.doctor.jetsons import GIB, Programs, put, says, usb_camera

RIG = RigConfig(
    rig=RigIdentity(enterprise="acme", site="dresden", area="assembly", line="line-3", cell="cell-2"),
    camera=LiveCamera(),
    bundle=Path("nowhere"),
    broker=BrokerConfig(port=1),  # nobody answers there
    runtime=TensorRTConfig(),
)


def levels(report: Report, subject: str | None = None) -> dict[str, Level]:
    """The worst level of each check."""
    found: dict[str, Level] = {}
    for finding in report.findings:
        if subject in (None, finding.subject):
            name = f"{finding.subject}/{finding.check}"
            order = list(Level)
            found[name] = max(found.get(name, Level.OK), finding.level, key=order.index)
    return found


def at(report: Report, level: Level) -> set[str]:
    return {name for name, found in levels(report).items() if found is level}


def looked_at(machine: Machine, rig: RigConfig | None = RIG) -> Report:
    return examine(machine, rig=rig, runtime=RIG.runtime)


def page(report: Report, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_report(report, console)
    out = console.file
    assert isinstance(out, io.StringIO)
    return out.getvalue()


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (
            jetsons.jetpack6,
            ["JetPack 6 (Jetson Linux R36.4.7)", "Orin (SM 8.7", "TensorRT 10.3.0", "MAXN_SUPER"],
        ),
        (
            jetsons.jetpack7,
            ["JetPack 7 (Jetson Linux R38.2.0)", "NVIDIA Thor (SM 11.0", "TensorRT 10.13.3.9"],
        ),
    ],
)
def test_a_healthy_jetson_has_no_error_but_what_is_not_on_it(
    make: Callable[[Path], tuple[Machine, Programs]], what: list[str], tmp_path: Path
) -> None:
    machine, programs = make(tmp_path)
    report = looked_at(machine)
    assert at(report, Level.ERROR) == {"broker/port"}
    assert at(report, Level.WARNING) == set()
    text = page(report, width=200)
    for words in [*what, "serial 130322270001", "USB 3.2", "5.0 of 7.4 GiB", "edge-daemon.service is active"]:
        assert words in text
    assert report.user == "edge"
    asked = {command[0] for command in programs.asked}
    assert {"nvpmodel", "id", "systemctl", "dpkg-query", "timedatectl"} < asked


def test_a_broken_jetson_is_told_all_of_it(tmp_path: Path) -> None:
    report = looked_at(jetsons.broken(tmp_path)[0])
    assert at(report, Level.ERROR) == {
        "access/group_render",
        "access/group_video",
        "access/gpu_nodes",
        "access/video_nodes",
        "broker/port",
        "camera/found",
        "camera/usb_access",
        "camera/usb_speed",
        "clock/date",
        "disk/files",
        "disk/space",
        "disk/writable",
        "gpu/gpu",
        "gpu/tensorrt",
        "service/unit",
    }
    assert at(report, Level.WARNING) == {
        "camera/udev_rule",
        "clock/synchronised",
        "power/supply",
        "power/temperature",
        "power/throttling",
        "service/enabled",
    }
    text = " ".join(page(report).split())
    assert "sudo usermod -aG video edge" in text
    assert "--system-site-packages" in text
    assert "480 Mbit/s" in text
    assert "1970-01-01" in text
    assert "oc3 37" in text
    assert "Not fit for work" in text


def test_each_warning_and_error_says_how_to_mend_it(tmp_path: Path) -> None:
    report = looked_at(jetsons.broken(tmp_path)[0])
    for finding in report.findings:
        if finding.level in (Level.WARNING, Level.ERROR):
            assert finding.remedy
    with pytest.raises(ValueError, match="no remedy"):
        Finding(subject="disk", check="space", level=Level.ERROR, what="It is full.")


def test_what_is_needed_for_nothing_is_no_error(tmp_path: Path) -> None:
    machine, _ = jetsons.broken(tmp_path)
    folder = RIG.model_copy(update={"camera": FolderCamera(path=Path("captures"))})
    report = examine(machine, rig=folder)
    assert not {name for name in at(report, Level.ERROR) if name.startswith(("camera", "gpu", "access"))}


@pytest.mark.parametrize("make", [jetsons.jetpack6, jetsons.broken])
def test_the_page_fits_80_columns_and_needs_no_colour(
    make: Callable[[Path], tuple[Machine, Programs]], tmp_path: Path
) -> None:
    report = looked_at(make(tmp_path)[0])
    lines = page(report).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("error ") for line in lines) == report.counts[Level.ERROR]


def test_json_comes_back_whole(tmp_path: Path) -> None:
    report = looked_at(jetsons.broken(tmp_path)[0])
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert json.loads(report.model_dump_json())["schema_version"] == 1


def test_an_empty_machine_raises_nothing(tmp_path: Path) -> None:
    machine = Machine(root=tmp_path, run=Programs(), clock_synced=lambda: None)
    report = examine(machine)
    assert levels(report)["packages/import"] is Level.ERROR
    assert levels(report)["camera/librealsense"] is Level.ERROR
    assert levels(report)["access/user"] is Level.NOTE
    assert levels(report)["service/systemd"] is Level.NOTE
    assert page(report)


_FILES = (
    "/etc/nv_tegra_release",
    "/proc/device-tree/compatible",
    "/etc/os-release",
    "/proc/meminfo",
    "/proc/mounts",
    "/etc/group",
    "/etc/nvpmodel.conf",
    "/usr/local/cuda/version.json",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq",
    "/sys/class/thermal/thermal_zone0/temp",
    "/sys/class/thermal/thermal_zone0/trip_point_1_temp",
    "/sys/class/thermal/cooling_device1/cur_state",
    "/sys/bus/usb/devices/2-1/speed",
    "/sys/bus/usb/devices/2-1/busnum",
)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(_FILES),
    content=st.binary(max_size=60) | st.text("0123456789-,.:\n ").map(str.encode),
)
def test_whatever_a_file_says_raises_nothing(
    name: str, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("machine")
    machine, _ = jetsons.jetpack6(root)
    put(root, {name: content})
    looked_at(machine)


@settings(max_examples=60, deadline=None)
@given(
    word=st.sampled_from(["id", "nvpmodel", "timedatectl", "systemctl", "dpkg-query", "edge.doctor.probe"]),
    answer=st.builds(Answer, st.none() | st.integers(-15, 127), st.text(max_size=80), st.text(max_size=80)),
)
def test_whatever_a_program_says_raises_nothing(
    word: str, answer: Answer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    machine, programs = jetsons.jetpack6(tmp_path_factory.mktemp("machine"))
    programs.answers = {(word,): answer, **programs.answers}
    looked_at(machine)


class TestBoard:
    @pytest.mark.parametrize(
        ("release", "level"),
        [
            ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref", Level.ERROR),
            ("# R39 (release), REVISION: 2.1, GCID: 1, BOARD: generic", Level.OK),
            ("# R99 (release), REVISION: 1.0, GCID: 1, BOARD: generic", Level.WARNING),
            ("", Level.WARNING),
        ],
    )
    def test_releases(self, release: str, level: Level, tmp_path: Path) -> None:
        machine, _ = jetsons.jetpack6(tmp_path)
        put(tmp_path, {"/etc/nv_tegra_release": release})
        assert levels(looked_at(machine))["platform/board"] is level

    def test_another_python_than_the_systems_finds_no_tensorrt(self, tmp_path: Path) -> None:
        machine, _ = jetsons.jetpack6(tmp_path)
        report = looked_at(replace(machine, python=(3, 12)))
        assert levels(report)["platform/python"] is Level.WARNING
        assert levels(looked_at(replace(machine, python=(3, 9))))["platform/python"] is Level.ERROR


class TestPower:
    def test_a_fan_that_turns_is_no_throttling(self, tmp_path: Path) -> None:
        report = looked_at(jetsons.jetpack6(tmp_path)[0])
        assert levels(report)["power/throttling"] is Level.OK

    def test_a_slower_mode_is_told(self, tmp_path: Path) -> None:
        machine, programs = jetsons.jetpack6(tmp_path)
        programs.answers[("nvpmodel", "-q")] = says("NV Power Mode: 15W\n0\n")
        (mode,) = (f for f in looked_at(machine).findings if f.check == "mode")
        assert mode.level is Level.NOTE
        assert mode.remedy is not None
        assert "nvpmodel -m 2" in mode.remedy

    def test_a_sensor_that_is_off_is_not_the_hottest_nor_an_error(self, tmp_path: Path) -> None:
        machine, _ = jetsons.jetpack6(tmp_path)
        (found,) = (f for f in looked_at(machine).findings if f.check == "temperature")
        assert found.details["zone"] == "tj-thermal"
        assert found.details["celsius"] == 52.1


class TestAccess:
    def test_a_group_that_the_session_does_not_have_yet(self, tmp_path: Path) -> None:
        machine, programs = jetsons.jetpack6(tmp_path)
        stored = programs.answers.pop(("id",))
        programs.answers |= {
            ("id", "edge"): stored,
            ("id",): says(f"uid={jetsons.SERVICE_UID}(edge) gid=1(edge) groups=1(edge)\n"),
        }
        assert levels(looked_at(machine))["access/session"] is Level.WARNING

    def test_a_user_that_is_not_there(self, tmp_path: Path) -> None:
        machine, programs = jetsons.jetpack6(tmp_path)
        programs.answers[("id",)] = Answer(1, "", "id: 'nobody-here': no such user\n")
        report = examine(machine, user_name="nobody-here")
        assert levels(report)["access/user"] is Level.ERROR

    def test_nodes_for_debugging_are_not_asked_for(self, tmp_path: Path) -> None:
        (found,) = (f for f in looked_at(jetsons.jetpack6(tmp_path)[0]).findings if f.check == "gpu_nodes")
        assert found.level is Level.OK
        assert "/dev/nvgpu/igpu0/prof" not in str(found.details)


class TestDisk:
    @pytest.mark.parametrize(
        ("mounts", "level"),
        [
            ("/dev/sda1 / ext4 rw 0 0\ntmpfs /var tmpfs rw 0 0\n", Level.WARNING),
            ("/dev/sda1 / ext4 rw 0 0\nnas:/x /var/lib nfs4 rw 0 0\n", Level.WARNING),
            ("/dev/sda1 / ext4 rw 0 0\n/dev/sdb1 /var/lib/edge vfat rw 0 0\n", Level.OK),
            ("/dev/sda1 / xfs rw 0 0\n", Level.OK),
        ],
    )
    def test_file_systems(self, mounts: str, level: Level, tmp_path: Path) -> None:
        machine, _ = jetsons.jetpack6(tmp_path)
        put(tmp_path, {"/proc/mounts": mounts})
        assert levels(looked_at(machine))["disk/file_system"] is level

    def test_read_only(self, tmp_path: Path) -> None:
        machine, _ = jetsons.jetpack6(tmp_path)
        read_only = replace(machine, disk_space=lambda path: DiskSpace(GIB, GIB, None, True))
        assert levels(looked_at(read_only))["disk/file_system"] is Level.ERROR

    def test_a_folder_that_is_still_to_be_made_is_looked_for_above(self, tmp_path: Path) -> None:
        machine, _ = jetsons.jetpack6(tmp_path)
        deeper = replace(machine, environment={"STATE_DIRECTORY": "/var/lib/edge-inspect/a/b"})
        (found,) = (f for f in looked_at(deeper).findings if f.check == "writable")
        assert found.level is Level.OK
        assert "/var/lib/edge-inspect/a/b is still to be made" in found.what
        assert list((tmp_path / "var/lib/edge-inspect").iterdir()) == []


class TestCamera:
    def findings(self, machine: Machine, config: LiveCamera | None = None) -> dict[str, Level]:
        user = User("edge", jetsons.SERVICE_UID, frozenset(), frozenset(), False)
        found = camera(machine, user, config or LiveCamera())
        order = list(Level)
        worst: dict[str, Level] = {}
        for each in found:
            worst[each.check] = max(worst.get(each.check, Level.OK), each.level, key=order.index)
        return worst

    def test_a_software_device_is_told_as_librealsense_tells_it(self, tmp_path: Path) -> None:
        rs = import_librealsense()
        device = SoftwareD405(Intrinsics(64, 48, 61.0, 60.0, 32.0, 24.0), serial="42").device
        device.register_info(rs.camera_info.usb_type_descriptor, "2.1")
        (seen,) = cameras_of(rs, [device])
        assert (seen.serial, seen.usb, seen.recommended_firmware) == ("42", "2.1", None)

        programs = Programs()
        programs.probe("librealsense", {"version": rs.__version__, "cameras": [seen.model_dump()]})
        machine = Machine(root=tmp_path, run=programs)  # a container: no /sys/bus/usb
        assert self.findings(machine)["usb_speed"] is Level.ERROR

    def test_another_camera_than_the_rigs(self, tmp_path: Path) -> None:
        machine, _ = jetsons.jetpack6(tmp_path)
        assert self.findings(machine, LiveCamera(serial="999"))["serial"] is Level.ERROR
        assert "serial" not in self.findings(machine, LiveCamera(serial=jetsons.D405["serial"]))

    def test_two_cameras_and_no_serial(self, tmp_path: Path) -> None:
        machine, programs = jetsons.jetpack6(tmp_path)
        two = [jetsons.D405, jetsons.D405 | {"serial": "2"}]
        programs.probe("librealsense", {"version": "2.59.1", "cameras": two})
        assert self.findings(machine)["serial"] is Level.ERROR

    def test_old_firmware(self, tmp_path: Path) -> None:
        machine, programs = jetsons.jetpack6(tmp_path)
        old = jetsons.D405 | {"firmware": "5.9.2.0", "recommended_firmware": "5.16.0.1"}
        programs.probe("librealsense", {"version": "2.59.1", "cameras": [old]})
        assert self.findings(machine)["firmware"] is Level.WARNING

    def test_a_library_that_crashes_is_told(self, tmp_path: Path) -> None:
        machine, programs = jetsons.jetpack6(tmp_path)
        programs.probe("librealsense", code=-11)
        assert self.findings(machine)["librealsense"] is Level.ERROR

    def test_a_camera_nobody_may_use(self, tmp_path: Path) -> None:
        machine, _ = jetsons.jetpack6(tmp_path)
        usb_camera(tmp_path, 5000, mode=0o600)
        assert self.findings(machine)["usb_access"] is Level.ERROR


def test_a_package_that_crashes_on_import_is_named(tmp_path: Path) -> None:
    machine, programs = jetsons.jetpack6(tmp_path)
    programs.probe("packages", *jetsons.PACKAGES[:3], code=-4)
    (found,) = (f for f in looked_at(machine).findings if f.check == "import")
    assert found.details["package"] == "scipy"
    assert "signal 4" in found.what


def test_the_users_of_the_service_count_not_who_asks(tmp_path: Path) -> None:
    machine, programs = jetsons.jetpack6(tmp_path)
    service = programs.answers.pop(("id",))
    programs.answers |= {("id", "edge"): service, ("id",): says("uid=0(root) gid=0(root) groups=0(root)\n")}
    assert looked_at(machine).user == "edge"
    assert examine(machine, unit="other.service", user_name=None).user == "edge"  # systemctl knows it as well
    programs.answers[("systemctl",)] = says("LoadState=not-found\n")
    assert looked_at(machine).user == "root"
