"""The rigs as a table in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from edge.commands.common import OUTCOME_STYLES
from edge.inspection import Outcome
from edge.watching.report import LastVerdict, RigRow

__all__ = ["rig_table"]

_PRESENCE_STYLES = {"online": "green", "stale": "bold yellow", "offline": "bold red", "unknown": "dim"}
_STATE_STYLES = {"Error": "bold red", "Halted": "red", "Preoperational": "yellow"}
_STYLES = {outcome.value: OUTCOME_STYLES[outcome] for outcome in Outcome}
_COUNTED = {"passed": "pass", "failed": "fail"}


def rig_table(rows: Sequence[RigRow], broker: str) -> Table:
    """A row per rig; what is old is dim. What all their names begin with stands above."""
    names = [row.root.removesuffix("/inspection").split("/") for row in rows]
    shared = _shared_levels(names)
    below = f" below {'/'.join(names[0][:shared])}" if shared else ""
    title = f"{len(rows)} rig{'' if len(rows) == 1 else 's'} at {broker}{below}"
    table = Table(title=Text(title), title_justify="left", header_style="bold", expand=True)
    for column in ("rig", "is", "does", "recipe", "last verdict"):
        table.add_column(column, overflow="fold")
    for column in ("inspected", "yield", "waiting"):
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("camera", overflow="fold")
    table.add_column("look at", overflow="fold")
    for row, name in zip(rows, names, strict=True):
        table.add_row(
            Text("/".join(name[shared:])),
            _presence(row),
            _state(row),
            Text(_or_dash(row.recipe) + (f" → {row.recipe_loading}" if row.recipe_loading else "")),
            _verdict(row.last_verdict),
            _counts(row),
            "-" if row.yield_share is None else f"{row.yield_share:.1%}",
            _or_dash(row.verdicts_pending),
            Text(_or_dash(row.camera)),
            _warnings(row),
            style="dim" if row.presence in ("offline", "stale") else "",
        )
    return table


def _shared_levels(names: list[list[str]]) -> int:
    """How many levels all names begin with; 0 where there is but one."""
    if len(names) < 2:
        return 0
    first, last = min(names), max(names)
    return next((level for level, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), 0)


def _presence(row: RigRow) -> Text:
    text = Text(row.presence, _PRESENCE_STYLES[row.presence])
    if row.presence == "stale" and row.health_age_s is not None:
        text.append(f" {_age(row.health_age_s)}")
    elif row.presence == "offline" and row.presence_reason:
        text.append(f" {row.presence_reason}")
    return text


def _state(row: RigRow) -> Text:
    if row.machine_state is None:
        return Text("-")
    reason = f": {row.machine_reason}" if row.machine_reason else ""
    return Text(row.machine_state + reason, _STATE_STYLES.get(row.machine_state, ""))


def _verdict(verdict: LastVerdict | None) -> Text:
    if verdict is None:
        return Text("-")
    text = Text(verdict.outcome, _STYLES.get(verdict.outcome, ""))
    if verdict.reason:
        text.append(f": {verdict.reason}", "")
    if verdict.score is not None:
        of = "" if verdict.threshold is None else f" of {verdict.threshold:.3g}"
        text.append(f" {verdict.score:.3g}{of}", "default")
    return text.append(f", {_age(verdict.age_s)}", "default")


def _counts(row: RigRow) -> Text:
    total = sum(row.counts.values())
    others = [
        Text(f"{count} {name}", _STYLES.get(_COUNTED.get(name, name), ""))
        for name, count in row.counts.items()
        if count and name != "passed"
    ]
    return Text("\n").join([Text(str(total) if row.counts else "-"), *others])


def _warnings(row: RigRow) -> Text:
    lines = [Text(warning, "yellow") for warning in row.warnings]
    if row.malformed:
        where = (row.malformed_detail or "").partition(":")[0]
        lines.append(Text(f"{row.malformed} malformed: {where}", "bold magenta"))
    return Text("\n").join(lines)


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
