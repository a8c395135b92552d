"""What the daemon adds to the model that it runs, and where the time from a trigger to its verdict goes.

The whole of it: the live source and its keeper over a software camera, the threads, the outbox on this disk,
a real broker. Bare calls of the same model take turns with it.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from edge.broker import LocalBroker
from edge.bundle import load_bundle
from edge.camera.config import CareConfig, LiveCamera
from edge.camera.depth_integers import z16_from_depth_m
from edge.camera.keeper import CameraKeeper
from edge.camera.realsense import RealSenseSource
from edge.camera.software_device import SoftwareD405
from edge.camera.source import FrameSource, SourceHealth
from edge.clock import new_session
from edge.config import RigConfig
from edge.daemon import Daemon, DaemonSettings
from edge.errors import CameraStalled
from edge.frame import Frame
from edge.inspection import Inspection
from edge.inspector import Inspector, PreparedPart
from edge.messages import StepTimes
from edge.mqtt import MqttPublisher
from edge.outbox import Outbox
from edge.preprocessing import preprocess
from edge.recipe_loading import RecipeLoader
from edge.runtime.onnx import OnnxRunner
from edge.runtime.runner import Array, Runner
from edge.systemd import Notifier
from edge.testing import Heard, Listener, fake_bundle
from tests.bench.frames import simulated_frames
from tests.bench.timing import Interval, median_of, ratio_of

__all__ = ["DaemonTimes", "daemon_times"]

_FPS = 30
_WARM_UP = 4
_ELSEWHERE_S = 0.1
_PATIENCE_S = 120.0
_FOREVER_S = 1e6  # a camera that the bench has halted is no reason to worry
_RIG = {"enterprise": "bench", "site": "here", "area": "desk", "line": "bench", "cell": "bench"}


class DaemonTimes(BaseModel):
    """Free running: the daemon's cycle over bare calls; and a trigger's way to its verdict, step by step.

    `cycle_to_model`: over calls of a model that computes elsewhere, as on a GPU, in `_ELSEWHERE_S` (a wait
    stands in for it). `cpu_cycle_to_model`: over calls of the bundle's own model by ONNX Runtime, with which
    the preparation of the next part shares the processor; `cpu_cycle_to_inspection`: over whole inspections,
    one step after the other. `trigger_ms`: of parts that a command asked for, one at a time, from the command
    to the verdict on the disk.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cycle_to_model: Interval
    cpu_cycle_to_model: Interval
    cpu_cycle_to_inspection: Interval
    cpu_cycle_ms: Interval
    triggers: int
    trigger_ms: dict[str, StepTimes]


def daemon_times(path: Path, *, rounds: int, cycles: int, triggers: int) -> DaemonTimes:
    """Measure a daemon with this bundle: `rounds` turns of so many cycles each, then so many triggers."""
    bundle = load_bundle(path)
    frames = simulated_frames(bundle.product, 8)
    tensors = preprocess(frames[0], bundle.manifest.preprocessing, bundle.wanted | {"mask"}).tensors
    with OnnxRunner(bundle) as runner:
        inspector = Inspector(bundle, runner)
        here = _in_turn(
            path,
            frames,
            {"model": lambda: runner.run(tensors), "inspection": lambda: inspector.inspect(frames[0])},
            (rounds, cycles),
        )
    stand_in = fake_bundle(product=bundle.product, preprocessing=bundle.manifest.preprocessing)
    only_mask = {"mask": tensors["mask"]}
    with _Elsewhere(stand_in) as waiting:
        elsewhere = _in_turn(
            path, frames, {"model": lambda: waiting.run(only_mask)}, (rounds, cycles), _Elsewhere(stand_in)
        )
    return DaemonTimes(
        cycle_to_model=ratio_of(elsewhere["daemon"], elsewhere["model"]),
        cpu_cycle_to_model=ratio_of(here["daemon"], here["model"]),
        cpu_cycle_to_inspection=ratio_of(here["daemon"], here["inspection"]),
        cpu_cycle_ms=median_of(here["daemon"]),
        triggers=triggers,
        trigger_ms=_trigger_steps(path, frames, triggers),
    )


def _in_turn(
    path: Path,
    frames: Sequence[Frame],
    works: Mapping[str, Callable[[], object]],
    turns: tuple[int, int],
    runner: Runner | None = None,
) -> dict[str, npt.NDArray[np.float64]]:
    """Milliseconds of one call of each work, and of one cycle of the daemon, in each round.

    `turns`: how many rounds, and how many calls or cycles one turn has.
    """
    rounds, cycles = turns
    order = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in (*works, "daemon")}
    with _running(path, frames, {"kind": "every_frame"}, runner) as run:
        for number in range(rounds + 1):  # the first is warm-up
            for name in order.sample(sorted(times), len(times)):
                took_ms = (
                    run.judged.cycle_ms(run.camera, cycles)
                    if name == "daemon"
                    else _each_ms(works[name], cycles)
                )
                if number:
                    times[name].append(took_ms)
    return {name: np.array(values) for name, values in times.items()}


def _each_ms(work: Callable[[], object], count: int) -> float:
    work()
    start_ns = time.perf_counter_ns()
    for _ in range(count):
        work()
    return (time.perf_counter_ns() - start_ns) / 1e6 / count


def _trigger_steps(path: Path, frames: Sequence[Frame], triggers: int) -> dict[str, StepTimes]:
    moments = random.Random(0)
    with _running(path, frames, {"kind": "command", "lead_ms": 0}) as run:
        run.camera.go()
        for number in range(triggers):
            run.daemon.fire()
            run.judged.wait_for(number + 1)
            time.sleep(moments.uniform(0.1, 0.1 + 1 / _FPS))  # it is published, and no frame is preferred
        said = run.listener.wait_for("/health", lambda heard: _verdicts(heard[-1]) >= triggers)[-1].json()
    return {name: StepTimes.model_validate(step) for name, step in said["work"]["steps"].items()}


