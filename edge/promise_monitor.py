"""Whether the calibration in force keeps its promise: counted from the outbox for as long as the rig runs."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge.calibration import PromisedRate
from edge.captures import GOOD
from edge.errors import OutboxError
from edge.inspection import JUDGED, Outcome
from edge.messages import FREE_RUNNING
from edge.outbox_judged import CalibrationKey
from edge.outbox_labels import LABELS_MAX, StoredLabel
from edge.outbox_ledger import Ledger
from edge.promise_messages import PromiseHealth
from edge.promise_watch import PromiseCount, lower_bound
from edge.work.model import Model

__all__ = ["LEVEL", "PromiseMonitor"]

_log = logging.getLogger(__name__)

LEVEL = 0.01
"""The chance that a rig which keeps its promise is ever warned of; `edge-calibrate check` has the same."""

_KEPT = 16
"""So many calibrations are remembered beside each other; the one not used for longest is read again."""

_VERDICTS = 2000
_PIECES = 10
_LABELS = 1000
"""What one look reads at most, so that health is never late: `_PIECES` times `_VERDICTS`, and `_LABELS`."""


@dataclass(slots=True)
class _Said:
    """What each person's newest label says of one part."""

    rejected: bool
    is_good: dict[str, bool] = field(default_factory=dict)


class _Tally:
    """The parts that one calibration judged, as far as they were read."""

    def __init__(self, key: CalibrationKey, *, frames_are_parts: bool) -> None:
        self._key = key
        self._frames_are_parts = frames_are_parts
        self._verdict_position = self._label_position = 0
        self._passed = self._rejected = 0
        self._said: OrderedDict[str, _Said] = OrderedDict()
        self.complete = False
        self.warned_s: float | None = None

    def read(self, ledger: Ledger) -> None:
        """Go on where it ended the last time, verdicts first: a label counts once its verdict has."""
        for _ in range(_PIECES):
            piece = ledger.judged(
                self._key, self._verdict_position, _VERDICTS, free_running=self._frames_are_parts
            )
            self._verdict_position = piece.position
            self._passed += piece.passed
            self._rejected += piece.rejected
            if piece.verdicts < _VERDICTS:
                break
        else:
            self.complete = False
            return
        labels = ledger.labels_since(self._label_position, _LABELS)
        self.complete = all(self._take(label, ledger) for label in labels) and len(labels) < _LABELS

    def counts(self) -> tuple[PromiseCount, int, int]:
        """What the promise is held against; beside it the bad parts, and the rejected ones without label."""
        said_good = said_bad = passed_bad = 0
        for said in self._said.values():
            is_good = all(said.is_good.values())  # a part is bad where anybody's newest label names a defect
            said_good += said.rejected and is_good
            said_bad += said.rejected and not is_good
            passed_bad += not said.rejected and not is_good
        count = PromiseCount(good=self._passed - passed_bad + said_good, rejected=said_good)
        return count, said_bad + passed_bad, self._rejected - said_good - said_bad

    def _take(self, label: StoredLabel, ledger: Ledger) -> bool:
        """False where its verdict is not counted yet: it and those behind it are for the next look."""
        if self._key == CalibrationKey(
            label.model_sha256, label.calibration_id or "", label.calibration_version
        ):
            said = self._said.get(label.result_id)
            if said is None:
                # Of a verdict that the ledger forgot before it was counted, nothing counts: the passed parts
                # beside it are forgotten, too.
                verdict = ledger.find(label.result_id)
                if verdict is not None and verdict.position > self._verdict_position:
                    return False
                if verdict is not None and self._counts(label.outcome, verdict.payload):
                    said = self._said[label.result_id] = _Said(label.outcome is Outcome.FAIL)
            if said is not None:
                said.is_good[label.issued_by] = label.label == GOOD
        self._label_position = label.position
        return True

    def _counts(self, outcome: Outcome, payload: bytes) -> bool:
        if outcome not in JUDGED:
            return False
        return self._frames_are_parts or json.loads(payload)["trigger"] not in FREE_RUNNING

    @property
    def full(self) -> bool:
        """More parts have labels than the outbox keeps: to be counted anew by what it still has."""
        return len(self._said) > LABELS_MAX


