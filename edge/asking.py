"""Somebody who tells a rig something over MQTT, waits for its answer, and listens to its verdicts."""

from __future__ import annotations

import math
import secrets
import time
import uuid
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import Self

from edge.config import BrokerConfig
from edge.connection import BrokerConnection
from edge.errors import BrokerRefused, BrokerUnreachable, ConfigError, OrderRefused, RigSilent
from edge.inbox import Inbox, Incoming
from edge.order_messages import Order
from edge.outgoing import Delivery, DeliveryResult, Outgoing, QueueLimit
from edge.region_rules import RegionRules
from edge.topics import RigIdentity, Topics
from edge.watching.reading import AvailabilityRead, Count, Text, printable

__all__ = ["AnswerRead", "JudgedRead", "RigLine", "RunningRead", "rig_at"]

_WAITING_MAX = 20_000
_MAX_PACKET_BYTES = 256 * 1024
_CLOSE_S = 2.0
_LINE_CHARACTERS = 200

_Order = TypeVar("_Order", bound=Order)


def _printable(text: str) -> str:
    """A sentence of the rig's, whole: `printable` cuts a line."""
    return "".join(
        printable(text[start : start + _LINE_CHARACTERS]) for start in range(0, len(text), _LINE_CHARACTERS)
    )


class _Read(BaseModel):
    # The rig may be of another version than we: what we do not know we pass over.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class RunningRead(_Read):
    """What runs on the rig, of `state/recipe`."""

    name: Text
    model_sha256: Text
    calibration_id: Text | None
    threshold: float | None
    calibration_version: Count | None = None
    review_threshold: float | None = None
    region_rules: RegionRules | None = None

    @property
    def version(self) -> int:
        """The calibration's, as a command expects it: 0 for none."""
        return self.calibration_version or 0


class _StateRead(_Read):
    running: RunningRead


class _LastRead(_Read):
    """Of `state/last_verdict`: up to where a rig had come when we began to listen."""

    epoch: Count
    seq: Count


class _PresentRead(AvailabilityRead):
    epoch: Count | None = None


class JudgedRead(_LastRead):
    """What a rig found out about a part, of `verdict`."""

    result_id: Annotated[str, Field(min_length=1, max_length=_LINE_CHARACTERS)]
    part_id: Text | None
    outcome: Text
    reason: Text | None
    score: float | None
    threshold: float | None
    model_sha256: Text
    calibration_id: Text | None
    calibration_version: Count | None = None


class AnswerRead(_Read):
    """What became of a command, of `resp/{client}`."""

    request_id: str | None
    status: Text
    reason: Text | None
    detail: Annotated[str, AfterValidator(_printable)] | None
    calibration_version: Count | None = None


def rig_at(place: str) -> RigIdentity:
    """The rig at `acme/dresden/assembly/line-3/cell-2`; raises `ConfigError` for what is no such place."""
    levels = place.strip("/").removesuffix("/inspection").split("/")
    try:
        return RigIdentity.model_validate(dict(zip(RigIdentity.model_fields, levels, strict=True)))
    except ValueError as error:  # pydantic's ValidationError is one
        raise ConfigError(
            f"--rig {place!r}: must be the five levels of one rig, as in "
            "acme/dresden/assembly/line-3/cell-2 (enterprise, site, area, line, cell); edge-watch lists them"
        ) from error


