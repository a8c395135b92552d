"""A rig that can be told what to do: its recipes, and the commands that reach them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from edge.audit import AuditLog
from edge.authority import Authority
from edge.calibration_orders import calibration_handlers
from edge.clock import Session
from edge.errors import ConfigError
from edge.mqtt_orders import MqttOrders
from edge.order_messages import RecipeState
from edge.orders import Handler, OrderDesk
from edge.recipe_loading import LoadedRecipe, RecipeLoader
from edge.recipe_memory import RecipeMemory, Remembered
from edge.recipes import RecipeKeeper, Reloaded
from edge.reloading import reloading
from edge.rig_orders import rig_handlers
from edge.runtime.tensorrt.progress import BuildProgress
from edge.work.model import Model

__all__ = ["Commanded"]

_log = logging.getLogger(__name__)

_STOP_S = 1.0
"""What is still being loaded after so long at the end goes with the process."""


class Commanded:
    """Takes commands, and follows the schedule, while its context lasts.

    `path` is the rig's YAML, None where there is none to read again; `more` are handlers of commands beside
    those of trigger and recipes. `on_recipe` is told of every change on the keeper's thread, and must not
    wait. Raises `ConfigError` where the broker's password or a certificate can't be read. The rest is as in
    `RecipeKeeper`.
    """

    def __init__(
        self,
        loader: RecipeLoader,
        first: LoadedRecipe,
        *,
        path: Path | None,
        exchange: Callable[[Model], Future[None]],
        session: Session,
        memory: RecipeMemory,
        remembered: Remembered | None = None,
        progress: BuildProgress | None = None,
        carrying: Callable[[], AbstractContextManager[None]] = nullcontext,
        audit: AuditLog | None = None,
        on_recipe: Callable[[RecipeState], None] = lambda state: None,
        more: tuple[Handler[Any], ...] = (),
    ) -> None:
        self._on_recipe = on_recipe
        self.keeper = RecipeKeeper(
            loader,
            first,
            exchange=exchange,
            session=session,
            memory=memory,
            remembered=remembered,
            on_state=self._publish,
            progress=progress,
            carrying=carrying,
        )
        own = rig_handlers(self.keeper, _no_file if path is None else reloading(path, session))
        handlers = (*own, *calibration_handlers(self.keeper), *more)
        config = loader.config
        allow = None if config.commands is None else config.commands.allow
        self._orders = MqttOrders(
            config.broker, config.rig, session, handlers, authority=Authority(allow), audit=audit
        )

    @property
    def desk(self) -> OrderDesk:
        """Where commands are taken; another door than MQTT brings them to its `ask`."""
        return self._orders.desk

    def __enter__(self) -> Self:
        self.keeper.start()
        self._orders.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.keeper.close(_STOP_S):
            _log.warning("a recipe was still being loaded; it is given up")
        self._orders.close(_STOP_S)

    def _publish(self, state: RecipeState) -> None:
        self._on_recipe(state)
        self._orders.publish_recipe(state)


def _no_file(loader: RecipeLoader) -> Reloaded:
    raise ConfigError("this rig was not started from a YAML file; there is nothing to read again")
