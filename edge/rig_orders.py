"""What a rig does when it is told to: the commands' way to its trigger and its recipes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge.event_trigger import ByCommand, Firing
from edge.order_messages import RecipeOrder, ReloadOrder, TriggerOrder
from edge.orders import Handler, Letter, Reply, Respond, handler
from edge.reasons import reason_of
from edge.recipe_loading import RecipeLoader
from edge.recipes import RecipeKeeper, Reloaded, Settled

__all__ = ["rig_handlers"]

_NOTES = {
    "already_running": "it runs already, and nothing of it has changed",
    "not_remembered": "it could not be written to the state folder: after a restart the one before will run",
}


def rig_handlers(
    keeper: RecipeKeeper, reloaded: Callable[[RecipeLoader], Reloaded]
) -> tuple[Handler[Any], ...]:
    """Those of `trigger`, `recipe` and `reload`; `reloaded` reads the rig's YAML (`edge.reloading`)."""

    def on_trigger(order: TriggerOrder, letter: Letter, respond: Respond) -> None:
        trigger = keeper.running.model.trigger
        if not isinstance(trigger, ByCommand):
            respond(
                Reply(
                    "refused",
                    "not_by_command",
                    f"recipe {keeper.running.name} is triggered by {trigger.kind.value}; set its trigger to "
                    "kind: command",
                )
            )
            return
        firing = trigger.fire(order.part_serial, order.request_id, asked_ns=letter.received_ns)
        # Not before it is on disk: whoever reads "accepted" gets a verdict, whatever happens to the rig.
        firing.taken.add_done_callback(lambda taken: respond(_taken(firing, taken.exception())))

    def on_recipe(order: RecipeOrder, letter: Letter, respond: Respond) -> None:
        keeper.switch(order.recipe, lambda settled: respond(_reply(settled)))

    def on_reload(order: ReloadOrder, letter: Letter, respond: Respond) -> None:
        keeper.reload(reloaded, lambda settled: respond(_reply(settled)))

    return (
        handler(TriggerOrder, on_trigger),
        handler(RecipeOrder, on_recipe),
        handler(ReloadOrder, on_reload),
    )


def _taken(firing: Firing, error: BaseException | None) -> Reply:
    if error is not None:
        return Reply("refused", "not_kept", str(error), result_id=firing.id)
    return Reply("accepted", result_id=firing.id)


def _reply(settled: Settled) -> Reply:
    if settled.error is not None:
        return Reply("refused", reason_of(settled.error), str(settled.error), recipe=settled.recipe)
    reloaded = settled.reloaded
    return Reply(
        "done",
        settled.note,
        None if settled.note is None else _NOTES[settled.note],
        recipe=settled.recipe,
        applied=() if reloaded is None else reloaded.applied,
        needs_restart=() if reloaded is None else reloaded.needs_restart,
    )