class RigLine:
    """A connection to one rig as long as the context lasts, to ask it and hear it; one thread at a time.

    With `client`, commands go to that client's own topics, and the rig refuses a name in them that is
    another's. With `verdicts` it hears those, too. Raises `BrokerRefused`, `BrokerUnreachable`,
    `ConfigError` as it begins.
    """

    def __init__(
        self,
        config: BrokerConfig,
        rig: RigIdentity,
        client: str | None,
        timeout_s: float,
        *,
        verdicts: bool = False,
    ) -> None:
        self._config = config
        self._rig = rig
        self._topics = Topics(rig.root)
        self._client = client
        self._timeout_s = timeout_s
        name = f"edge-calibrate-{secrets.token_hex(4)}"
        self._reply_to = self._topics.response(client or name)
        if not self._topics.is_response(self._reply_to):
            raise ConfigError(f"--client {client!r}: must be one level of a topic, of 64 characters at most")
        self._events: SimpleQueue[BaseModel | Delivery] = SimpleQueue()
        self._availability: _PresentRead | None = None
        self._running: RunningRead | None = None
        self._answers: deque[AnswerRead] = deque(maxlen=100)
        self._undelivered: Delivery | None = None
        self._malformed: str | None = None
        self._last: tuple[int, int] | None = None
        self._judged: deque[JudgedRead] = deque(maxlen=_WAITING_MAX)
        # The broker gives what it keeps in this order: once the recipe is known, so is the last verdict.
        heard: dict[str, type[BaseModel]] = {
            self._topics.last_verdict: _LastRead,
            self._topics.verdict: JudgedRead,
        }
        self._read: dict[str, type[BaseModel]] = (heard if verdicts else {}) | {
            self._topics.availability: _PresentRead,
            self._topics.recipe_state: _StateRead,
            self._reply_to: AnswerRead,
        }
        self._connection = BrokerConnection(
            config,
            name,
            password=config.read_password(),
            limit=QueueLimit(10, 10 * _MAX_PACKET_BYTES, drop_oldest=False),
            on_delivery=self._events.put,
            on_lost=lambda: None,  # a command that waited for the next connection would come too late
            inbox=Inbox(tuple(self._read), self._on_message, _WAITING_MAX, _MAX_PACKET_BYTES),
        )

    def __enter__(self) -> Self:
        self._connection.start()
        try:
            self._connection.wait_for_answer(2 * self._config.connect_timeout_s + 1)
            status = self._connection.status
            if not status.connects:
                where = f"{self._config.host}:{self._config.port}"
                raise BrokerUnreachable(f"{status.last_error or where}; nothing was asked")
        except (BrokerRefused, BrokerUnreachable):
            self._connection.stop(None, 0.0)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.stop(None, _CLOSE_S)

    @property
    def place(self) -> str:
        return self._rig.root.removesuffix("/inspection")

    def running(self) -> RunningRead:
        """What runs there, as the broker has it; raises `RigSilent` where no rig is there or online."""
        self._wait(lambda: self._running is not None and self._availability is not None)
        self._refuse_offline()
        if self._running is None:
            status = self._connection.status
            if not status.hears and status.last_error is not None:
                raise BrokerRefused(status.last_error)
            raise RigSilent(
                f"{self.place}: no rig has said on {self._topics.recipe_state} what it runs, within "
                f"{self._timeout_s:g} s{self._also()}; check --rig (edge-watch lists all rigs), and who may "
                "read it at the broker"
            )
        return self._running

    def ask(self, kind: type[_Order], issued_by: str, **said: object) -> AnswerRead:
        """Give a command, and wait for its answer: `done` or `accepted`.

        Raises `OrderRefused`, `RigSilent`, `BrokerRefused` where it may not be said, `ConfigError` where it
        can't be one.
        """
        number = str(uuid.uuid4())
        try:
            order = kind.model_validate(
                {
                    "request_id": number,
                    "issued_by": self._client or issued_by,
                    "reply_to": self._reply_to,
                    **said,
                }
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        topic = "/".join(filter(None, (f"{self._topics.root}/cmd/{kind.command}", self._client)))
        # A command that the rig hears only once we have given up is not to be carried out.
        expiry_s = math.ceil(self._timeout_s)
        self._connection.send(Outgoing(topic, order.to_json(), 1, False, number, expiry_s=expiry_s))
        found: list[AnswerRead] = []

        def ended() -> bool:
            found.extend(answer for answer in self._answers if answer.request_id == number)
            return bool(found) or self._undelivered is not None

        self._wait(ended)
        if not found and self._undelivered is not None:
            raise BrokerRefused(
                f"{topic}: the broker does not take it ({self._undelivered.result.value}: "
                f"{self._undelivered.detail}); nothing was changed. See who may command in docs/mqtt.md"
            )
        if not found:
            self._refuse_offline()
            raise RigSilent(
                f"{self.place}: has not answered cmd/{kind.command} within {self._timeout_s:g} s"
                f"{self._also()}; it may have been carried out all the same: look at calibration_version in "
                f"{self._topics.recipe_state} before you ask again"
            )
        answer = found[0]
        if answer.status == "refused":
            raise OrderRefused(f"{self.place}: {answer.reason}: {answer.detail}")
        return answer

    def running_with(self, version: int) -> RunningRead:
        """What runs once this version of the calibration is in force, or a later one; raises `RigSilent`."""
        self._wait(lambda: self._running is not None and self._running.version >= version)
        if self._running is None or self._running.version < version:
            raise RigSilent(
                f"{self.place}: has answered that version {version} is in force, and does not say so on "
                f"{self._topics.recipe_state}{self._also()}; look there"
            )
        return self._running

    def running_by(self, calibration_id: str | None, version: int) -> RunningRead:
        """What runs, once it is judged by that calibration; raises `RigSilent` where that is never said."""

        def there() -> bool:
            now = self._running
            return now is not None and (now.calibration_id, now.version) == (calibration_id, version)

        self._wait(there)
        if self._running is None or not there():
            raise RigSilent(
                f"{self.place}: judges by calibration {calibration_id}, version {version}, and does not say "
                f"so on {self._topics.recipe_state}{self._also()}; look there, then say the same again"
            )
        return self._running

    def judged(self, wait_s: float) -> JudgedRead | None:
        """The next part judged since we began to listen; None where none is within `wait_s`.

        What the rig sends again of before is passed over: nobody has just laid that part down.
        """
        self._wait(lambda: bool(self._judged), wait_s)
        while self._judged:
            found = self._judged.popleft()
            if self._last is None or (found.epoch, found.seq) > self._last or self._counts_anew(self._last):
                return found
        return None

    def _counts_anew(self, last: tuple[int, int]) -> bool:
        """Whether the rig lost its state folder since its last verdict, and with it its count."""
        epoch = None if self._availability is None else self._availability.epoch
        return epoch is not None and epoch < last[0]

    def trouble(self) -> str | None:
        """Why no part is heard of now; None where nothing stands in the way."""
        if not self._connection.status.connected:
            return "no connection to the broker"
        if self._availability is not None and self._availability.state != "online":
            return f"the rig is {self._availability.state}"
        return None

    def _wait(self, ended: Callable[[], bool], wait_s: float | None = None) -> None:
        """Hear what comes until `ended()`, at most so long, or the timeout."""
        due = time.monotonic() + (self._timeout_s if wait_s is None else wait_s)
        while not ended() and (left := due - time.monotonic()) > 0:
            try:
                self._hear(self._events.get(timeout=left))
            except Empty:
                return

    def _hear(self, event: BaseModel | Delivery) -> None:
        if isinstance(event, Delivery):
            if event.result is not DeliveryResult.ACKNOWLEDGED:
                self._undelivered = event
        elif isinstance(event, _PresentRead):
            self._availability = event
        elif isinstance(event, _StateRead):
            self._running = event.running
        elif isinstance(event, AnswerRead):
            self._answers.append(event)
        elif isinstance(event, JudgedRead):
            self._judged.append(event)
        elif isinstance(event, _LastRead) and self._last is None:
            self._last = event.epoch, event.seq

    def _refuse_offline(self) -> None:
        if self._availability is not None and self._availability.state != "online":
            raise RigSilent(
                f"{self.place}: is {self._availability.state} ({self._availability.reason}); start its "
                "daemon, and ask again"
            )

    def _also(self) -> str:
        return "" if self._malformed is None else f" (of it came what can't be read: {self._malformed})"

    def _on_message(self, message: Incoming) -> None:
        """From the connection's thread."""
        model = self._read.get(message.topic)
        if model is None or not message.payload:
            return
        if model is _LastRead and not message.retained:
            return  # of a part that was judged since, whose verdict comes, too
        try:
            self._events.put(model.model_validate_json(message.payload))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            self._malformed = printable(f"{message.topic}: {where}: {first['msg']}")
