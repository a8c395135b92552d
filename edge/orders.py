"""Commands to the rig: read, judged, carried out once, and each answered once; whatever they hold."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import ValidationError

from edge.audit import AuditLine, AuditLog, line_of
from edge.authority import Authority
from edge.clock import Session, clock_synced, utc_now
from edge.errors import EdgeError
from edge.letters import DASHBOARD, Letter, mistakes_of, shown, texts_of
from edge.order_memory import REMEMBERED, Address, Again, Key, OrderMemory, Taken
from edge.order_messages import Answer, Order
from edge.reasons import reason_of
from edge.topics import Topics

__all__ = ["Handler", "Letter", "OrderDesk", "Reply", "Respond", "handler"]

_log = logging.getLogger(__name__)

_VALID_S = 5.0
"""How old a command may be: a part does not wait longer under the camera, nor a person at the button."""

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
    count: int | None = None
    file: str | None = None
    calibration_version: int | None = None


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


Send = Callable[[Answer, str, bytes | None], None]
"""Sends an answer to a topic, with MQTT 5's correlation data if there were any."""


class OrderDesk:
    """Takes letters, and sends one answer to each, now or later; it never raises.

    Letters come from any thread, and none waits for what another writes to disk; handlers are called one at a
    time.

    No answer gets one that was retained (it would come again with each connection), nor a repeat over MQTT of
    a command that is still being carried out. A repeat of one that has been answered gets the same answer.

    Each leaves its line in the audit log. What changes how parts are judged is refused where that can't be
    written; any other command goes on without.
    """

    def __init__(
        self,
        handlers: tuple[Handler[Any], ...],
        topics: Topics,
        session: Session,
        send: Send,
        *,
        authority: Authority | None = None,
        audit: AuditLog | None = None,
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
        self._audit = audit or AuditLog(None)
        self._memory = OrderMemory()
        self._carrying = threading.Lock()
        self._recall()

    def receive(self, letter: Letter) -> None:
        """Carry a command out, or begin to; from any thread."""
        address = self._address_of(letter)
        if letter.retained:
            _log.warning("a retained command on cmd/%s is ignored; publish commands without retain, and "
                         "clear it with an empty retained message", address.command)  # fmt: skip
            self._audit.note(self._line(letter, address), "ignored", "retained")
            return
        order = self._read(letter)
        line = self._line(letter, address, order if isinstance(order, Order) else None)
        if isinstance(order, Reply):
            self._refuse(order, address, line)
            return
        reply_to = order.reply_to or letter.response_topic
        if reply_to is not None and not self._may_answer(letter, reply_to):
            allowed = self._topics.response(self._authority.sure_client(letter) or "{client}")
            self._refuse(_refused("reply_to_forbidden", f"answers go to {allowed} alone"), address, line)
            return
        again = self._memory.again(line.key, address)
        if again is not None:
            self._repeat(again, address, line)
            return
        stale = self._stale(order, letter)
        if stale is not None:
            self._refuse(stale, address, line)
            return
        self._carry_out(order, letter, address, line)

    def ask(self, command: str, payload: bytes, *, client: str = DASHBOARD) -> Future[Answer]:
        """A command from within the rig, as of its web page; from any thread. The future has its answer.

        `payload` is the same JSON as over MQTT. Nothing goes to the broker, which need not be there.
        """
        future: Future[Answer] = Future()
        future.set_running_or_notify_cancel()  # from here on nobody can take it back
        self.receive(Letter(command, payload, client=client, answered=future.set_result))
        return future

    def close(self) -> None:
        """Answer what is still being carried out with `stopping`, and take nothing more."""
        for key in self._memory.close():
            self._settle(key, _STOPPING)

    # -- from letter to order ----------------------------------------------------------------------

    def _address_of(self, letter: Letter) -> Address:
        """As far as a letter says it, were it damaged ever so much."""
        said = texts_of(letter.payload)
        reply_to = said.get("reply_to") or letter.response_topic
        own = self._topics.response(self._authority.sure_client(letter) or _UNADDRESSED)
        if reply_to is None or not self._may_answer(letter, reply_to):
            reply_to = own if self._topics.is_response(own) else self._topics.response(_UNADDRESSED)
        return Address(
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

    def _line(self, letter: Letter, address: Address, order: Order | None = None) -> AuditLine:
        said = address if order is None else order
        return line_of(letter, self._session, (said.issued_by, said.request_id), order)

    def _read(self, letter: Letter) -> Order | Reply:
        found = self._handlers.get(letter.command)
        if found is None:
            return _refused("unknown_command", f"there are {', '.join(sorted(self._handlers))}")
        not_allowed = self._authority.refusal(letter)
        if not_allowed is not None:
            return _refused("not_allowed", not_allowed)
        if len(letter.payload) > found.order.max_bytes:
            size = f"{len(letter.payload)} bytes; this command has at most {found.order.max_bytes}"
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

    def _repeat(self, again: Again, address: Address, line: AuditLine) -> None:
        """It was taken up before; what was answered is answered again."""
        _log.info("command %s of %s came again; it is not executed twice", line.request_id, line.issued_by)
        self._audit.note(line, "repeated")
        if again.answer is not None:
            self._deliver(again.answer, address)

    def _carry_out(self, order: Order, letter: Letter, address: Address, line: AuditLine) -> None:
        key = line.key
        before = self._memory.take(key, Taken(address, line, order.changes))
        if isinstance(before, Again):  # another thread was quicker
            self._repeat(before, address, line)
            return
        if not before:
            self._refuse(_STOPPING, address, line)
            return
        if order.changes:
            try:
                self._audit.begin(line)
            except OSError as error:
                why = f"the audit log can't be written ({error.strerror}); free space on the rig's disk"
                if order.decides:
                    self._give_up(key, _refused("not_audited", why))
                    return
                _log.critical("%s; command %s is carried out all the same", why, line.request_id)
        _log.info("command %s (%s) of %s", order.command, order.request_id, order.issued_by)
        try:
            with self._carrying:
                self._handlers[order.command].carry_out(order, letter, lambda reply: self._settle(key, reply))
        except EdgeError as error:
            self._settle(key, _refused(reason_of(error), str(error)))

    def _settle(self, key: Key, reply: Reply) -> None:
        """The one answer to a command that was taken up; from any thread."""
        taken = self._memory.claim(key)
        if taken is None:
            return
        answer = self._answer_of(taken.address, reply)
        self._audit.end(taken.line, answer, change=taken.change)
        others = self._memory.settle(key, answer)
        self._send_answer(answer, taken.address)
        for address in others:
            self._deliver(answer, address)

    def _give_up(self, key: Key, reply: Reply) -> None:
        """The answer to what was taken and not begun: whoever asks again is heard anew."""
        taken = self._memory.claim(key)
        if taken is None:
            return
        answer = self._answer_of(taken.address, reply)
        self._audit.end(taken.line, answer, change=False)
        others = self._memory.forget(key)
        self._send_answer(answer, taken.address)
        for address in others:
            self._deliver(answer, address)

    def _refuse(self, reply: Reply, address: Address, line: AuditLine) -> None:
        """The answer to what is not taken up."""
        answer = self._answer_of(address, reply)
        self._audit.end(line, answer, change=False)
        self._send_answer(answer, address)

    def _recall(self) -> None:
        """The changes of earlier starts; one that has no answer was interrupted."""
        for line in self._audit.changes(REMEMBERED):
            answer = line.answer
            if answer is None:
                _log.warning("command %s of %s was interrupted", line.request_id, line.issued_by)
                address = Address(line.command, "", None, line.request_id, line.issued_by)
                answer = self._answer_of(address, _INTERRUPTED)
                now = {"epoch": self._session.epoch, "boot_id": self._session.boot_id}
                self._audit.end(line.model_copy(update=now), answer, change=True)
            self._memory.recall(line.key, answer)

    def _answer_of(self, address: Address, reply: Reply) -> Answer:
        said = {field.name: getattr(reply, field.name) for field in fields(reply)}
        said["detail"] = None if reply.detail is None else reply.detail[:_DETAIL_MAX_CHARACTERS]
        return Answer(
            command=address.command,
            request_id=address.request_id,
            issued_by=address.issued_by,
            creation_time=self._now(),
            epoch=self._session.epoch,
            boot_id=self._session.boot_id,
            **said,
        )

    def _send_answer(self, answer: Answer, address: Address) -> None:
        if answer.status == "refused":
            _log.warning("command %s (%s) of %s is refused: %s (%s)", answer.command, answer.request_id,
                         answer.issued_by, answer.reason, answer.detail)  # fmt: skip
        self._deliver(answer, address)

    def _deliver(self, answer: Answer, address: Address) -> None:
        if address.answered is not None:
            address.answered(answer)
        else:
            self._send(answer, address.topic, address.correlation)


def _refused(reason: str, detail: str) -> Reply:
    return Reply("refused", reason, detail)


_STOPPING = _refused("stopping", "the rig stops; ask again once it runs")
_INTERRUPTED = _refused(
    "interrupted",
    "the rig ended while it was carried out; whether it was done shows in what the rig says now",
)
