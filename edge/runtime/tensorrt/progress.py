"""How far TensorRT's builder is: a build of minutes that says nothing looks as if it hung."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["BuildProgress", "BuildStep", "Watch", "make_monitor"]


@dataclass(frozen=True, slots=True)
class BuildStep:
    """One step of a build: `fraction` of it is done (0 to 1, never less than before), `phase` is at work."""

    onnx: str
    fraction: float
    phase: str


BuildProgress = Callable[[BuildStep], None]
"""Told of each step, by one thread at a time but not always the same."""


@dataclass(slots=True)
class _Phase:
    name: str
    parent: str | None
    steps: int
    done: int = 0


class Watch:
    """What TensorRT tells of one build, added up; `go_on` False asks it to give up.

    TensorRT calls from several threads, and an exception that reaches its C++ ends the process: whatever
    `progress` or `cancelled` raise is kept in `failure`, and the build is given up.
    """

    def __init__(
        self, onnx: str, progress: BuildProgress | None, cancelled: Callable[[], bool] | None
    ) -> None:
        self._onnx = onnx
        self._progress = progress
        self._cancelled = cancelled
        self._lock = threading.RLock()
        self._phases: dict[str, _Phase] = {}
        self._fraction = 0.0
        self.go_on = True
        self.failure: BaseException | None = None

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins, as one step of `parent` where there is one."""
        with self._lock:
            self._phases[name] = _Phase(name, parent, max(1, steps))
            self._tell(name)

    def step_complete(self, name: str, step: int) -> bool:
        """Step number `step` (from 0) of a phase is done; False asks TensorRT to give up."""
        with self._lock:
            phase = self._phases.get(name)
            if phase is not None:
                phase.done = min(phase.steps, max(phase.done, step + 1))
            self._tell(name)
            return self.go_on

    def phase_finish(self, name: str) -> None:
        """A phase is over, done or given up."""
        with self._lock:
            self._phases.pop(name, None)
            self._tell(name)

    def finish(self) -> None:
        """The engine is built; raises what `progress` raises."""
        if self._progress is not None:
            self._progress(BuildStep(self._onnx, 1.0, "built"))

    def _tell(self, name: str) -> None:
        self._fraction = max(self._fraction, self._done())
        if not self.go_on:
            return
        try:
            if self._cancelled is not None and self._cancelled():
                self.go_on = False
            elif self._progress is not None:
                self._progress(BuildStep(self._onnx, self._fraction, name))
        except BaseException as error:  # noqa: BLE001  # what reaches TensorRT's C++ ends the process
            self.failure = error
            self.go_on = False

    def _done(self) -> float:
        """The fraction of the outermost phase, to which each inner one adds its part of one step."""
        outer = [phase for phase in self._phases.values() if phase.parent not in self._phases]
        if not outer:
            return self._fraction
        return min(1.0, self._of(outer[0]))

    def _of(self, phase: _Phase) -> float:
        inner = [self._of(other) for other in self._phases.values() if other.parent == phase.name]
        return min(1.0, (phase.done + (max(inner) if inner else 0.0)) / phase.steps)


def make_monitor(trt: Any, watch: Watch) -> Any:
    """`watch` as TensorRT's IProgressMonitor; it must outlive the build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # a class of a module that is known only now
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.phase_start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.step_complete(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.phase_finish(phase_name)

    return Monitor()