class PromiseMonitor:
    """Counts how the calibration in force keeps its promise; thread-safe, for who reports health.

    It reads the outbox in `folder` on a connection of its own, some verdicts with each look: what judges
    parts never waits for it. Each version of a calibration has a count of its own; after a restart it is
    read again from the ledger, as far back as that goes. `frames_are_parts` says that each frame of a rig
    in free running shows another part; else such frames are not counted.
    """

    def __init__(self, folder: Path, *, frames_are_parts: bool = False) -> None:
        self._folder = folder
        self._frames_are_parts = frames_are_parts
        self._lock = threading.Lock()
        self._tallies: OrderedDict[CalibrationKey, _Tally] = OrderedDict()
        self._unread: str | None = None

    def health(self, model: Model) -> PromiseHealth | None:
        """Of the calibration of `model`; None where that promises nothing."""
        provenance, promise = model.provenance, model.promise
        if promise is None or provenance.calibration_id is None:
            return None
        key = CalibrationKey(
            provenance.model_sha256, provenance.calibration_id, provenance.calibration_version
        )
        tested = self._frames_are_parts or model.trigger.kind not in FREE_RUNNING
        with self._lock:
            tally = self._tally(key)
            if tested:
                self._read(tally)
            return self._health(key, promise, tally, tested=tested)

    def _tally(self, key: CalibrationKey) -> _Tally:
        tally = self._tallies.get(key)
        if tally is None or tally.full:
            tally = self._tallies[key] = _Tally(key, frames_are_parts=self._frames_are_parts)
        self._tallies.move_to_end(key)
        if len(self._tallies) > _KEPT:
            self._tallies.popitem(last=False)
        return tally

    def _read(self, tally: _Tally) -> None:
        try:
            with Ledger(self._folder) as ledger:
                tally.read(ledger)
            self._unread = None
        except OutboxError as error:
            if self._unread is None:
                _log.error("whether the promise is kept can't be told: %s", error)
            self._unread = str(error)

    def _health(
        self, key: CalibrationKey, promise: PromisedRate, tally: _Tally, *, tested: bool
    ) -> PromiseHealth:
        count, bad, unlabelled = tally.counts()
        e_value, at_least = count.e_value(promise.rate), lower_bound(count, promise.rate, LEVEL)
        # Half-read labels may lack the one that calls a part bad; what is warned of must not be taken back.
        broken = tested and tally.complete and e_value >= 1 / LEVEL
        state: Literal["reading", "watching", "not_tested"] = "watching" if tally.complete else "reading"
        detail = self._unread
        if broken:
            detail = (
                f"the promise of {100 * promise.rate:.3g} % is broken: {count.rejected} of {count.good} good "
                f"parts were rejected, the rate is at least {100 * at_least:.3g} %; find what has changed, "
                "and calibrate on parts of today"
            )
        elif not tested:
            state = "not_tested"
            detail = (
                "frames in free running may show one part many times; set score_watch.enabled: true if each "
                "shows another"
            )
        now_s = time.monotonic()
        if broken and tally.warned_s is None:
            tally.warned_s = now_s
            _log.warning("promise_broken: %s", detail)
        elif tally.warned_s is not None and tested and tally.complete and not broken:
            tally.warned_s = None
            _log.info("promise_broken is over")
        return PromiseHealth(
            state=state,
            calibration_id=key.calibration_id,
            calibration_version=key.version,
            promised_rate=promise.rate,
            confidence=promise.confidence,
            good=count.good,
            rejected=count.rejected,
            bad=bad,
            unlabelled=unlabelled,
            rate_at_least=at_least,
            level=LEVEL,
            e_value=e_value,
            e_value_limit=1 / LEVEL,
            warning="promise_broken" if broken else None,
            detail=detail,
            warned_for_s=now_s - tally.warned_s if broken and tally.warned_s is not None else None,
        )
