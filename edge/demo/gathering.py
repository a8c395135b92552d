"""What the subscriber makes of what it hears: each verdict beside the truth, and its pictures."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from edge.camera.truth import PartTruth, read_truth
from edge.errors import BrokerError
from edge.inspection import Outcome
from edge.messages import PictureInfo, PictureKind, Verdict
from edge.testing.listener import Heard

__all__ = ["Evidence", "Gathering", "PartResult"]


@dataclass(frozen=True, slots=True)
class PartResult:
    """One verdict as it was received; `latency_ms` from the frame's capture to its reception here.

    `truth` is None for a part that the camera never showed.
    """

    verdict: Verdict
    truth: PartTruth | None
    latency_ms: float | None

    @property
    def part_id(self) -> str:
        return self.verdict.part_id or f"verdict {self.verdict.seq}"

    @property
    def defect(self) -> str | None:
        return self.truth.defect if self.truth else None

    @property
    def truth_text(self) -> str:
        """The defect's name, `good`, or `unknown`."""
        return "unknown" if self.truth is None else self.truth.defect or "good"

    @property
    def agrees(self) -> bool:
        """A pass for a good part, or a fail for a bad one; no decision agrees with nothing."""
        if self.truth is None:
            return False
        return self.verdict.outcome is (Outcome.PASS if self.truth.defect is None else Outcome.FAIL)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The pictures of one part, as they came over the wire; no map where no map could be made."""

    result: PartResult
    photo_jpeg: bytes
    heatmap_jpeg: bytes | None
    map_float16: bytes | None
    low: float
    high: float


@dataclass(slots=True)
class _Pictures:
    data: dict[PictureKind, bytes] = field(default_factory=dict)
    low: float = 0.0
    high: float = 1.0


class Gathering:
    """Takes what is heard, in whatever order it comes. One thread owns a gathering."""

    def __init__(self, truth: Path) -> None:
        self._truth_folder = truth
        self._truth: dict[str, PartTruth] = {}
        self._payloads: dict[str, bytes] = {}
        self._infos: dict[str, PictureInfo] = {}
        self._pictures: dict[str, _Pictures] = {}
        self._waiting: dict[str, PartResult] = {}
        self.received: Counter[str] = Counter()
        self.results: list[PartResult] = []

    @property
    def duplicates(self) -> int:
        """How many verdicts came again."""
        return self.received.total() - len(self.received)

    def take(self, heard: Heard, received_ns: int) -> PartResult | Evidence | None:
        """What the message completes: a verdict, or the pictures of one, or nothing yet.

        `received_ns`: monotonic clock. Raises `BrokerError` for a message that is not what its topic says.
        """
        try:
            if heard.topic.endswith("/verdict"):
                return self._take_verdict(Verdict.model_validate_json(heard.payload), received_ns)
            for kind in PictureKind:
                if heard.topic.endswith(f"/inspection/{kind.value}"):
                    digest = hashlib.sha256(heard.payload).hexdigest()
                    self._payloads[digest] = heard.payload
                    return self._pair(digest)
                if heard.topic.endswith(f"/inspection/{kind.value}/info"):
                    info = PictureInfo.model_validate_json(heard.payload)
                    self._infos[info.sha256] = info
                    return self._pair(info.sha256)
        except ValidationError as error:
            raise BrokerError(f"{heard.topic}: what came is not what the topic promises: {error}") from error
        return None

    def _take_verdict(self, verdict: Verdict, received_ns: int) -> PartResult | None:
        self.received[verdict.result_id] += 1
        if self.received[verdict.result_id] > 1:
            return None
        captured_ns = verdict.captured_monotonic_ns
        result = PartResult(
            verdict=verdict,
            truth=self._truth_of(verdict.part_id),
            latency_ms=None if captured_ns is None else (received_ns - captured_ns) / 1e6,
        )
        self.results.append(result)
        self._waiting[verdict.result_id] = result
        return result

    def _truth_of(self, part_id: str | None) -> PartTruth | None:
        if part_id is None:
            return None
        if part_id not in self._truth:  # the camera writes it before it shows the part
            self._truth = {truth.part_id: truth for truth in read_truth(self._truth_folder)}
        return self._truth.get(part_id)

    def _pair(self, digest: str) -> Evidence | None:
        """A picture and its twin find each other by the sha256, for they may come in any order."""
        if digest not in self._payloads or digest not in self._infos:
            return None
        payload, info = self._payloads.pop(digest), self._infos.pop(digest)
        pictures = self._pictures.setdefault(info.result_id, _Pictures())
        pictures.data[info.kind] = payload
        if info.low is not None and info.high is not None:
            pictures.low, pictures.high = info.low, info.high
        return self.complete(info.result_id)

    def complete(self, result_id: str) -> Evidence | None:
        """The pictures of a verdict, once it and all of them are here; they are given once."""
        result, pictures = self._waiting.get(result_id), self._pictures.get(result_id)
        if result is None or pictures is None:
            return None
        wanted = set(PictureKind) if result.verdict.score is not None else {PictureKind.IMAGE}
        if wanted - set(pictures.data):
            return None
        del self._waiting[result_id], self._pictures[result_id]
        return Evidence(
            result=result,
            photo_jpeg=pictures.data[PictureKind.IMAGE],
            heatmap_jpeg=pictures.data.get(PictureKind.HEATMAP),
            map_float16=pictures.data.get(PictureKind.MAP),
            low=pictures.low,
            high=pictures.high,
        )

    @property
    def without_pictures(self) -> int:
        """How many verdicts still wait for a picture."""
        return len(self._waiting)
