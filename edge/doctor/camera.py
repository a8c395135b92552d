"""The camera: librealsense, what is on the USB bus and how fast, and the udev rule that opens it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge.camera.config import CameraConfig, LiveCamera
from edge.doctor.machine import Machine
from edge.doctor.people import User, may_use, owner_of
from edge.doctor.probe import CameraSeen, LibrealsenseAnswer, probe
from edge.doctor.report import Finding, error, note, ok, warning

__all__ = ["camera"]

_RULES = (
    "/etc/udev/rules.d/*.rules",
    "/run/udev/rules.d/*.rules",
    "/usr/lib/udev/rules.d/*.rules",
    "/lib/udev/rules.d/*.rules",
)
_INTEL, _D405 = "8086", "0b5b"
_SUPER_SPEED_MBPS = 5000
_UDEV_REMEDY = (
    "Install librealsense's 99-realsense-libusb.rules into /etc/udev/rules.d, then: sudo udevadm control "
    "--reload-rules && sudo udevadm trigger, and plug the camera in again."
)
_PORT_REMEDY = (
    "Plug it into a USB 3 port (blue, or marked SS) with the short cable that it came with, no hub, and push "
    "the plug in quickly: a slow one is taken for USB 2."
)


@dataclass(frozen=True, slots=True)
class _OnBus:
    """A RealSense on the USB bus, as the kernel has it in /sys/bus/usb/devices."""

    place: str
    product: str
    speed_mbps: float | None
    node: str | None

    @property
    def slow(self) -> bool:
        return self.speed_mbps is not None and self.speed_mbps < _SUPER_SPEED_MBPS


def camera(machine: Machine, user: User | None, config: CameraConfig | None) -> Iterator[Finding]:
    """librealsense, cameras, USB and udev; `config` says whether the rig has a live camera, and which."""
    live = config if isinstance(config, LiveCamera) else None
    if config is not None and live is None:
        yield note("camera", "source", f"The rig's camera is of the kind {config.source!r}: none is needed.")
    on_bus = _on_bus(machine)
    answer = probe(machine, "librealsense", LibrealsenseAnswer)
    if isinstance(answer, str):
        yield error(
            "camera",
            "librealsense",
            f"librealsense can't be used: {answer}.",
            "Install pyrealsense2 and libusb-package into this Python (on aarch64 3.10 or 3.12).",
        )
        seen: tuple[CameraSeen, ...] = ()
    else:
        yield ok("camera", "librealsense", f"librealsense {answer.version}.", version=answer.version)
        seen = answer.cameras
        yield from _cameras(seen, on_bus, live, needed=live is not None)
    yield from _speeds(seen, on_bus, needed=live is not None)
    yield from _rights(machine, user, on_bus, needed=live is not None)


def _on_bus(machine: Machine) -> list[_OnBus]:
    found = []
    for device in machine.names("/sys/bus/usb/devices/*"):
        product = machine.text(f"{device}/product") or ""
        if machine.text(f"{device}/idVendor") != _INTEL or "RealSense" not in product:
            continue
        speed = machine.text(f"{device}/speed")
        bus, number = machine.number(f"{device}/busnum"), machine.number(f"{device}/devnum")
        known = bus is not None and number is not None
        found.append(
            _OnBus(
                place=device.rpartition("/")[2],
                product=product,
                speed_mbps=float(speed) if speed and re.fullmatch(r"\d+(\.\d+)?", speed) else None,
                node=f"/dev/bus/usb/{bus:03d}/{number:03d}" if known else None,
            )
        )
    return found


def _cameras(
    seen: Sequence[CameraSeen], on_bus: Sequence[_OnBus], live: LiveCamera | None, *, needed: bool
) -> Iterator[Finding]:
    serials = [camera.serial or "?" for camera in seen]
    for one in seen:
        speed = f", USB {one.usb}" if one.usb else ""
        yield ok(
            "camera",
            "found",
            f"{one.name}, serial {one.serial}, firmware {one.firmware}{speed}.",
            **one.model_dump(),
        )
        if _older(one.firmware, one.recommended_firmware):
            yield warning(
                "camera",
                "firmware",
                f"The firmware {one.firmware} of {one.serial} is older than {one.recommended_firmware}, "
                "for which this librealsense is made.",
                f"rs-fw-update -s {one.serial} -f FILE, with the firmware from RealSense's site.",
                serial=one.serial,
                firmware=one.firmware,
                recommended=one.recommended_firmware,
            )
    if not seen and on_bus:
        make = error if needed else warning
        yield make(
            "camera",
            "found",
            f"{on_bus[0].product} is on the USB bus, and librealsense does not see it.",
            "See who may use it, below.",
            place=on_bus[0].place,
        )
    elif not seen:
        tell = error if needed else note
        yield tell(
            "camera",
            "found",
            "No RealSense is plugged in.",
            "Plug it into a USB 3 port; if it is, look at `sudo dmesg`, and try another cable.",
        )
    elif live is not None and live.serial is not None and live.serial not in serials:
        yield error(
            "camera",
            "serial",
            f"The rig wants camera {live.serial}; there is {', '.join(serials)}.",
            "Mend camera.serial in the rig's YAML, or plug in the right one.",
            wanted=live.serial,
        )
    elif live is not None and live.serial is None and len(seen) > 1:
        yield error(
            "camera",
            "serial",
            f"{len(seen)} cameras are plugged in: {', '.join(serials)}.",
            "Say which one in camera.serial of the rig's YAML.",
        )


def _older(version: str | None, wanted: str | None) -> bool:
    numbers = [[int(n) for n in re.findall(r"\d+", text)] for text in (version, wanted) if text]
    return len(numbers) == 2 and all(numbers) and numbers[0] < numbers[1]


def _speeds(seen: Sequence[CameraSeen], on_bus: Sequence[_OnBus], *, needed: bool) -> Iterator[Finding]:
    make = error if needed else warning
    for one in on_bus:
        if one.slow:
            yield make(
                "camera",
                "usb_speed",
                f"{one.product} at {one.place} runs at {one.speed_mbps:g} Mbit/s, as USB 2: only a few, "
                "small and slow profiles are left.",
                _PORT_REMEDY,
                place=one.place,
                speed_mbps=one.speed_mbps,
            )
    if on_bus:
        return
    for other in seen:  # no /sys/bus/usb, as in some containers: librealsense knows it, too
        if (other.usb or "3").startswith(("1", "2")):
            yield make(
                "camera",
                "usb_speed",
                f"Camera {other.serial} runs as USB {other.usb}.",
                _PORT_REMEDY,
                usb=other.usb,
            )


def _rights(
    machine: Machine, user: User | None, on_bus: Sequence[_OnBus], *, needed: bool
) -> Iterator[Finding]:
    rules = [
        name
        for pattern in _RULES
        for name in machine.names(pattern)
        if {_INTEL, _D405} <= set(re.findall(r'"([0-9a-f]{4})"', (machine.text(name) or "").lower()))
    ]
    closed = []
    for one in on_bus:
        if one.node is None or user is None:
            continue
        path = machine.path(one.node)
        try:
            if not may_use(path, user):
                closed.append(f"{one.node} ({owner_of(machine, path)})")
        except OSError as problem:
            closed.append(f"{one.node} ({problem.strerror})")
    if closed and user is not None:
        make = error if needed else warning
        yield make(
            "camera",
            "usb_access",
            f"{user.name} may not use {', '.join(closed)}.",
            _UDEV_REMEDY,
            closed=tuple(closed),
        )
    if rules:
        yield ok("camera", "udev_rule", f"The udev rule for a D405 is there: {rules[0]}.", files=tuple(rules))
    elif needed and not (user is not None and user.uid == 0):
        yield warning(
            "camera", "udev_rule", "There is no udev rule for a D405: only root may use it.", _UDEV_REMEDY
        )
    else:
        yield note("camera", "udev_rule", "There is no udev rule for a D405; only a live camera needs one.")
