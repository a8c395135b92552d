"""A rig's configuration made into a daemon with its real parts."""

from __future__ import annotations

import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from edge.audit import AuditLog
from edge.calibration_store import CalibrationStore
from edge.camera.factory import kept_source_from_config, source_from_config
from edge.capture_orders import capture_handler
from edge.clerk import Clerk
from edge.clock import Session, new_session
from edge.commanded import Commanded
from edge.config import CommandTrigger, RigConfig
from edge.daemon import Daemon, DaemonSettings, RunSummary
from edge.dashboard.server import Dashboard
from edge.errors import EdgeError
from edge.labelling.keeping import RecentFrames
from edge.letters import SPARKPLUG
from edge.mqtt import MqttPublisher
from edge.onlookers import Onlookers
from edge.order_messages import RecipeState
from edge.outbox import Outbox
from edge.outbox_orders import outbox_handlers
from edge.promise_monitor import PromiseMonitor
from edge.recipe_loading import RecipeLoader, verify_recipe
from edge.recipe_memory import RecipeMemory
from edge.reject import rejector_from_config
from edge.runtime import check_backend
from edge.runtime.tensorrt.progress import BuildStep
from edge.scene.tray import read_tray
from edge.scene.watch import watch_from_file
from edge.score_watch import ScoreWatch
from edge.sparkplug.commands import metrics_for
from edge.sparkplug.node import SparkplugNode
from edge.state_folder import state_dir_of
from edge.systemd import Notifier
from edge.trial import try_stages

__all__ = ["BuildNews", "check_rig", "run_rig", "stopped_by_signals"]

# One step of TensorRT's builder (one layer's kernels measured) takes seconds, on a small Jetson a minute.
_PATIENCE_S = 600.0

_OUTBOX_PATIENCE_S = 300.0
"""A large outbox is looked through once in each boot, which takes its time on a slow disk."""

_KEEPER_FIRST_S = 5.0


def check_rig(config: RigConfig, path: Path | None = None) -> list[str]:
    """What would keep this rig from starting, short of its camera and its broker; empty where all is well.

    `path` is the file of the configuration, beside which the rig's state lies if it says nothing else.
    """
    known = config.daemon.state_dir is not None or path is not None
    store = CalibrationStore(state_dir_of(config, path) if known else None)
    mistakes = list(config.broker.tls.missing_files()) if config.broker.tls else []
    checks: tuple[Callable[[], object], ...] = (
        functools.partial(source_from_config, config.camera),
        config.broker.read_password,
        config.dashboard.read_token,
        *([functools.partial(read_tray, config.scene.tray)] if config.scene.tray is not None else []),
        *(functools.partial(_check_recipe, config, name, store) for name in config.recipe_book().names),
    )
    for check in checks:
        try:
            check()
        except EdgeError as error:
            mistakes.append(str(error))
    return mistakes


