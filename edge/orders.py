"""Commands to the rig: read, judged, carried out once, and each answered once; whatever they hold."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import ValidationError

from edge.authority import Authority
from edge.clock import Session, clock_synced, utc_now
from edge.errors import EdgeError
from edge.letters import DASHBOARD, MAX_ORDER_BYTES, Letter, mistakes_of, shown, texts_of
from edge.order_messages import Answer, Order
from edge.reasons import reason_of
from edge.recent import Recent
from edge.topics import Topics

__all__ = ["Handler", "Letter", "OrderDesk", "Reply", "Respond", "handler"]

_log = logging.getLogger(__name__)

_VALID_S = 5.0
"""How old a command may be: a part does not wait longer under the camera, nor a person at the button."""

_REMEMBERED = 4096
_REMEMBERED_S = 3600.0
_DETAIL_MAX_CHARACTERS = 500
_UNADDRESSED = "unaddressed"

_Order = TypeVar("_Order", bound=Order)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a command came to; the fields are those of `Answer`."""

    status: Literal["accepted", "done", "refused"]
    reason: str | None = None
    detail: str | None = None
    result_id: str | None = None
    recipe: str | None = None
    applied: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


Respond = Callable[[Reply], None]
"""Takes what a command came to; from any thread, and only the first time that it is called."""


@dataclass(frozen=True, slots=True)
class Handler(Generic[_Order]):
    """Carries one kind of command out: it calls `respond` now or later, or raises an `EdgeError` now."""

    order: type[_Order]
    carry_out: Callable[[_Order, Letter, Respond], None]


def handler(order: type[_Order], carry_out: Callable[[_Order, Letter, Respond], None]) -> Handler[Any]:
    """A `Handler` whose kind of order is checked."""
    return Handler(order, carry_out)


@dataclass(frozen=True, slots=True)
class _Address:
    """Where an answer goes, and what it names; with `answered` not to the topic, but there."""

    command: str
    topic: str
    correlation: bytes | None
    request_id: str | None = None
    issued_by: str | None = None
    answered: Callable[[Answer], None] | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """A command that was taken up: when, and who asked.

    `others` asked for the same meanwhile, and are told as well.
    """

    taken_ns: int
    address: _Address
    others: tuple[_Address, ...] = ()


@dataclass(frozen=True, slots=True)
class _Answered:
    """What a command came to, until `until_ns` for those who ask again."""

    until_ns: int
    address: _Address
    answer: Answer


Send = Callable[[Answer, str, bytes | None], None]
"""Sends an answer to a topic, with MQTT 5's correlation data if there were any."""


