"""Scores of parts whose truth is known: from a table, or from captures."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge.errors import CalibrationError

__all__ = ["KnownParts", "ScoredPart", "once_per_part", "read_scores", "some"]

_COLUMNS = ("score", "label", "lot", "part")
_OF_A_RIG = ("result_id", "model_sha256", "region_rules")
"""What `edge-calibrate live` also keeps of each part; nothing here needs it."""

_GOOD = ("good", "ok", "")
_MAX_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class ScoredPart:
    """One part (or capture of it): its score, whether it is good, and where it comes from.

    `name` is its row or capture, `part` what stands for the physical part (a serial), None if unknown;
    `lot` the day or batch; `capture_sha256` of its colour picture; `picture` a JPEG of it with its heatmap;
    `zones` those whose own threshold alone rejects it, whatever the calibration's is: its score is infinite.
    """

    name: str
    score: float
    good: bool = True
    defect: str | None = None
    lot: str | None = None
    part: str | None = None
    capture_sha256: str | None = None
    picture: bytes | None = field(default=None, repr=False)
    zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownParts:
    """Parts to calibrate with, and what has to be said of them.

    `zoned`: zones have thresholds of their own, and each score is the lowest threshold at which the part
    passes (`edge.ruled_score.RuledScore.critical_threshold`), which may be infinite.
    """

    parts: tuple[ScoredPart, ...]
    warnings: tuple[str, ...] = ()
    zoned: bool = False

    @property
    def good(self) -> tuple[ScoredPart, ...]:
        return tuple(part for part in self.parts if part.good)

    @property
    def bad(self) -> tuple[ScoredPart, ...]:
        return tuple(part for part in self.parts if not part.good)


def read_scores(path: Path) -> KnownParts:
    """The rows of a CSV with the columns score and, where they are known, label, lot, part.

    A label of good, ok or nothing is a good part, any other names its defect. Raises `CalibrationError`
    naming row and column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            unknown = sorted(set(columns) - {*_COLUMNS, *_OF_A_RIG})
            if "score" not in columns or unknown:
                raise CalibrationError(
                    f"{path}: its first row must name the columns, score and perhaps label, lot, part; it "
                    f"says {', '.join(columns) or 'nothing'}"
                )
            reader.fieldnames = columns
            parts: list[ScoredPart] = []
            for row in reader:
                parts.append(_part(path, reader.line_num, row))
                if len(parts) > _MAX_ROWS:
                    raise CalibrationError(f"{path}: has more than {_MAX_ROWS} rows; draw some by chance")
    except OSError as error:
        raise CalibrationError(f"{path}: can't be read ({error.strerror}); check the path") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: is not a CSV file in UTF-8 ({error})") from error
    if not parts:
        raise CalibrationError(f"{path}: holds no scores below its first row")
    return KnownParts(tuple(parts))


def _part(path: Path, line: int, row: dict[str, str | None]) -> ScoredPart:
    where = f"{path}, line {line}"
    if None in row or None in row.values():
        raise CalibrationError(f"{where}: has not as many values as the first row has columns")
    text = {key: (value or "").strip() for key, value in row.items()}
    try:
        score = float(text["score"])
    except ValueError as error:
        raise CalibrationError(f"{where}: score {text['score']!r} is not a number") from error
    if not math.isfinite(score):
        raise CalibrationError(f"{where}: score {text['score']!r} is not finite; the part was not judged")
    label = text.get("label", "")
    good = label.lower() in _GOOD
    return ScoredPart(
        name=text.get("part") or f"line {line}",
        score=score,
        good=good,
        defect=None if good else label,
        lot=text.get("lot") or None,
        part=text.get("part") or None,
    )


def once_per_part(known: KnownParts, *, dedupe: bool) -> KnownParts:
    """Warn of good parts that are there more than once, or with `dedupe` count the first capture of each.

    A promise counts parts. The first, since choosing by the score would be looking at it.
    """
    seen: set[str] = set()
    kept: list[ScoredPart] = []
    again: list[str] = []
    for part in known.parts:
        if part.good and part.part is not None:
            if part.part in seen:
                again.append(part.name)
                if dedupe:
                    continue
            seen.add(part.part)
        kept.append(part)
    if not again:
        return known
    named = some(again)
    said = (
        f"{len(again)} captures show a part that was there before ({named}); each part counts once"
        if dedupe
        else f"{len(again)} captures show a part that was there before ({named}): a promise counts parts, so "
        "it is worth less than it says; count each once with --dedupe"
    )
    return replace(known, parts=tuple(kept), warnings=(*known.warnings, said))


def some(names: Sequence[str], count: int = 3) -> str:
    """The first few names, and dots where there are more."""
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")