def _verdicts(heard: Heard) -> int:
    counts: dict[str, int] = heard.json()["inspections"]
    return sum(counts.values())


class _Ready(Notifier):
    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.event = threading.Event()

    def ready(self) -> None:
        self.event.set()


@dataclass(frozen=True)
class _Run:
    daemon: Daemon
    camera: _Camera
    judged: _Judged
    listener: Listener


@contextmanager
def _running(
    path: Path, frames: Sequence[Frame], trigger: Mapping[str, object], runner: Runner | None = None
) -> Iterator[_Run]:
    """A daemon at work, its camera halted; with the bundle's model on the CPU, or that of `runner`."""
    camera = _Camera(frames)
    keeper = CameraKeeper(camera, CareConfig(), stall_s=_FOREVER_S)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalBroker() as broker,
        Listener(broker.host, broker.port, topics="+/+/+/+/+/inspection/health") as listener,
    ):
        config = RigConfig.model_validate(
            {
                "rig": _RIG,
                "camera": {"source": "live"},
                "bundle": path,
                "trigger": trigger,
                "broker": {"port": broker.port},
            }
        )
        session = new_session(None)
        loader = RecipeLoader(config, session)
        model = loader.load(loader.verify("main")).model
        inspector = model.inspector if runner is None else Inspector(runner.bundle, runner)
        judged, ready = _Judged(inspector), _Ready("")
        daemon = Daemon(
            source=keeper,
            model=replace(model, inspector=judged),
            publisher=MqttPublisher(config.broker, config.rig, session),
            outbox=Outbox(Path(folder) / "outbox", config.outbox),
            notifier=ready,
            settings=DaemonSettings(live=True, frame_timeout_s=_FOREVER_S, health_interval_s=1.0),
        )
        thread = threading.Thread(target=daemon.run, name="daemon")
        thread.start()
        try:
            if not ready.event.wait(_PATIENCE_S):
                raise RuntimeError(f"the daemon is not ready after {_PATIENCE_S:g} s")
            yield _Run(daemon, camera, judged, listener)
        finally:
            daemon.stop()
            thread.join()


class _Elsewhere(Runner):
    """A model that takes `_ELSEWHERE_S` and no processor time."""

    def _run(self, tensors: Mapping[str, Array], fetch: Sequence[str]) -> dict[str, Array]:
        time.sleep(_ELSEWHERE_S)
        return dict.fromkeys(fetch, np.multiply(tensors["mask"], 0.5, dtype=np.float32))  # (1, 1, m, m)

    def close(self) -> None:
        """There is nothing to let go."""


class _Camera(FrameSource):
    """The live source over a software camera of `_FPS`, that sends the same pictures over and over."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        first = frames[0]
        unit_m = first.depth_unit_m
        self._pictures = [(f.rgb, np.array(z16_from_depth_m(f.depth_m, unit_m))) for f in frames]
        self._device = SoftwareD405(first.intrinsics, unit_m, fps=_FPS)
        self._live = RealSenseSource(
            LiveCamera(width_px=first.width_px, height_px=first.height_px, fps=_FPS),
            device=self._device.device,
        )
        self._tick = 0
        self._going = threading.Event()

    @property
    def name(self) -> str:
        return self._live.name

    def go(self) -> None:
        self._going.set()

    def halt(self) -> None:
        self._going.clear()

    def open(self) -> None:
        self._live.open()

    def read(self, timeout_s: float = 5.0) -> Frame | None:
        if not self._going.wait(timeout_s):
            raise CameraStalled("the bench has halted the camera")
        tick = max(self._tick + 1, int(time.monotonic() * _FPS) + 1)
        time.sleep(max(0.0, tick / _FPS - time.monotonic()))
        self._tick = tick
        rgb, z16 = self._pictures[tick % len(self._pictures)]
        z16[0, 0] = tick % 60_000  # else it would be the very picture of before, which the keeper finds
        self._device.push(tick, rgb, z16, taken_s=tick / _FPS)
        return self._live.read(timeout_s)

    def close(self) -> None:
        self._live.close()

    def health(self) -> SourceHealth:
        return self._live.health()


class _Judged:
    """An inspector that says when it has judged."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
        self._changed = threading.Condition()
        self._ends_ns: list[int] = []

    def prepare(self, frame: Frame) -> PreparedPart:
        return self._inspector.prepare(frame)

    def judge(self, part: PreparedPart) -> Inspection:
        judged = self._inspector.judge(part)
        with self._changed:
            self._ends_ns.append(time.perf_counter_ns())
            self._changed.notify_all()
        return judged

    def wait_for(self, count: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._ends_ns) >= count, _PATIENCE_S):
                raise RuntimeError(f"{len(self._ends_ns)} of {count} parts judged in {_PATIENCE_S:g} s")

    def cycle_ms(self, camera: _Camera, cycles: int) -> float:
        """Let the daemon run freely, and stop it again; the mean of so many cycles in a row."""
        first = len(self._ends_ns) + _WARM_UP
        camera.go()
        self.wait_for(first + cycles)
        camera.halt()
        took_ms = (self._ends_ns[first + cycles - 1] - self._ends_ns[first - 1]) / 1e6 / cycles
        before = -1
        while before != len(self._ends_ns):  # what is on its way has come through, and is published
            before = len(self._ends_ns)
            time.sleep(0.3)
        return took_ms
