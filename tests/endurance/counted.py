"""What a subscriber counted, and what speaks against it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Counted", "Line", "lines_of", "mistakes_of"]


@dataclass(frozen=True, slots=True)
class Line:
    """One message as the subscriber wrote it down; `sha256` is of all that it said."""

    result_id: str
    part_id: str
    epoch: int
    seq: int
    outcome: str
    reason: str | None
    sha256: str


@dataclass(frozen=True, slots=True)
class Counted:
    """What was promised, what was kept, and what was heard.

    `accepted`: result id by part, of those that the rig said it had taken; `kept`: position, epoch and seq
    of each verdict that was seen in the ledger; `heard`: all messages in their order, also repeats, of which
    those from one place to another, `on_full_disk`, may have been forgotten before they were seen there;
    `left`: how many triggers were still in hand, or verdicts never acknowledged, at the end.
    """

    accepted: dict[str, str]
    kept: dict[str, tuple[int, int, int]]
    heard: tuple[Line, ...]
    on_full_disk: tuple[int, int]
    left: int
    exit_code: int
    happened: Counter[str]
    with_disk: bool
    starts: int
    seconds: float

    @property
    def repeats(self) -> int:
        """Messages of verdicts that had been heard before."""
        return len(self.heard) - len({line.result_id for line in self.heard})

    def __str__(self) -> str:
        first = {line.result_id: line for line in self.heard}
        outcomes = Counter(f"{line.outcome} {line.reason or ''}".strip() for line in first.values())
        return (
            f"{len(self.accepted)} triggers accepted, {len(first)} verdicts heard, {self.repeats} of them "
            f"again; {dict(outcomes)}; {self.starts} starts in {self.seconds:.0f} s; {dict(self.happened)}"
        )


def lines_of(file: Path) -> list[Line]:
    """What the subscriber has written so far; the last line may be half of one."""
    whole = file.read_bytes().rpartition(b"\n")[0]
    return [Line(**json.loads(line)) for line in whole.splitlines()]


def mistakes_of(counted: Counted) -> list[str]:
    """What speaks against it, in sentences; empty where all is well."""
    said: dict[str, set[Line]] = defaultdict(set)
    ids_of_part: dict[str, set[str]] = defaultdict(set)
    for line in counted.heard:
        said[line.result_id].add(line)
        ids_of_part[line.part_id].add(line.result_id)
    once = {result_id: next(iter(lines)) for result_id, lines in said.items()}
    promised = set(counted.accepted.values())
    in_order = sorted(once.values(), key=lambda line: (line.epoch, line.seq))
    of_ledger = sorted(counted.kept, key=lambda result_id: counted.kept[result_id][0])
    judged = [int(line.part_id[1:]) for line in in_order if line.outcome in ("pass", "fail")]
    lost = promised - once.keys()
    first, last = counted.on_full_disk
    unkept = {line.result_id for line in counted.heard[:first] + counted.heard[last:]} - counted.kept.keys()
    checks = {
        f"{len(lost)} accepted triggers have no verdict: {_some(lost)}": bool(lost),
        f"accepted under another id: {_some(wrong := _under_another_id(counted, ids_of_part))}": bool(wrong),
        f"parts with two verdicts: {_some(two := {p for p, ids in ids_of_part.items() if len(ids) > 1})}": (
            bool(two)
        ),
        f"one id says two things: {_some(both := {i for i, lines in said.items() if len(lines) > 1})}": (
            bool(both)
        ),
        f"kept and never heard: {_some(counted.kept.keys() - once.keys())}": not (
            counted.kept.keys() <= once.keys()
        ),
        f"heard and not kept: {_some(unkept)}": bool(unkept),
        f"numbers have gaps, or are there twice: {_some(gaps := _gaps(in_order))}": bool(gaps),
        "by (epoch, seq) the order is not the ledger's": [
            line.result_id for line in in_order if line.result_id in counted.kept
        ]
        != [result_id for result_id in of_ledger if result_id in once],
        "by (epoch, seq) the parts are not in their order": judged != sorted(judged),
        f"{counted.left} triggers in hand or verdicts never acknowledged are left": counted.left != 0,
        f"the daemon ended with {counted.exit_code}": counted.exit_code != 0,
    }
    return [mistake for mistake, is_so in checks.items() if is_so]


def _under_another_id(counted: Counted, ids_of_part: dict[str, set[str]]) -> set[str]:
    return {
        part
        for part, result_id in counted.accepted.items()
        if ids_of_part.get(part, {result_id}) != {result_id}
    }


def _gaps(in_order: list[Line]) -> set[str]:
    """Epoch by epoch the numbers go from 0 up."""
    numbers: dict[int, list[int]] = defaultdict(list)
    for line in in_order:
        numbers[line.epoch].append(line.seq)
    return {f"epoch {epoch}" for epoch, seqs in numbers.items() if seqs != list(range(len(seqs)))}


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")
