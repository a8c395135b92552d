"""Which board this is: a Jetson with its Jetson Linux (L4T), or another computer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge.doctor.machine import Machine

__all__ = ["Board", "board_of"]

# "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64, DATE: …"
_RELEASE = re.compile(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)")

# https://developer.nvidia.com/embedded/jetpack-archive
_JETPACKS = {32: 4, 34: 5, 35: 5, 36: 6, 38: 7, 39: 7}


@dataclass(frozen=True, slots=True)
class Board:
    """`model` as the device tree has it, None on a PC; `l4t` is (36, "4.7"), None where it is no Jetson.

    `soc` is the last of the device tree's `compatible`: "tegra234" for Orin, "tegra264" for Thor.
    """

    model: str | None
    l4t: tuple[int, str] | None
    soc: str | None

    @property
    def is_jetson(self) -> bool:
        return self.l4t is not None or (self.soc or "").startswith("tegra")

    @property
    def jetpack(self) -> int | None:
        """The major version of JetPack that this Jetson Linux belongs to; None where it is not known."""
        return None if self.l4t is None else _JETPACKS.get(self.l4t[0])

    @property
    def l4t_name(self) -> str:
        return "unknown" if self.l4t is None else f"R{self.l4t[0]}.{self.l4t[1]}"


def board_of(machine: Machine) -> Board:
    """What /proc/device-tree and /etc/nv_tegra_release say of a machine."""
    release = _RELEASE.search(machine.text("/etc/nv_tegra_release") or "")
    compatible = (machine.text("/proc/device-tree/compatible") or "").split("\0")
    soc = compatible[-1].partition(",")[2] or None
    return Board(
        model=machine.text("/proc/device-tree/model") or None,
        l4t=(int(release[1]), release[2]) if release else None,
        soc=soc,
    )
