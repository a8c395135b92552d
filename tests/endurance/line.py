"""The line beside a cell: asks for inspections over MQTT, and writes down all that is said to it."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any

from typing_extensions import Self

from edge.broker import LocalBroker
from edge.testing import Heard, Listener
from tests.asker import Asker
from tests.endurance.cell import TOPICS

__all__ = ["Line"]

_REPLIES = TOPICS.response("line")
_PATIENCE_S = 180.0


class Line:
    """Fires triggers, each once, by number; a client of its own on the broker.

    `accepted`: result id by request id, of those that the rig said it would answer; `refused`: how often,
    by reason; `heard`: what each verdict on the broker said, by result id; `again` counts those that came
    more than once. `states`: each state of the machine with its reason. All grow with the parts.
    """

    def __init__(self, broker: LocalBroker) -> None:
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self.sent = 0
        self.accepted: dict[str, str] = {}
        self.refused: Counter[str] = Counter()
        self.heard: dict[str, dict[str, Any]] = {}
        self.again = 0
        self.answers: list[dict[str, Any]] = []
        self.health: dict[str, Any] = {}
        self.machine: dict[str, Any] = {}
        self.states: list[tuple[str, str | None]] = []
        self._answered = 0
        self._asker = Asker(broker)
        self._listener = Listener(
            broker.host, broker.port, topics=f"{TOPICS.root}/#", on_message=self._on_message, keep=False
        )
        self._going = False
        self._runner: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._listener.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.halt()
        self._listener.__exit__(kind, error, trace)
        self._asker.close()

    def fire(self) -> str:
        """Ask for one inspection; gives the request's id."""
        number = next(self._numbers)
        request_id = f"r{number}"
        self._ask("trigger", request_id, part_serial=f"p{number}")
        self.sent += 1
        return request_id

    def fire_some(self, count: int) -> int:
        """Fire so often, a tenth of a second apart; gives the number of the first."""
        first = self.sent
        for _ in range(count):
            self.fire()
            time.sleep(0.1)
        return first

    def order(self, command: str, request_id: str, **fields: object) -> dict[str, Any]:
        """Send another command, and give its answer."""
        self._ask(command, request_id, **fields)
        self.wait_for(
            lambda: any(a["request_id"] == request_id for a in self.answers), f"answer to {command}"
        )
        return next(a for a in self.answers if a["request_id"] == request_id)

    def run(self, per_s: float) -> None:
        """Fire so often, until `halt`; a thread does that."""
        self._going = True
        self._runner = threading.Thread(target=self._fire_on, args=(1 / per_s,), name="line")
        self._runner.start()

    def halt(self) -> None:
        """Fire no more."""
        self._going = False
        if self._runner is not None:
            self._runner.join()
            self._runner = None

    def fire_many(
        self, count: int, *, in_flight: int, every: int, on_verdicts: Callable[[int], None]
    ) -> None:
        """Fire so often, and wait for every verdict; at most `in_flight` are on their way at a time.

        `on_verdicts` is told how many verdicts there were, each time that `every` more have come.
        """
        told = 0
        for number in range(count + in_flight):
            want = number + 1 - in_flight
            self.wait_for(lambda want=want: len(self.heard) >= want, "next verdict")
            if len(self.heard) >= told + every:
                told = len(self.heard)
                on_verdicts(told)
            if number < count:
                self.fire()

    def wait_for(self, true: Callable[[], bool], what: str, timeout_s: float = _PATIENCE_S) -> None:
        """Until it is true of what was heard; raises `TimeoutError`."""
        with self._changed:
            if not self._changed.wait_for(true, timeout_s):
                raise TimeoutError(
                    f"no {what} within {timeout_s:g} s; {self.sent} sent, {len(self.accepted)} accepted, "
                    f"{dict(self.refused)} refused, {len(self.heard)} verdicts, machine {self.machine}"
                )

    def outcomes_since(self, number: int) -> Counter[str]:
        """Outcome, and its reason where it has one, of the verdicts so far on what was fired since then."""
        with self._changed:
            return self._outcomes_since(number)

    def wait_for_outcome(
        self, outcome: str, since: int, count: int = 1, timeout_s: float = _PATIENCE_S
    ) -> None:
        """Until so many verdicts on what was fired since then begin like this."""
        self.wait_for(
            lambda: (
                sum(n for said, n in self._outcomes_since(since).items() if said.startswith(outcome)) >= count
            ),
            f"{count} {outcome!r}",
            timeout_s,
        )

    def _outcomes_since(self, number: int) -> Counter[str]:
        return Counter(
            f"{said['outcome']} {said['reason'] or ''}".strip()
            for said in self.heard.values()
            if int(said["part_id"].removeprefix("p")) >= number
        )

    def _fire_on(self, every_s: float) -> None:
        while self._going:
            self.fire()
            time.sleep(every_s)

    def _ask(self, command: str, request_id: str, **fields: object) -> None:
        order = {"request_id": request_id, "issued_by": "line", "reply_to": _REPLIES, **fields}
        self._asker.ask(f"{TOPICS.root}/cmd/{command}", order)

    def _on_message(self, message: Heard) -> None:
        with self._changed:
            if message.topic == TOPICS.verdict:
                said = message.json()
                self.again += said["result_id"] in self.heard
                self.heard[said["result_id"]] = said
            elif message.topic == _REPLIES:
                self._on_answer(message.json())
            elif message.topic == TOPICS.health:
                self.health = message.json()
            elif message.topic == TOPICS.machine_state:
                self.machine = message.json()
                self.states.append((self.machine["state"], self.machine["reason"]))
            else:
                return
            self._changed.notify_all()

    def _on_answer(self, answer: dict[str, Any]) -> None:
        if answer["command"] != "trigger":
            self.answers.append(answer)
        elif answer["status"] == "accepted":
            self.accepted[answer["request_id"]] = answer["result_id"]
        else:
            self.refused[answer["reason"]] += 1
