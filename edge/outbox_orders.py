"""What a rig does with its verdicts when it is told to: sends them again, keeps what became of the parts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from edge.clock import utc_now
from edge.errors import OutboxError
from edge.labelling.filing import Filed
from edge.order_messages import LabelOrder, ReplayOrder
from edge.orders import Handler, Letter, Reply, Respond, handler
from edge.outbox import Outbox
from edge.outbox_labels import PartLabel
from edge.outbox_replay import Replay, ReplayRange
from edge.reasons import reason_of

__all__ = ["AskOutbox", "FileLabel", "outbox_handlers"]

_T = TypeVar("_T")


class AskOutbox(Protocol):
    """`Daemon.ask_outbox`."""

    def __call__(self, errand: Callable[[Outbox], _T], /) -> Future[_T]: ...


class FileLabel(Protocol):
    """`RecentFrames.file`."""

    def __call__(self, result_id: str, position: int, then: Callable[[Filed], None], /) -> None: ...


def outbox_handlers(
    ask: AskOutbox, later: Callable[[Callable[[], None]], None], file: FileLabel
) -> tuple[Handler[Any], ...]:
    """Those of `replay` and `label`; `later` has a thread answer that no verdict waits for (`Clerk.do`).

    A label is in the outbox before `file` makes a capture of its part, and stays there if that can't be.
    """

    def on_replay(order: ReplayOrder, letter: Letter, respond: Respond) -> None:
        wanted = _range_of(order)
        done = ask(lambda outbox: outbox.replay(wanted))
        done.add_done_callback(lambda done: later(lambda: respond(_reply(done, _replayed))))

    def on_label(order: LabelOrder, letter: Letter, respond: Respond) -> None:
        said = PartLabel(order.result_id, order.issued_by, order.label, order.note, utc_now())

        def on_kept(done: Future[int]) -> None:
            error = done.exception()
            if error is None:
                file(order.result_id, done.result(), lambda filed: respond(_labelled(order, filed)))
            else:
                later(lambda: respond(_reply(done, lambda _: Reply("done"))))

        ask(lambda outbox: outbox.label(said)).add_done_callback(on_kept)

    return handler(ReplayOrder, on_replay), handler(LabelOrder, on_label)


def _labelled(order: LabelOrder, filed: Filed) -> Reply:
    if filed.file is not None:
        return Reply("done", result_id=order.result_id, file=str(filed.file))
    detail = f"the label is kept, no capture is made: {filed.detail}"
    return Reply("done", filed.reason, detail, result_id=order.result_id)


def _range_of(order: ReplayOrder) -> ReplayRange:
    if order.from_time is not None:
        return ReplayRange(order.from_time, order.to_time, order.limit)
    first = (order.from_epoch or 0, order.from_seq or 0)
    last = None if order.to_epoch is None or order.to_seq is None else (order.to_epoch, order.to_seq)
    return ReplayRange(first, last, order.limit)


def _reply(done: Future[_T], reply: Callable[[_T], Reply]) -> Reply:
    try:
        return reply(done.result())
    except OutboxError as error:
        return Reply("refused", reason_of(error), str(error))


def _replayed(came: Replay) -> Reply:
    said = []
    if came.waiting:
        said.append(f"{came.waiting} more wait for the broker anyway")
    if came.next is not None:
        said.append(
            f"the limit left out what comes after; go on from epoch {came.next[0]}, seq {came.next[1]}"
        )
    return Reply("accepted", detail="; ".join(said) or None, count=came.queued)
