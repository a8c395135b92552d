"""The reject output over the kernel's GPIO simulator: a real chip, a real line, real release at a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.errors import RejectError
from edge.inspection import Outcome
from edge.reject import rejector_from_config
from edge.reject_config import GpioReject
from edge.testing import sample_verdict

CONFIGFS = Path("/sys/kernel/config/gpio-sim")


@pytest.fixture
def line() -> Iterator[tuple[Path, Path]]:
    """The chip's device, and the file that tells the level of its line 3."""
    if os.geteuid() != 0:
        pytest.skip("making a chip of gpio-sim needs root")
    if not CONFIGFS.is_dir():
        pytest.skip(
            f"this kernel has no gpio-sim ({CONFIGFS} is missing; `modprobe gpio-sim`, mount configfs)"
        )
    device = CONFIGFS / f"edge-{os.getpid()}"
    bank = device / "bank0"
    bank.mkdir(parents=True)
    try:
        (bank / "num_lines").write_text("8")
        (device / "live").write_text("1")
        chip = (bank / "chip_name").read_text().strip()
        name = (device / "dev_name").read_text().strip()
        yield Path("/dev") / chip, Path(f"/sys/devices/platform/{name}/{chip}/sim_gpio3/value")
    finally:
        (device / "live").write_text("0")
        bank.rmdir()
        device.rmdir()


def eventually(holds: Callable[[], bool]) -> bool:
    for _ in range(1000):
        if holds():
            return True
        time.sleep(0.01)
    return False


def test_pulses_are_seen_by_the_kernel(line: tuple[Path, Path]) -> None:
    chip, value = line
    failed = sample_verdict(0).model_copy(update={"outcome": Outcome.FAIL})
    with rejector_from_config(GpioReject(kind="gpio", chip=chip, line=3, pulse_ms=200)) as rejector:
        assert value.read_text().strip() == "1"
        rejector.ready()
        assert value.read_text().strip() == "0"
        rejector.on_verdict(failed)
        assert value.read_text().strip() == "1"
        assert eventually(lambda: value.read_text().strip() == "0")
        with pytest.raises(RejectError, match="busy"):
            rejector_from_config(GpioReject(kind="gpio", chip=chip, line=3)).open()
        rejector.not_kept(failed, "disk full")
        assert value.read_text().strip() == "1"


def test_a_kill_lets_go_of_the_line(line: tuple[Path, Path]) -> None:
    chip, _ = line
    code = (
        "import sys, time; from pathlib import Path; from edge.reject import rejector_from_config; "
        "from edge.reject_config import GpioReject; "
        "rejector_from_config(GpioReject(kind='gpio', chip=Path(sys.argv[1]), line=3)).open(); "
        "print('open', flush=True); time.sleep(1000)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(chip)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        child.send_signal(signal.SIGKILL)
    rejector_from_config(GpioReject(kind="gpio", chip=chip, line=3)).open()
