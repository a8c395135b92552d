"""`python -m tests.endurance.rig_process RIG.YAML [SWITCHES [DOOR]]`: `edge-daemon`, its camera of software.

Everything is the daemon's own but the camera below librealsense, and what the switches in the folder
`SWITCHES` say is wrong: `camera` (see `small_camera`, and `unplugged`, `torn`), `model` (`raises`, `nan`,
`hangs`, `freezes`). With `DOOR` it can also be triggered there.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from edge.camera import factory
from edge.camera.config import LiveCamera
from edge.camera.source import FrameSource
from edge.commands import daemon as command
from edge.frame import Frame
from edge.rig import run_rig
from edge.runtime.onnx import OnnxRunner
from edge.runtime.runner import Array
from edge.testing import Fault, FaultyCamera
from tests.endurance.door import Door
from tests.endurance.small_camera import SmallCamera, Switch

__all__ = ["CAMERA", "MODEL"]

CAMERA, MODEL = "camera", "model"

_FAULTS = {"unplugged": Fault.UNPLUGGED, "torn": Fault.GARBAGE}

_run = OnnxRunner._run


class _SwitchedCamera(FaultyCamera):
    def __init__(self, camera: FrameSource, switch: Switch) -> None:
        super().__init__(camera)
        self._switch = switch

    def open(self) -> None:
        self._look()
        super().open()

    def read(self, timeout_s: float = 5.0) -> Frame | None:
        self._look()
        return super().read(timeout_s)

    def _look(self) -> None:
        fault = _FAULTS.get(self._switch.word)
        if fault is None:
            self.mend()
        else:
            self.break_by(fault)


def _faulty_run(switch: Switch) -> None:
    """Let the model do what its switch says, where ONNX Runtime is called."""

    def run(self: OnnxRunner, tensors: Mapping[str, Array], fetch: Sequence[str]) -> dict[str, Array]:
        word = switch.word
        if word == "raises":  # ONNX Runtime's own error, about an input of the wrong shape
            return _run(self, {name: array[..., :-1] for name, array in tensors.items()}, fetch)
        if word == "hangs":  # as a driver that never returns
            threading.Event().wait()
        if word == "freezes":  # and with it the whole of Python: this call keeps its lock
            ctypes.PyDLL(None).pause()
        results = _run(self, tensors, fetch)
        if word == "nan":
            return {name: np.full_like(array, np.nan) for name, array in results.items()}
        return results

    OnnxRunner._run = run  # type: ignore[method-assign]  # the fault that is tested


def _main(rig: str, switches: str | None = None, door: str | None = None) -> None:
    folder = None if switches is None else Path(switches)
    camera = Switch(None if folder is None else folder / CAMERA)

    def source(config: LiveCamera) -> FrameSource:
        small = SmallCamera(config, camera)
        return small if folder is None else _SwitchedCamera(small, camera)

    factory.RealSenseSource = source  # type: ignore[misc,assignment]  # no D405 is plugged in here
    if folder is not None:
        _faulty_run(Switch(folder / MODEL))
    if door is not None:
        command.run_rig = partial(run_rig, on_ready=Door(Path(door)).open)  # type: ignore[assignment]
    sys.argv = ["edge-daemon", rig]
    command.main()


if __name__ == "__main__":
    _main(*sys.argv[1:])
