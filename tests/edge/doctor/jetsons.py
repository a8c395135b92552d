"""Machines that are not here, as real trees of files and as programs that answer from a script.

The texts are those that real boards gave, as published: nv_tegra_release of an Orin Nano (R36.4.7) and of a
Thor (R38.2.0, jetson_stats issue 711), nvpmodel -q (jetson_stats, jtop/core/nvpmodel.py; jetpack-nixos pull
request 460), device tree (jetson_stats issue 711), thermal zones with a sensor that is off at -256 °C and the
cooling devices cpu-throttle-alert and pwm-fan (Jetson Linux Developer Guide, "Platform Power and
Performance"), oc*_event_cnt (NVIDIA's soctherm driver), groups of the nodes (snapd's interface
nvidia-tegra-drivers-support), Debian's package versions (libnvinfer10 10.3.0.30-1+cuda12.5).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from edge.doctor.machine import Answer, DiskSpace, Machine

GIB = 1 << 30
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)

VIDEO, RENDER = os.getgid(), 999_993
"""The files of a tree belong to the group that runs the tests: on these machines it is called `video`."""

SERVICE_UID = 999_001

PACKAGES = (
    {"name": "cryptography", "version": "46.0.3"},
    {"name": "numpy", "version": "2.2.6"},
    {"name": "opencv-python-headless", "version": "4.12.0.88"},
    {"name": "scipy", "version": "1.15.3"},
    {"name": "onnxruntime", "version": "1.23.2", "providers": ["CPUExecutionProvider"]},
    {"name": "paho-mqtt", "version": "2.1.0"},
    {"name": "pydantic", "version": "2.12.4"},
    {"name": "pyyaml", "version": "6.0.3"},
    {"name": "rosbags", "version": "0.11.0"},
)

D405 = {
    "name": "Intel RealSense D405",
    "serial": "130322270001",
    "firmware": "5.16.0.1",
    "recommended_firmware": "5.16.0.1",
    "usb": "3.2",
}


@dataclass
class Programs:
    """Answers by command: the first whose words are all in it, in their order; else it is not installed."""

    answers: dict[tuple[str, ...], Answer] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def __call__(self, command: Sequence[str], timeout_s: float) -> Answer:
        assert timeout_s > 0
        self.asked.append(tuple(command))
        for words, answer in self.answers.items():
            if [part for part in command if part in words] == list(words):
                return answer
        return Answer(None, problem="it is not installed")

    def probe(self, what: str, *objects: Mapping[str, object], code: int = 0, err: str = "") -> None:
        out = "".join(json.dumps(each) + "\n" for each in objects)
        self.answers[("edge.doctor.probe", what)] = Answer(code, out, err)


def says(text: str, code: int = 0) -> Answer:
    return Answer(code, text)


def put(root: Path, files: Mapping[str, str | bytes | int]) -> None:
    """Write files; a number and a text that does not end a line get one, as the kernel writes them."""
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(f"{content}".rstrip("\n") + "\n", encoding="utf-8")


def nodes(root: Path, modes: Mapping[str, int]) -> None:
    for name, mode in modes.items():
        put(root, {name: ""})
        (root / name.lstrip("/")).chmod(mode)


def usb_camera(root: Path, speed_mbps: int, *, mode: int = 0o666) -> None:
    put(
        root,
        {
            "/sys/bus/usb/devices/2-1/idVendor": "8086",
            "/sys/bus/usb/devices/2-1/idProduct": "0b5b",
            "/sys/bus/usb/devices/2-1/product": "Intel(R) RealSense(TM) Depth Camera 405 ",
            "/sys/bus/usb/devices/2-1/speed": speed_mbps,
            "/sys/bus/usb/devices/2-1/busnum": 2,
            "/sys/bus/usb/devices/2-1/devnum": 3,
        },
    )
    nodes(root, {"/dev/bus/usb/002/003": mode})


def _thermal(root: Path, zones: Mapping[str, int], cooling: Mapping[str, tuple[int, int]]) -> None:
    for number, (kind, temperature) in enumerate(zones.items()):
        zone = f"/sys/class/thermal/thermal_zone{number}"
        put(root, {f"{zone}/type": kind, f"{zone}/temp": temperature})
        put(root, {f"{zone}/trip_point_0_type": "passive", f"{zone}/trip_point_0_temp": 99_000})
        put(root, {f"{zone}/trip_point_1_type": "critical", f"{zone}/trip_point_1_temp": 104_500})
    for number, (kind, (state, most)) in enumerate(cooling.items()):
        device = f"/sys/class/thermal/cooling_device{number}"
        put(root, {f"{device}/type": kind, f"{device}/cur_state": state, f"{device}/max_state": most})


def _common(root: Path) -> Programs:
    put(
        root,
        {
            "/proc/sys/kernel/hostname": "cell-2",
            "/proc/meminfo": "MemTotal:  7802468 kB\nMemAvailable:  5240812 kB\nSwapTotal: 3901232 kB\n",
            "/proc/mounts": "/dev/nvme0n1p1 / ext4 rw,relatime 0 0\ntmpfs /run tmpfs rw,nosuid 0 0\n",
            "/sys/devices/system/clocksource/clocksource0/current_clocksource": "arch_sys_counter",
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil",
            "/etc/passwd": f"root:x:0:0::/root:/bin/bash\nedge:x:{SERVICE_UID}:{SERVICE_UID}::/:/bin/false\n",
            "/etc/group": f"root:x:0:\nvideo:x:{VIDEO}:edge\nrender:x:{RENDER}:edge\nplugdev:x:46:edge\n"
            f"gpio:x:999994:edge\nedge:x:{SERVICE_UID}:\n",
            "/etc/udev/rules.d/99-realsense-libusb.rules": 'SUBSYSTEMS=="usb", ATTRS{idVendor}=="8086", '
            'ATTRS{idProduct}=="0b5b", MODE:="0666", GROUP:="plugdev"\n',
        },
    )
    (root / "var/lib/edge-inspect").mkdir(parents=True)
    (root / "var/lib/edge-inspect").chmod(0o777)
    usb_camera(root, 5000)
    _thermal(
        root,
        {"cpu-thermal": 51_700, "gpu-thermal": 48_500, "cv0-thermal": -256_000, "tj-thermal": 52_100},
        {"pwm-fan": (3, 4), "cpu-throttle-alert": (0, 2), "gpu-throttle-alert": (0, 2)},
    )
    put(root, {f"/sys/class/hwmon/hwmon3/oc{n}_event_cnt": 0 for n in (1, 2, 3)})
    programs = Programs()
    groups = f"{SERVICE_UID}(edge),{VIDEO}(video),{RENDER}(render),46(plugdev),999994(gpio)"
    programs.answers = {
        ("id",): says(f"uid={SERVICE_UID}(edge) gid={SERVICE_UID}(edge) groups={groups}\n"),
        ("timedatectl",): says("Timezone=Europe/Berlin\nNTP=yes\nNTPSynchronized=yes\n"),
        ("systemctl",): says(
            "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nNRestarts=0\nUser=edge\n"
            "UnitFileState=enabled\n"
        ),
    }
    programs.probe("packages", *PACKAGES)
    programs.probe("librealsense", {"version": "2.59.1", "cameras": [D405]})
    return programs


def _machine(root: Path, programs: Programs, python: tuple[int, int]) -> Machine:
    return Machine(
        root=root,
        run=programs,
        now=lambda: NOON,
        clock_synced=lambda: True,
        disk_space=lambda path: DiskSpace(256 * GIB, 100 * GIB, 1_000_000, False),
        architecture="aarch64",
        python=python,
        environment={"STATE_DIRECTORY": "/var/lib/edge-inspect"},
    )


def jetpack6(root: Path) -> tuple[Machine, Programs]:
    """A healthy Orin Nano."""
    programs = _common(root)
    put(
        root,
        {
            "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: "
            "aarch64, DATE: Thu Sep 18 22:54:44 UTC 2025\n# KERNEL_VARIANT: oot\n"
            "TARGET_USERSPACE_LIB_DIR=nvidia\n",
            "/proc/device-tree/model": b"NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
            "/proc/device-tree/compatible": b"nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0"
            b"nvidia,tegra234\0",
            "/proc/sys/kernel/osrelease": "5.15.148-tegra",
            "/etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
            "/sys/devices/system/cpu/online": "0-5",
            "/sys/devices/system/cpu/present": "0-5",
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": 1_728_000,
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": 1_728_000,
            "/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n"
            "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< PM_CONFIG DEFAULT=1 >\n",
            "/usr/local/cuda/version.json": json.dumps({"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}),
        },
    )
    nodes(
        root,
        {
            "/dev/nvmap": 0o440,
            "/dev/nvgpu/igpu0/ctrl": 0o660,
            "/dev/nvgpu/igpu0/prof": 0o600,  # the group `debug`'s, and of no use to CUDA
            "/dev/host1x-fence": 0o660,
            "/dev/dri/renderD128": 0o660,
            "/dev/video0": 0o660,
        },
    )
    programs.answers[("nvpmodel", "-q")] = says("NV Power Mode: MAXN_SUPER\n2\n")
    programs.answers[("dpkg-query",)] = says(
        "libnvinfer10 10.3.0.30-1+cuda12.5 installed\npython3-libnvinfer 10.3.0.30-1+cuda12.5 installed\n", 1
    )
    programs.probe("tensorrt", {"version": "10.3.0"})
    gpu = {"name": "Orin", "sm": "8.7", "memory_bytes": 7_989_727_232}
    programs.probe("cuda", {"pycuda": "2025.1.2", "driver": "12.6", "gpus": [gpu]})
    return _machine(root, programs, (3, 10)), programs


def jetpack7(root: Path) -> tuple[Machine, Programs]:
    """A healthy AGX Thor."""
    programs = _common(root)
    put(
        root,
        {
            "/etc/nv_tegra_release": "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: "
            "aarch64, DATE: Fri Aug 22 00:55:42 UTC 2025\n# KERNEL_VARIANT: oot\n",
            "/proc/device-tree/model": b"NVIDIA Jetson AGX Thor Developer Kit\0",
            "/proc/device-tree/compatible": b"nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0"
            b"nvidia,tegra264\0",
            "/proc/sys/kernel/osrelease": "6.8.12-tegra",
            "/etc/os-release": 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\n',
            "/sys/devices/system/cpu/online": "0-13",
            "/sys/devices/system/cpu/present": "0-13",
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": 648_000,
            "/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": 2_601_000,
            "/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n",
            "/usr/local/cuda/version.json": json.dumps({"cuda": {"version": "13.0.0"}}),
        },
    )
    nodes(
        root,
        {
            "/dev/nvidia0": 0o666,
            "/dev/nvidiactl": 0o666,
            "/dev/nvidia-uvm": 0o666,
            "/dev/nvmap": 0o660,
            "/dev/dri/renderD128": 0o660,
            "/dev/video0": 0o660,
        },
    )
    programs.answers[("nvpmodel", "-q")] = says("NV Power Mode: 120W\n1\n")
    programs.answers[("dpkg-query",)] = says("libnvinfer10 10.13.3.9-1+cuda13.0 installed\n")
    programs.probe("tensorrt", {"version": "10.13.3.9"})
    gpu = {"name": "NVIDIA Thor", "sm": "11.0", "memory_bytes": 131_880_000_000}
    programs.probe("cuda", {"pycuda": "2025.1.2", "driver": "13.0", "gpus": [gpu]})
    return _machine(root, programs, (3, 12)), programs


def broken(root: Path) -> tuple[Machine, Programs]:
    """An Orin Nano on which about everything is wrong that people write to forums about."""
    machine, programs = jetpack6(root)
    groups = f"root:x:0:\nvideo:x:{VIDEO}:\nrender:x:{RENDER}:\nplugdev:x:46:\n"
    put(root, {"/etc/group": groups})
    programs.answers[("id",)] = says(
        f"uid={SERVICE_UID}(edge) gid={SERVICE_UID}(edge) groups={SERVICE_UID}(edge)\n"
    )
    (root / "etc/udev/rules.d/99-realsense-libusb.rules").unlink()
    nodes(root, {"/dev/bus/usb/002/003": 0o664})
    put(root, {"/sys/bus/usb/devices/2-1/speed": 480})
    programs.probe("librealsense", {"version": "2.59.1", "cameras": []})
    programs.probe("tensorrt", code=1, err="ModuleNotFoundError: No module named 'tensorrt'\n")
    no_device = "pycuda._driver.RuntimeError: cuInit failed: no CUDA-capable device is detected\n"
    programs.probe("cuda", code=1, err=no_device)
    programs.answers[("timedatectl",)] = says("NTP=no\nNTPSynchronized=no\n")
    programs.answers[("nvpmodel", "-q")] = says("NV Power Mode: 15W\n0\n")
    programs.answers[("systemctl",)] = says(
        "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nNRestarts=5\nUser=edge\n"
        "UnitFileState=disabled\n"
    )
    put(root, {"/sys/class/thermal/thermal_zone0/temp": 101_000})
    put(root, {"/sys/class/thermal/cooling_device1/cur_state": 1})
    put(root, {"/sys/class/hwmon/hwmon3/oc3_event_cnt": 37})
    (root / "var/lib/edge-inspect").chmod(0o755)
    return (
        replace(
            machine,
            now=lambda: datetime(1970, 1, 1, 0, 2, tzinfo=timezone.utc),
            clock_synced=lambda: False,
            disk_space=lambda path: DiskSpace(32 * GIB, 1 << 20, 12, False),
        ),
        programs,
    )
