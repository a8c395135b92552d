"""Good parts laid down one after the other under a rig at work: their scores, kept as they are confirmed."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from enum import Enum
from pathlib import Path

from edge.asking import JudgedRead, RigLine
from edge.calibrating.scores import KnownParts, ScoredPart
from edge.errors import CalibrationError
from edge.region_rules import RegionRules

__all__ = ["LiveScores", "Said", "Taken"]

_COLUMNS = ("score", "label", "lot", "part", "result_id", "model_sha256", "region_rules")
_NO_RULES = "none"


class Said(str, Enum):
    """What the operator says of a part."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"
    QUIT = "quit"


class Taken(str, Enum):
    """Whether a part can be counted."""

    NEW = "new"
    KNOWN = "counted before"
    NOT_JUDGED = "not judged"


class LiveScores:
    """The confirmed parts of one model under one set of region rules, in a CSV that each is added to at once.

    An existing file is gone on with. Raises `CalibrationError` where it is of another model or other rules,
    can't be read or written.
    """

    def __init__(self, path: Path, line: RigLine) -> None:
        self._path = path
        self._line = line
        running = line.running()
        if "region_rules" not in running.model_fields_set:
            raise CalibrationError(
                f"{line.place}: does not say by which region rules it scores; bring it to this version"
            )
        self.recipe = running.name
        self.model_sha256 = running.model_sha256
        self.rules = running.region_rules
        self.calibration_id = running.calibration_id
        if self.rules is not None and self.rules.scales:
            raise CalibrationError(
                "a zone with a threshold of its own is scaled by the one that is to be found; take "
                "captures, and find it with edge-calibrate fit --rules; or apply a calibration without it"
            )
        self._known = {(running.calibration_id, running.version): self.rules}
        self._parts: list[ScoredPart] = []
        self._seen: set[str] = set()
        self._serials: set[str] = set()
        self._begin()

    @property
    def good(self) -> int:
        """How many good parts are confirmed."""
        return sum(part.good for part in self._parts)

    @property
    def kept(self) -> str:
        """Where they are, in words."""
        return f"{self.good} good parts are kept in {self._path}"

    def known(self) -> KnownParts:
        return KnownParts(tuple(self._parts))

    def look(self, judged: JudgedRead) -> Taken:
        """Whether this part can be counted.

        Raises `CalibrationError` where another model judged it, or by other rules; `RigSilent` where the rig
        does not say by which.
        """
        if judged.model_sha256 != self.model_sha256:
            raise CalibrationError(
                f"the rig judges by model {judged.model_sha256[:12]}… now, and did by "
                f"{self.model_sha256[:12]}…: scores of two models can't be compared. {self.kept}; go back to "
                "that model, or begin a new file with --scores-out"
            )
        if self._rules_of(judged) != self.rules:
            raise CalibrationError(
                f"calibration {judged.calibration_id} has other region rules than the parts before were "
                f"scored by, and they are part of the scores. {self.kept}; begin a new one with --scores-out"
            )
        if judged.result_id in self._seen or judged.part_id in self._serials:
            return Taken.KNOWN
        return Taken.NOT_JUDGED if judged.score is None or judged.outcome == "no_decision" else Taken.NEW

    def add(self, judged: JudgedRead, *, good: bool) -> None:
        """Count a part, which is on disk then; raises `CalibrationError`."""
        if judged.score is None:
            raise CalibrationError(f"{judged.result_id}: has no score, and can't be counted; skip it")
        label, part = ("good" if good else "bad"), judged.part_id or judged.result_id
        row = (repr(judged.score), label, "", part, judged.result_id, self.model_sha256, _digest(self.rules))
        self._append(_csv(row))
        self._take(row)

    def pass_over(self, judged: JudgedRead) -> None:
        """Never ask about this verdict again."""
        self._seen.add(judged.result_id)

    def _rules_of(self, judged: JudgedRead) -> RegionRules | None:
        key = judged.calibration_id, judged.calibration_version or 0
        if key not in self._known:
            self._known[key] = self._line.running_by(*key).region_rules
        return self._known[key]

    def _begin(self) -> None:
        try:
            text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise CalibrationError(f"{self._path}: can't be read ({error}); name another file") from error
        if not text:
            self._append(_csv(_COLUMNS))
            return
        if not text.endswith("\n"):
            raise CalibrationError(f"{self._path}: its last line is cut off; delete that line, and go on")
        rows = list(csv.reader(io.StringIO(text)))
        if tuple(rows[0]) != _COLUMNS:
            raise CalibrationError(f"{self._path}: is no file of edge-calibrate live; name another one")
        wanted = self.model_sha256, _digest(self.rules)
        for number, row in enumerate(rows[1:], 2):
            if len(row) != len(_COLUMNS):
                raise CalibrationError(f"{self._path}, line {number}: has {len(row)} values; delete the line")
            if (row[5], row[6]) != wanted:
                raise CalibrationError(
                    f"{self._path}, line {number}: was scored by another model or by other region rules than "
                    "those of the rig now; name a new file with --scores-out"
                )
            try:
                self._take(tuple(row))
            except ValueError as error:
                raise CalibrationError(
                    f"{self._path}, line {number}: score {row[0]!r} is not a number; delete the line"
                ) from error

    def _take(self, row: tuple[str, ...]) -> None:
        score, label, _, part, result_id = row[:5]
        good = label == "good"
        self._parts.append(
            ScoredPart(
                name=result_id, score=float(score), good=good, defect=None if good else label, part=part
            )
        )
        self._seen.add(result_id)
        if part != result_id:
            self._serials.add(part)

    def _append(self, text: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise CalibrationError(
                f"{self._path}: can't be written ({error.strerror}); make room, or name another file with "
                "--scores-out"
            ) from error


def _csv(row: tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()


def _digest(rules: RegionRules | None) -> str:
    return _NO_RULES if rules is None else hashlib.sha256(rules.model_dump_json().encode()).hexdigest()