class OrderDesk:
    """Takes letters, one at a time, and sends one answer to each, now or later; it never raises.

    No answer gets one that was retained (it would come again with each connection), nor a repeat over MQTT of
    a command that is still being carried out. A repeat of one that has been answered gets the same answer.
    """

    def __init__(
        self,
        handlers: tuple[Handler[Any], ...],
        topics: Topics,
        session: Session,
        send: Send,
        authority: Authority | None = None,
        *,
        now: Callable[[], datetime] = utc_now,
        synced: Callable[[], bool | None] = clock_synced,
    ) -> None:
        self._handlers: Mapping[str, Handler[Any]] = {h.order.command: h for h in handlers}
        self._topics = topics
        self._session = session
        self._send = send
        self._authority = authority or Authority()
        self._now = now
        self._synced = synced
        self._receiving = threading.Lock()
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], _Entry] = {}
        self._answered: Recent[tuple[str, str], _Answered] = Recent(_REMEMBERED)
        self._closed = False

    def receive(self, letter: Letter) -> None:
        """Carry a command out, or begin to; from any thread."""
        with self._receiving:
            self._receive(letter)

    def ask(self, command: str, payload: bytes, *, client: str = DASHBOARD) -> Future[Answer]:
        """A command from within the rig, as of its web page; from any thread. The future has its answer.

        `payload` is the same JSON as over MQTT. Nothing goes to the broker, which need not be there.
        """
        future: Future[Answer] = Future()
        future.set_running_or_notify_cancel()  # from here on nobody can take it back
        self.receive(Letter(command, payload, client=client, answered=future.set_result))
        return future

    def _receive(self, letter: Letter) -> None:
        if letter.retained:
            _log.warning("a retained command on cmd/%s is ignored; publish commands without retain, and "
                         "clear it with an empty retained message", shown(letter.command))  # fmt: skip
            return
        address = self._address_of(letter)
        order = self._read(letter, address)
        if isinstance(order, Reply):
            self._answer(address, order)
            return
        reply_to = order.reply_to or letter.response_topic
        if reply_to is not None and not self._may_answer(letter, reply_to):
            allowed = self._topics.response(self._authority.sure_client(letter) or "{client}")
            self._answer(address, _refused("reply_to_forbidden", f"answers go to {allowed} alone"))
            return
        key = (order.issued_by, order.request_id)
        if self._is_repeat(key, address):
            return
        stale = self._stale(order, letter)
        if stale is not None:
            self._answer(address, stale)
            return
        self._carry_out(order, letter, address, key)

    def close(self) -> None:
        """Answer what is still being carried out with `stopping`, and take nothing more."""
        with self._lock:
            self._closed = True
            open_keys = list(self._open)
        for key in open_keys:
            self._settle(key, _refused("stopping", "the rig stops; ask again once it runs"))

    # -- from letter to order ----------------------------------------------------------------------

    def _address_of(self, letter: Letter) -> _Address:
        """As far as a letter says it, were it damaged ever so much."""
        said = texts_of(letter.payload)
        reply_to = said.get("reply_to") or letter.response_topic
        own = self._topics.response(self._authority.sure_client(letter) or _UNADDRESSED)
        if reply_to is None or not self._may_answer(letter, reply_to):
            reply_to = own if self._topics.is_response(own) else self._topics.response(_UNADDRESSED)
        return _Address(
            command=shown(letter.command),
            topic=reply_to,
            correlation=letter.correlation,
            request_id=said.get("request_id"),
            issued_by=said.get("issued_by"),
            answered=letter.answered,
        )

    def _may_answer(self, letter: Letter, topic: str) -> bool:
        """No answer forges a verdict, nor goes to another client than the one whose topic it came by."""
        client = self._authority.sure_client(letter)
        return self._topics.is_response(topic) and client in (None, topic.rpartition("/")[2])

    def _read(self, letter: Letter, address: _Address) -> Order | Reply:
        found = self._handlers.get(letter.command)
        if found is None:
            return _refused("unknown_command", f"there are {', '.join(sorted(self._handlers))}")
        not_allowed = self._authority.refusal(letter)
        if not_allowed is not None:
            return _refused("not_allowed", not_allowed)
        if len(letter.payload) > MAX_ORDER_BYTES:
            size = f"{len(letter.payload)} bytes; a command has at most {MAX_ORDER_BYTES}"
            return _refused("too_large", size)
        try:
            order: Order = found.order.model_validate_json(letter.payload)
        except ValidationError as error:
            return _refused("malformed", mistakes_of(error))
        mismatch = self._authority.mismatch(letter, order.issued_by)
        return order if mismatch is None else _refused("issuer_mismatch", mismatch)

    def _stale(self, order: Order, letter: Letter) -> Reply | None:
        waited_s = (time.monotonic_ns() - letter.received_ns) / 1e9
        if letter.expiry_s is not None and waited_s > letter.expiry_s:
            return _refused("expired", f"its message expiry of {letter.expiry_s} s was over before its turn")
        if order.issued_utc is None or self._synced() is not True:
            return None
        age_s = (self._now() - order.issued_utc).total_seconds()
        if age_s > _VALID_S:
            return _refused("expired", f"was issued {age_s:.1f} s ago; at most {_VALID_S:g} s are allowed")
        if age_s < -_VALID_S:
            return _refused(
                "issued_in_future",
                f"was issued {-age_s:.1f} s from now, by its sender's clock; set that clock, or leave out "
                "issued_utc",
            )
        return None

    # -- from order to answer ----------------------------------------------------------------------

    def _is_repeat(self, key: tuple[str, str], address: _Address) -> bool:
        """Whether it was taken up before; what was answered is answered again."""
        with self._lock:
            entry, before = self._open.get(key), self._answered.get(key)
            if entry is not None and address.answered is not None:
                self._open[key] = replace(entry, others=(*entry.others, address))
        if entry is None and (before is None or before.until_ns < time.monotonic_ns()):
            return False
        _log.info("command %s of %s came again; it is not executed twice", key[1], key[0])
        if entry is None and before is not None:
            by_mqtt = before.address.answered is None and address.answered is None
            self._deliver(before.answer, before.address if by_mqtt else address)
        return True

    def _carry_out(self, order: Order, letter: Letter, address: _Address, key: tuple[str, str]) -> None:
        with self._lock:
            closed = self._closed
            if not closed:
                self._open[key] = _Entry(time.monotonic_ns(), address)
        if closed:
            self._answer(address, _refused("stopping", "the rig stops; ask again once it runs"))
            return
        _log.info("command %s (%s) of %s", order.command, order.request_id, order.issued_by)
        try:
            self._handlers[order.command].carry_out(order, letter, lambda reply: self._settle(key, reply))
        except EdgeError as error:
            self._settle(key, _refused(reason_of(error), str(error)))

    def _settle(self, key: tuple[str, str], reply: Reply) -> None:
        """The one answer to a command that was taken up; from any thread."""
        with self._lock:
            entry = self._open.pop(key, None)
            if entry is None:
                return
            answer = self._answer_of(entry.address, reply)
            until_ns = entry.taken_ns + round(_REMEMBERED_S * 1e9)
            self._answered.put(key, _Answered(until_ns, entry.address, answer))
        self._send_answer(answer, entry.address)
        for address in entry.others:
            self._deliver(answer, address)

    def _answer(self, address: _Address, reply: Reply) -> None:
        """The answer to what is not taken up."""
        self._send_answer(self._answer_of(address, reply), address)

    def _answer_of(self, address: _Address, reply: Reply) -> Answer:
        return Answer(
            command=address.command,
            request_id=address.request_id,
            issued_by=address.issued_by,
            status=reply.status,
            reason=reply.reason,
            detail=None if reply.detail is None else reply.detail[:_DETAIL_MAX_CHARACTERS],
            result_id=reply.result_id,
            recipe=reply.recipe,
            applied=reply.applied,
            needs_restart=reply.needs_restart,
            creation_time=self._now(),
            epoch=self._session.epoch,
            boot_id=self._session.boot_id,
        )

    def _send_answer(self, answer: Answer, address: _Address) -> None:
        if answer.status == "refused":
            _log.warning("command %s (%s) of %s is refused: %s (%s)", answer.command, answer.request_id,
                         answer.issued_by, answer.reason, answer.detail)  # fmt: skip
        self._deliver(answer, address)

    def _deliver(self, answer: Answer, address: _Address) -> None:
        if address.answered is not None:
            address.answered(answer)
        else:
            self._send(answer, address.topic, address.correlation)


def _refused(reason: str, detail: str) -> Reply:
    return Reply("refused", reason, detail)
