"""Whether models still fit their line: the scores of each are watched for as long as the daemon runs."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence

from edge.inspection import JUDGED, Outcome
from edge.messages import TriggerKind, Verdict
from edge.score_messages import ScoreHealth
from edge.score_stream import ScoreStream
from edge.score_watch_config import ScoreWatchConfig

__all__ = ["ScoreWatch"]

_log = logging.getLogger(__name__)

_MODELS = 16
"""So many models are remembered beside each other; the one not used for longest begins anew."""

_ONE_VERDICT_PER_PART = frozenset({TriggerKind.PART_PRESENT, TriggerKind.COMMAND, TriggerKind.GPIO})

_Key = tuple[str, str | None, int | None, float]


class ScoreWatch:
    """Tests the scores of every model that inspects for a drift; thread-safe.

    Each model with its calibration and threshold has a state of its own, which switching recipes keeps and a
    restart loses. `ScoreStream` says what is tested, and `docs/score-watch.md` what it finds how soon.
    """

    def __init__(self, config: ScoreWatchConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._streams: OrderedDict[_Key, ScoreStream] = OrderedDict()
        self._tested = False

    def on_verdict(self, verdict: Verdict, good_scores: Sequence[float] | None) -> None:
        """Take in a verdict; `good_scores` are those that its calibration was found on, None if unknown.

        What was not judged by its score says nothing of the scores, and is passed over.
        """
        if self._config.enabled is False or verdict.outcome not in JUDGED:
            return
        if verdict.score is None or verdict.threshold is None:
            return
        key = (
            verdict.model_sha256,
            verdict.calibration_id,
            verdict.calibration_version,
            verdict.threshold,
        )
        with self._lock:
            stream = self._streams.get(key)
            if stream is None:
                stream = ScoreStream(verdict, verdict.threshold, good_scores, self._config)
                self._streams[key] = stream
            self._streams.move_to_end(key)
            if len(self._streams) > _MODELS:
                self._streams.popitem(last=False)
            self._tested = self._config.enabled is True or verdict.trigger in _ONE_VERDICT_PER_PART
            stream.add(verdict.score, failed=verdict.outcome is Outcome.FAIL, tested=self._tested)

    def health(self) -> ScoreHealth | None:
        """Of the model that judged last; None where none did, or it is not enabled."""
        with self._lock:
            if not self._streams:
                return None
            return self._streams[next(reversed(self._streams))].health(self._tested)
