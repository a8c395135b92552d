"""What the outbox still holds, for the page; read on a thread of its own, for a disk may be slow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from edge.dashboard.hub import event_frame
from edge.errors import OutboxError
from edge.inspection import Outcome
from edge.messages import PictureKind
from edge.outbox_ledger import Ledger
from edge.outbox_records import StoredVerdict

__all__ = ["REPLAYED_MAX", "SHOWN_POINTS", "Past"]

REPLAYED_MAX = 500
SHOWN_POINTS = 200
_SHOWN_REJECTS = 12
_BRIEF = ("result_id", "epoch", "seq", "creation_time", "outcome", "reason", "score", "threshold", "part_id")
_REJECT = (*_BRIEF, "regions", "regions_total")
_REJECTS = tuple(outcome for outcome in Outcome if outcome.value in ("fail", "review"))

_T = TypeVar("_T")


class Past:
    """Reads the outbox in `folder` while the daemon writes it; each method raises `OutboxError`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="dashboard-past")
        self._ledger: Ledger | None = None

    async def opening(self) -> bytes:
        """The event `past`: the last verdicts in brief, oldest first, and the last rejects, newest first."""

        def read(ledger: Ledger) -> bytes:
            return json.dumps(
                {
                    "verdicts": [_brief(verdict) for verdict in reversed(ledger.latest(SHOWN_POINTS))],
                    "rejects": [
                        _brief(verdict, _REJECT)
                        | {"pictures": [one.kind.value for one in ledger.pictures_of(verdict.result_id)]}
                        for verdict in ledger.latest(_SHOWN_REJECTS, _REJECTS)
                    ],
                },
                ensure_ascii=False,
                separators=(",", ":"),
            ).encode()

        return event_frame("past", await self._read(read))

    async def since(self, epoch: int, seq: int) -> tuple[bytes, ...] | None:
        """The verdicts after that one, as events; None where it is not known, or they are too many."""

        def read(ledger: Ledger) -> tuple[bytes, ...] | None:
            position = ledger.position_of(epoch, seq)
            if position is None:
                return None
            missed = ledger.after(position, REPLAYED_MAX + 1)
            if len(missed) > REPLAYED_MAX:
                return None
            return tuple(event_frame("verdict", one.payload, f"{one.epoch}-{one.seq}") for one in missed)

        return await self._read(read)

    async def picture(self, result_id: str, kind: PictureKind) -> tuple[str, bytes] | None:
        """Its encoding and its bytes; None where it is not kept."""

        def read(ledger: Ledger) -> tuple[str, bytes] | None:
            info = next((one for one in ledger.pictures_of(result_id) if one.kind is kind), None)
            data = None if info is None else ledger.picture(info)
            return None if info is None or data is None else (info.encoding, data)

        return await self._read(read)

    def close(self) -> None:
        """What is being read is not waited for."""
        self._reader.submit(self._close_ledger)
        self._reader.shutdown(wait=False)

    async def _read(self, read: Callable[[Ledger], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._with_ledger, read)

    def _with_ledger(self, read: Callable[[Ledger], _T]) -> _T:
        try:
            if self._ledger is None:
                self._ledger = Ledger(self._folder)
            return read(self._ledger)
        except OutboxError:
            self._close_ledger()  # opened anew the next time: it may have been set aside
            raise

    def _close_ledger(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None


def _brief(verdict: StoredVerdict, names: Sequence[str] = _BRIEF) -> dict[str, Any]:
    said = json.loads(verdict.payload)
    return {name: said.get(name) for name in names}
