"""The commands that change the calibration in force: by hand, by a file, and back to an earlier one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from edge.clock import utc_now
from edge.errors import RecipeOvertaken
from edge.order_messages import CalibrationOrder, RollbackOrder, ThresholdOrder
from edge.orders import Handler, Letter, Reply, Respond, handler
from edge.reasons import reason_of
from edge.recalibration import Change, Recalibration, by_hand, found_elsewhere, rolled_back
from edge.recipes import RecipeKeeper, Settled

__all__ = ["calibration_handlers"]


def calibration_handlers(
    keeper: RecipeKeeper, now: Callable[[], datetime] = utc_now
) -> tuple[Handler[Any], ...]:
    """Those of `threshold`, `calibration`, `rollback`: answered once the next part is judged by it."""

    def ask(
        order: ThresholdOrder | CalibrationOrder | RollbackOrder, change: Change, respond: Respond
    ) -> None:
        running = keeper.running.verified
        if order.recipe is not None and order.recipe != running.name:
            raise RecipeOvertaken(f"recipe {running.name} runs, not {order.recipe}; nothing was changed")
        # Of the model that runs now: who asks has seen its version, and not that of the next recipe's.
        keeper.recalibrate(
            Recalibration(running.bundle.model_sha256, order.expected_version, change),
            lambda settled: respond(_reply(settled)),
        )

    def on_threshold(order: ThresholdOrder, letter: Letter, respond: Respond) -> None:
        numbers = order.threshold, order.review_threshold
        ask(order, by_hand(*numbers, note=order.note, who=order.issued_by, now=now()), respond)

    def on_calibration(order: CalibrationOrder, letter: Letter, respond: Respond) -> None:
        ask(order, found_elsewhere(order.calibration), respond)

    def on_rollback(order: RollbackOrder, letter: Letter, respond: Respond) -> None:
        ask(order, rolled_back(order.to_version, who=order.issued_by), respond)

    return (
        handler(ThresholdOrder, on_threshold),
        handler(CalibrationOrder, on_calibration),
        handler(RollbackOrder, on_rollback),
    )


def _reply(settled: Settled) -> Reply:
    error = settled.error
    return Reply(
        "done" if error is None else "refused",
        None if error is None else reason_of(error),
        None if error is None else str(error),
        recipe=settled.recipe,
        calibration_version=settled.calibration_version,
    )
