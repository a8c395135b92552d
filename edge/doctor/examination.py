"""All subjects, one after the other: a whole report about a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edge.config import OnnxConfig, RigConfig, RuntimeConfig
from edge.doctor.access import access
from edge.doctor.board import board_of
from edge.doctor.broker import broker
from edge.doctor.camera import camera
from edge.doctor.clock import clock
from edge.doctor.computer import computer, memory
from edge.doctor.disk import disk
from edge.doctor.gpu import gpu
from edge.doctor.machine import Machine
from edge.doctor.model import in_force, known_times, load, model
from edge.doctor.packages import packages
from edge.doctor.people import user_of
from edge.doctor.power import power
from edge.doctor.report import SUBJECTS, Finding, Report, Subject, error, note
from edge.doctor.samples import samples
from edge.doctor.service import service, service_user
from edge.selftest_result import SelftestResult
from edge.version import __version__

if TYPE_CHECKING:
    from edge.bundle import Bundle

__all__ = ["examine"]

Progress = Callable[[str], None]

_ONNX = OnnxConfig()


def examine(
    machine: Machine,
    *,
    rig: RigConfig | None = None,
    state_dir: Path | None = None,
    bundle_path: Path | None = None,
    runtime: RuntimeConfig = _ONNX,
    selftest: bool = False,
    user_name: str | None = None,
    unit: str = "edge-daemon.service",
    progress: Progress = lambda subject: None,
) -> Report:
    """Look at everything; with `selftest` run the bundle's golden samples on `runtime`, too.

    `state_dir` is where the rig's calibrations lie. `user_name` is the one whose groups and rights count; by
    default the user of the service where there is one, else the one who asks.
    """
    board = board_of(machine)
    name = user_name or service_user(machine, unit)
    user = user_of(machine, name)
    if user is not None and name is not None and (me := user_of(machine)) is not None and me.uid == user.uid:
        user = me  # the groups that this session has are what counts
    bundle: Bundle | None = None
    opened: list[Finding] = []
    if bundle_path is None:
        opened.append(
            note("bundle", "bundle", "No bundle is given.", "Give one: --bundle FOLDER, or --config.")
        )
    else:
        found = load(bundle_path, rig)
        if isinstance(found, Finding):
            opened.append(found)
        else:
            bundle = found
    judged_by = bundle if bundle is None or rig is None else in_force(bundle, rig, state_dir)
    needs_gpu = runtime.backend == "tensorrt"
    config = rig.camera if rig is not None else None
    needs_camera = config is not None and config.source == "live"
    subjects: dict[Subject, Callable[[], Iterable[Finding]]] = {
        "platform": lambda: computer(machine, board),
        "memory": lambda: memory(machine),
        "packages": lambda: packages(machine),
        "camera": lambda: camera(machine, user, config),
        "gpu": lambda: gpu(machine, board, needed=needs_gpu),
        "power": lambda: power(machine, board),
        "access": lambda: access(machine, board, user, needs_gpu=needs_gpu, needs_camera=needs_camera),
        "broker": lambda: broker(machine, rig),
        "disk": lambda: disk(machine, user, rig.daemon.state_dir if rig is not None else None),
        "clock": lambda: clock(machine, known_times(bundle) if bundle is not None else ()),
        "bundle": lambda: opened if bundle is None or judged_by is None else model(bundle, rig, judged_by),
        "service": lambda: service(machine, unit),
    }
    findings: list[Finding] = []
    for subject, look in subjects.items():
        progress(SUBJECTS[subject])
        findings += _all(subject, look)
    if user_name is not None and user is None:
        findings.append(_no_such_user(user_name))
    result: SelftestResult | None = None
    if selftest:
        result, said = samples(bundle if isinstance(judged_by, Finding) else judged_by, runtime, progress)
        findings += said
    return Report(
        created=machine.now(),
        software_version=__version__,
        machine=board.model or machine.text("/proc/sys/kernel/hostname") or "unknown",
        user=user.name if user is not None else None,
        backend=runtime.backend,
        findings=tuple(findings),
        selftest=result,
    )


def _all(subject: Subject, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of one subject; numpy, paho or cryptography may be what is broken on this machine."""
    try:
        return list(look())
    except ImportError as problem:
        return [
            error(
                subject,
                "import",
                f"{SUBJECTS[subject]} can't be looked at: {problem}.",
                "Mend the Python packages.",
            )
        ]


def _no_such_user(name: str) -> Finding:
    return error(
        "access", "user", f"There is no user {name}.", "Name another with --user, or make it: sudo useradd."
    )