def run_rig(
    config: RigConfig, *, path: Path | None = None, on_ready: Callable[[Daemon], None] | None = None
) -> RunSummary:
    """Run the rig until SIGTERM, SIGINT or its source's end; `on_ready` gets the daemon before it runs.

    `path` is the file of the configuration, to be read again when somebody asks for that. From the main
    thread it answers the two signals by a clean stop; a second SIGINT interrupts. Raises what `Daemon.run`
    raises, and `ConfigError`, `BundleError`, `CalibrationError`, `RecipeError`, `TriggerError`,
    `RunnerError` or `OutboxError` where the rig can't be put together.
    """
    state_dir = state_dir_of(config, path)
    notifier = Notifier()
    book, memory, news = config.recipe_book(), RecipeMemory(state_dir), BuildNews(notifier)
    remembered = memory.recall(book)
    store = CalibrationStore(state_dir)
    verified = verify_recipe(config, book.first if remembered is None else remembered.recipe, store)
    session = new_session(state_dir)  # writes: not before it is known that there is something to run
    loader = RecipeLoader(config, session, store)
    first = loader.load(verified, progress=news)
    outbox: Outbox | None = None
    try:
        notifier.extend_timeout(_OUTBOX_PATIENCE_S)
        outbox = Outbox(state_dir / "outbox", config.outbox)
        sparkplug = _sparkplug(config, state_dir)
        dashboard = _dashboard(config, session, state_dir)
        captures = config.daemon.captures_dir or state_dir / "captures"
        frames_are_parts = config.score_watch.enabled is True
        recent = RecentFrames(
            state_dir / "recent",
            config.captures,
            captures=captures,
            outbox=state_dir / "outbox",
            keep_free_bytes=config.outbox.keep_free_mb << 20,
            frames_are_parts=frames_are_parts,
        )
        daemon = Daemon(
            source=kept_source_from_config(config.camera, max_age_s=config.daemon.max_frame_age_s),
            model=first.model,
            publisher=MqttPublisher(config.broker, config.rig, session),
            outbox=outbox,
            rejector=rejector_from_config(config.reject),
            scene=watch_from_file(config.scene, state_dir),
            scores=ScoreWatch(config.score_watch),
            promises=PromiseMonitor(state_dir / "outbox", frames_are_parts=frames_are_parts),
            recent=recent,
            settings=_settings(config, state_dir),
            notifier=notifier,
            onlooker=Onlookers(
                one for one in (sparkplug, None if dashboard is None else dashboard.hub) if one is not None
            ),
        )
        clerk = Clerk(daemon.carrying)
        commanded = Commanded(
            loader,
            first,
            path=path,
            exchange=daemon.exchange,
            session=session,
            memory=memory,
            remembered=remembered,
            progress=news,
            carrying=daemon.carrying,
            audit=AuditLog(state_dir),
            on_recipe=functools.partial(_tell_of_recipe, dashboard, sparkplug),
            more=(
                *outbox_handlers(daemon.ask_outbox, clerk.do, recent.file),
                capture_handler(daemon, captures, clerk.do, keep_free_bytes=config.outbox.keep_free_mb << 20),
            ),
        )
        if dashboard is not None:
            dashboard.obey(commanded.desk.ask)
        if on_ready is not None:
            on_ready(daemon)
    except BaseException:
        first.model.close()  # else it is the daemon that closes it, on the thread that uses it
        if outbox is not None:
            outbox.close()
        raise
    with ExitStack() as running:
        running.enter_context(stopped_by_signals(daemon.stop))
        if dashboard is not None:
            running.enter_context(dashboard)
        running.enter_context(commanded)
        # They end first: what they have done is still answered.
        running.enter_context(clerk)
        running.enter_context(recent.at_work(daemon.carrying))
        if sparkplug is not None:
            running.enter_context(sparkplug.attached(functools.partial(commanded.desk.ask, client=SPARKPLUG)))
        return daemon.run()


def _dashboard(config: RigConfig, session: Session, state_dir: Path) -> Dashboard | None:
    if not config.dashboard.enabled:
        return None
    outbox = state_dir / "outbox"
    return Dashboard(config.dashboard, config.rig, session, outbox, health_s=config.health.interval_s)


def _sparkplug(config: RigConfig, state_dir: Path) -> SparkplugNode | None:
    if config.sparkplug is None or not config.sparkplug.enabled:
        return None
    recipes = config.recipe_book().recipes.values()
    offered = metrics_for(
        triggerable=any(isinstance(recipe.trigger, CommandTrigger) for recipe in recipes),
        several_recipes=len(recipes) > 1,
    )
    return SparkplugNode(config.sparkplug, config.broker, config.rig, state_dir, offered)


def _tell_of_recipe(dashboard: Dashboard | None, sparkplug: SparkplugNode | None, state: RecipeState) -> None:
    if dashboard is not None:
        dashboard.hub.on_recipe(state)
    if sparkplug is not None:
        sparkplug.on_recipe(state)


def _settings(config: RigConfig, state_dir: Path) -> DaemonSettings:
    live = config.camera.source == "live"
    return DaemonSettings(
        # The keeper of a live camera calls it stalled sooner than that, and looks after it itself.
        frame_timeout_s=config.camera.read_timeout_s + (_KEEPER_FIRST_S if live else 0.0),
        max_frame_age_s=config.daemon.max_frame_age_s,
        flush_timeout_s=config.daemon.flush_timeout_s,
        hang_timeout_s=config.daemon.hang_timeout_s,
        health_interval_s=config.health.interval_s,
        # Of anything else each frame is a part that waits to be read.
        live=live,
        queue=config.daemon.queue,
        disk=state_dir,
    )


class BuildNews:
    """Engines that are built at the start take minutes: systemd is told to wait, and how far it is.

    Only while the builder gets on: one that says nothing for `_PATIENCE_S` has hung, and systemd ends it.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._next_s = 0.0

    def __call__(self, step: BuildStep) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s and step.fraction < 1.0:
            return
        self._next_s = now_s + 1.0
        self._notifier.extend_timeout(_PATIENCE_S)
        self._notifier.status(f"building the engine of {step.onnx}: {step.fraction:.0%} ({step.phase})")


def _check_recipe(config: RigConfig, name: str, store: CalibrationStore) -> None:
    bundle = verify_recipe(config, name, store).bundle
    if config.runtime.backend == "onnx":
        try_stages(bundle)
    check_backend(bundle, config.runtime)


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `stop`, a second SIGINT raises KeyboardInterrupt; main thread only.

    In another thread signals can't be caught, and this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, _frame: FrameType | None) -> None:
        stop()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
