"""Goes over from recipe to recipe while the rig inspects: by command, by schedule, by a changed YAML."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from edge.clock import Session, clock_synced, utc_now
from edge.errors import EdgeError, RecipeOvertaken, RecipeUnfit
from edge.order_messages import RecipeRefusal, RecipeState, RunningRecipe
from edge.reasons import reason_of
from edge.recalibration import Recalibration
from edge.recipe_loading import LoadedRecipe, RecipeLoader, VerifiedRecipe, differs_in_calibration
from edge.recipe_memory import RecipeMemory, Remembered
from edge.runtime.tensorrt.progress import BuildProgress
from edge.schedule import Schedule
from edge.work.model import Model

__all__ = ["RecipeKeeper", "Reloaded", "Settled"]

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""How often the clock is looked at: whoever sets it is not waited for."""

_WAITING_MAX = 8


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A configuration to go over to, and what `Settled` is to say of it."""

    loader: RecipeLoader
    applied: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """How a request ended: `recipe` runs now; `error` is why it was refused, None where it was not.

    `calibration_version` is the one in force now, 0 for none; said after a recalibration.
    """

    recipe: str
    error: EdgeError | None = None
    note: Literal["already_running", "not_remembered"] | None = None
    reloaded: Reloaded | None = None
    calibration_version: int | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    """To go over to a recipe (a name), to another configuration, or to another calibration."""

    wanted: str | Callable[[RecipeLoader], Reloaded] | Recalibration
    settled: Callable[[Settled], None]


class RecipeKeeper:
    """Loads the next recipe on a thread of its own, while the one that runs goes on.

    `exchange` (`Daemon.exchange`) gives the rig another model, and closes the one that is not used any more:
    the one before once its last part is through, or the new one where the future ends with an error. Until
    then nothing else is loaded: there are never more than two models in memory. What can't be taken is
    refused, and changes nothing. `on_state` is told of every change. `progress` hears how far engines are.

    A switch that is asked for while another is being loaded overtakes it.
    """

    def __init__(
        self,
        loader: RecipeLoader,
        running: LoadedRecipe,
        *,
        exchange: Callable[[Model], Future[None]],
        session: Session,
        memory: RecipeMemory,
        remembered: Remembered | None = None,
        on_state: Callable[[RecipeState], None] = lambda state: None,
        progress: BuildProgress | None = None,
        carrying: Callable[[], AbstractContextManager[None]] = nullcontext,
        now: Callable[[], datetime] = utc_now,
        synced: Callable[[], bool | None] = clock_synced,
    ) -> None:
        self._loader = loader
        self._running = running
        self._exchange = exchange
        self._session = session
        self._memory = memory
        self._on_state = on_state
        self._progress = progress
        self._carrying = carrying
        self._now = now
        self._synced = synced
        self._since = now()
        # None: the schedule was never looked at, and what it says for now is to be done.
        self._handled = remembered.since if remembered is not None else None
        self._schedule = _schedule_of(loader)
        self._loading: str | None = None
        self._refused: RecipeRefusal | None = None
        self._leaving: list[LoadedRecipe] = []
        self._changed = threading.Condition()
        self._requests: deque[_Request] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="recipes", daemon=True)

    @property
    def running(self) -> LoadedRecipe:
        """The recipe by which the next part is inspected."""
        return self._running

    def start(self) -> None:
        """Begin to take requests, and to follow the schedule."""
        self._on_state(self.state())
        self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """Take no more requests and give up what is being loaded; whether it ended within `timeout_s`.

        Requests that wait are not settled any more.
        """
        with self._changed:
            self._stopping = True
            self._requests.clear()
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def switch(self, name: str, settled: Callable[[Settled], None]) -> None:
        """Ask for a recipe; `settled` is called on the keeper's thread. From any thread."""
        self._ask(_Request(name, settled))

    def reload(
        self, reloaded: Callable[[RecipeLoader], Reloaded], settled: Callable[[Settled], None]
    ) -> None:
        """Ask for another configuration: `reloaded` makes it from the present one, on the keeper's thread.

        All its recipes must verify. The one that runs is loaded anew where it changed; where it is gone
        from the book, the book's first one takes its place.
        """
        self._ask(_Request(reloaded, settled))

    def recalibrate(self, wanted: Recalibration, settled: Callable[[Settled], None]) -> None:
        """Ask for another calibration of the model that runs; what it is asked for is on disk when it is
        settled, and in force from the next part on. The engine stays as it is.
        """
        self._ask(_Request(wanted, settled))

    def state(self) -> RecipeState:
        """What runs, and what is to come; from any thread."""
        running, verified = self._running, self._running.verified
        calibration = verified.bundle.calibration
        occasion = None
        if self._schedule is not None and self._may_follow():
            occasion = self._schedule.following(self._now())
        return RecipeState(
            running=RunningRecipe(
                name=running.name,
                product=verified.bundle.product,
                method=verified.bundle.method,
                model_sha256=verified.bundle.model_sha256,
                calibration_id=None if calibration is None else calibration.calibration_id,
                threshold=None if calibration is None else calibration.threshold,
                calibration_version=None if calibration is None else calibration.version,
                review_threshold=None if calibration is None else calibration.review_threshold,
                region_rules=None if calibration is None else calibration.region_rules,
                trigger=verified.config.trigger.kind,
                since=self._since,
            ),
            loading=self._loading,
            refused=self._refused,
            next_name=None if occasion is None else occasion.recipe,
            next_at=None if occasion is None else occasion.at,
            names=self._loader.book.names,
            creation_time=self._now(),
            epoch=self._session.epoch,
            boot_id=self._session.boot_id,
        )

    # -- the keeper's thread -----------------------------------------------------------------------

    def _ask(self, request: _Request) -> None:
        with self._changed:
            full = len(self._requests) >= _WAITING_MAX
            if not full:
                self._requests.append(request)
                self._changed.notify_all()
        if full:
            text = f"{_WAITING_MAX} requests wait already; wait for their answers"
            request.settled(Settled(self._running.name, RecipeOvertaken(text)))

    def _run(self) -> None:
        with self._carrying():
            while not self._stopping:
                self._follow_schedule()
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping or bool(self._requests), _LOOK_S)
                    request = self._requests.popleft() if self._requests else None
                if request is not None and not self._stopping:
                    self._serve(request)

    def _serve(self, request: _Request) -> None:
        wanted = request.wanted
        try:
            if isinstance(wanted, Recalibration):
                self._recalibrate(wanted)
                settled = Settled(self._running.name, calibration_version=self._version())
            elif isinstance(wanted, str):
                note = self._go_over(wanted, self._loader)
                settled = Settled(self._running.name, note=note)
            else:
                settled = self._take_over(wanted(self._loader))
        except EdgeError as error:
            if isinstance(wanted, str):
                self._note_refusal(wanted, error)
            elif not isinstance(wanted, Recalibration):
                _log.error("the changed configuration is refused, all stays as it was: %s", str(error))
            # Its traceback would keep what was loaded for as long as somebody keeps the error.
            version = self._version() if isinstance(wanted, Recalibration) else None
            settled = Settled(self._running.name, error.with_traceback(None), calibration_version=version)
        if not self._stopping or settled.error is None:
            request.settled(settled)

    def _recalibrate(self, wanted: Recalibration) -> None:
        verified = wanted.apply(self._running.verified, self._loader.store)
        self._exchange_for(self._loader.recalibrated(self._running, verified))
        self._on_state(self.state())

    def _version(self) -> int:
        calibration = self._running.verified.bundle.calibration
        return 0 if calibration is None else calibration.version

    def _take_over(self, reloaded: Reloaded) -> Settled:
        loader = reloaded.loader
        for name in loader.book.names:
            loader.verify(name)
        name = self._running.name if self._running.name in loader.book.recipes else loader.book.first
        note = self._go_over(name, loader)
        changed = loader.book.schedule != self._loader.book.schedule
        self._loader = loader
        if changed:
            self._schedule = _schedule_of(loader)
            # What the new schedule says for now is done, too: somebody has just asked for it.
            self._handled = None
        self._on_state(self.state())
        return Settled(name, note=None if note == "already_running" else note, reloaded=reloaded)

    def _follow_schedule(self) -> None:
        if self._schedule is None or not self._may_follow():
            return
        occasion = self._schedule.due(self._now(), self._handled)
        if occasion is None:
            return
        self._handled = occasion.at
        if occasion.recipe == self._running.name:
            return
        _log.info("the schedule goes over to recipe %s", occasion.recipe)
        try:
            self._go_over(occasion.recipe, self._loader)
        except EdgeError as error:
            self._note_refusal(occasion.recipe, error)

    def _may_follow(self) -> bool:
        schedule = self._loader.book.schedule
        return schedule is not None and (not schedule.needs_synced_clock or self._synced() is True)

    def _go_over(
        self, name: str, loader: RecipeLoader
    ) -> Literal["already_running", "not_remembered"] | None:
        """Verify, load, exchange, remember. Raises an `EdgeError` with all as it was before."""
        self._loading = name
        self._on_state(self.state())
        try:
            verified = loader.verify(name)
            if verified == self._running.verified:
                return "already_running"
            if verified.bundle.calibration is None:
                raise RecipeUnfit(
                    f"recipe {name}: {verified.bundle.path} has no calibration, and would decide nothing; "
                    "calibrate it on good parts of this rig"
                )
            if differs_in_calibration(verified, self._running.verified):
                self._exchange_for(loader.recalibrated(self._running, verified))
            else:
                self._exchange_for(self._load(verified, loader))
        finally:
            self._loading = None
            self._on_state(self.state())
        return self._remember(name)

    def _load(self, verified: VerifiedRecipe, loader: RecipeLoader) -> LoadedRecipe:
        self._wait_for_room()
        self._check_overtaken(verified.name)
        loaded = loader.load(verified, progress=self._progress, cancelled=self._is_overtaken)
        try:
            self._check_overtaken(verified.name)
        except RecipeOvertaken:
            loaded.model.close()
            raise
        return loaded

    def _exchange_for(self, loaded: LoadedRecipe) -> None:
        before = self._running
        changed = self._exchange(loaded.model)
        while not wait((changed,), _LOOK_S).done:
            if self._stopping:
                raise RecipeOvertaken(f"recipe {loaded.name} was not gone over to: the rig stops")
        changed.result()
        self._leaving = [one for one in self._leaving if not one.closed.is_set()] + [before]
        self._running = loaded
        bundle = loaded.verified.bundle
        if loaded.shared is before.shared:
            _log.info("recipe %s is judged by version %d of its calibration", loaded.name, self._version())
            return
        self._since, self._refused = self._now(), None
        _log.info("recipe %s runs: %s, model %s", loaded.name, bundle.product, bundle.model_sha256[:12])

    def _wait_for_room(self) -> None:
        """Until the model before the present one has been freed."""
        for leaving in self._leaving:
            while not leaving.closed.wait(_LOOK_S):
                self._check_overtaken("the next")
        self._leaving = []

    def _is_overtaken(self) -> bool:
        with self._changed:
            return self._stopping or any(isinstance(request.wanted, str) for request in self._requests)

    def _check_overtaken(self, name: str) -> None:
        if self._is_overtaken():
            why = "the rig stops" if self._stopping else "another recipe was asked for meanwhile"
            raise RecipeOvertaken(f"recipe {name} was not loaded: {why}")

    def _remember(self, name: str) -> Literal["not_remembered"] | None:
        try:
            self._memory.remember(name, self._since)
        except OSError as error:
            _log.error("recipe %s runs, but will not after a restart: it can't be noted (%s)", name, error)
            return "not_remembered"
        return None

    def _note_refusal(self, name: str, error: EdgeError) -> None:
        _log.error("recipe %s is refused, %s goes on: %s", name, self._running.name, str(error))
        self._refused = RecipeRefusal(name=name, reason=reason_of(error), detail=str(error), at=self._now())
        self._on_state(self.state())


def _schedule_of(loader: RecipeLoader) -> Schedule | None:
    return None if loader.book.schedule is None else Schedule(loader.book.schedule)
