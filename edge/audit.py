"""Who told this rig to do what, and what became of it: a log that only grows, and outlives restarts.

::

    <state_dir>/audit.jsonl           one line for each command, with its answer
    <state_dir>/audit.changes.jsonl   of commands that change something, a line before each and one after

The second is apart so that no flood of other commands pushes it out: by it a command that is repeated after a
restart is known.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edge.clock import Session, utc_now
from edge.letters import Letter, shown
from edge.lines import Lines
from edge.order_messages import Answer, Order
from edge.utc_time import UtcTime

__all__ = ["AuditLine", "AuditLog", "line_of"]

_log = logging.getLogger(__name__)

_PIECE_BYTES = 4 * 1024 * 1024
_PIECES = 4
_FIELDS_MAX_CHARACTERS = 2000
_PAYLOAD_MAX_CHARACTERS = 500
_NOT_FIELDS = {"schema_version", "request_id", "issued_by", "reply_to"}

Status = Literal["taken", "accepted", "done", "refused", "repeated", "ignored"]


class AuditLine(BaseModel):
    """One command: who gave it, what, when, and what became of it.

    `client` is proven, `issued_by` only what the message said. `door` is the topic below the rig's root,
    `dashboard` or `sparkplug`. `fields` are what the command says besides; `payload` is the beginning of one
    that could not be read. `taken`: it is about to be carried out. `repeated`: it was carried out before, and
    is not again. `ignored`: it was retained. `monotonic_ns` compares within one `boot_id`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", cache_strings="keys")

    schema_version: Literal[1] = 1
    utc: UtcTime
    monotonic_ns: int
    boot_id: str
    epoch: int
    door: str
    client: str | None
    command: str
    issued_by: str | None
    request_id: str | None
    fields: dict[str, Any] | None
    payload: str | None
    status: Status
    reason: str | None
    detail: str | None
    answer: Answer | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.issued_by or "", self.request_id or ""


def line_of(
    letter: Letter, session: Session, said: tuple[str | None, str | None], order: Order | None = None
) -> AuditLine:
    """The line of a letter that was just looked at; `said`: its `issued_by` and `request_id`."""
    return AuditLine(
        utc=utc_now(),
        monotonic_ns=time.monotonic_ns(),
        boot_id=session.boot_id,
        epoch=session.epoch,
        door=shown(letter.door, 4 * _PAYLOAD_MAX_CHARACTERS),
        client=None if letter.client is None else shown(letter.client),
        command=shown(letter.command),
        issued_by=said[0],
        request_id=said[1],
        fields=None if order is None else _fields_of(order),
        payload=None if order is not None else _text_of(letter.payload),
        status="taken",
        reason=None,
        detail=None,
    )


class AuditLog:
    """Writes the lines down; None for the folder keeps none. From any thread.

    A line that can't be written is said in the service's log, and nothing else stops for it, but for what
    `begin` is asked for.
    """

    def __init__(self, state_dir: Path | None, *, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._unwritten = 0
        self._all = self._changes = None
        if state_dir is not None:
            self._all = _lines(state_dir / "audit.jsonl")
            self._changes = _lines(state_dir / "audit.changes.jsonl")

    def begin(self, line: AuditLine) -> None:
        """Before a change: once this returns the line is on disk. Raises `OSError` where it can't be."""
        if self._changes is not None:
            self._changes.add(_json(line), durable=True)

    def end(self, line: AuditLine, answer: Answer, *, change: bool) -> None:
        """What became of a command; that of a change is on disk when this returns."""
        told = line.model_copy(
            update={
                "utc": self._now(),
                "monotonic_ns": time.monotonic_ns(),
                "status": answer.status,
                "reason": answer.reason,
                "detail": answer.detail,
            }
        )
        if change:
            self._try(self._changes, told.model_copy(update={"answer": answer}), durable=True)
        self._try(self._all, told, durable=change)

    def note(
        self, line: AuditLine, status: Literal["repeated", "ignored"], reason: str | None = None
    ) -> None:
        """A command that has no answer of its own."""
        self._try(self._all, line.model_copy(update={"status": status, "reason": reason}), durable=False)

    def changes(self, at_most: int) -> list[AuditLine]:
        """The last changes, the oldest first, each once: with its answer, or `taken` where it has none."""
        found: dict[tuple[str, str], AuditLine] = {}
        for line in self._read():
            found.pop(line.key, None)
            found[line.key] = line
        return list(found.values())[-at_most:]

    def _read(self) -> list[AuditLine]:
        if self._changes is None:
            return []
        lines, broken = [], 0
        try:
            for text in self._changes.read():
                try:
                    lines.append(AuditLine.model_validate_json(text))
                except ValidationError:
                    broken += 1
        except OSError as error:
            _log.error(
                "the audit log can't be read (%s); commands of before this start are not known again", error
            )
        if broken:
            _log.warning("%d lines of the audit log can't be read, and are passed over", broken)
        return lines

    def _try(self, lines: Lines | None, line: AuditLine, *, durable: bool) -> None:
        if lines is None:
            return
        try:
            lines.add(_json(line), durable=durable)
        except OSError as error:
            with self._lock:
                self._unwritten += 1
                first = self._unwritten == 1
            if first:
                _log.critical(
                    "the audit log can't be written (%s); free space, or mend daemon.state_dir", error
                )
            return
        with self._lock:
            missing, self._unwritten = self._unwritten, 0
        if missing:
            _log.critical("the audit log is written again; %d lines are missing in it", missing)


def _lines(path: Path) -> Lines:
    return Lines(path, piece_bytes=_PIECE_BYTES, pieces=_PIECES)


def _json(line: AuditLine) -> bytes:
    return line.model_dump_json(exclude={"answer"} if line.answer is None else set()).encode()


def _fields_of(order: Order) -> dict[str, Any]:
    fields = order.model_dump(mode="json", exclude=_NOT_FIELDS, exclude_none=True)
    text = json.dumps(fields)
    return fields if len(text) <= _FIELDS_MAX_CHARACTERS else {"cut": text[:_FIELDS_MAX_CHARACTERS]}


def _text_of(payload: bytes) -> str:
    return shown(payload[: 4 * _PAYLOAD_MAX_CHARACTERS].decode("utf-8", "replace"), _PAYLOAD_MAX_CHARACTERS)
