"""The demo in the terminal: a live table where there is one, plain lines where there is not."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from edge.commands.common import OUTCOME_STYLES
from edge.demo.gathering import PartResult
from edge.demo.summary import Found, Summary
from edge.terminal import LiveDrawing

__all__ = ["TerminalView", "show_summary"]

_ROOM_FOR_THE_REST = 9  # rows of the terminal that the table leaves free
_FEWEST_ROWS = 5
_HEAD = ("part", "truth", "verdict", "score", "threshold", "ms")


class TerminalView(LiveDrawing):
    """Shows each verdict beside the truth. A context manager: the table is live as long as it lasts."""

    def __init__(self, console: Console, parts: int) -> None:
        super().__init__(console, per_second=5)
        self._rows: deque[PartResult] = deque(maxlen=max(_FEWEST_ROWS, console.height - _ROOM_FOR_THE_REST))
        self._agree = self._count = 0
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self._task = self._progress.add_task("starting", total=parts)

    def started(self, broker: str, address: str, page: str) -> None:
        """Say where the broker listens, and where the dashboard is."""
        self._console.print(
            f"{broker} listens on {address}; edge-daemon starts with a simulated camera\n"
            f"dashboard: {page} in a browser, as long as the demo runs",
            highlight=False,
        )
        if not self.is_live:
            self._console.print(_plain(_HEAD, ""), highlight=False)

    def verdict(self, result: PartResult) -> None:
        """Show a verdict beside the truth."""
        self._rows.append(result)
        self._count += 1
        self._agree += result.agrees
        self._progress.update(
            self._task, advance=1, description=f"{self._agree} of {self._count} agree with the truth"
        )
        if not self.is_live:
            line = _plain(_cells(result), "" if result.agrees else "<- disagrees")
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def render(self) -> RenderableType:
        table = Table()
        for name in ("part", "truth", "verdict"):
            table.add_column(name)
        for name in ("score", "threshold", "latency, ms"):
            table.add_column(name, justify="right")
        table.add_column("agrees", justify="center")
        for result in list(self._rows):
            part, truth, verdict, *numbers = _cells(result)
            style = OUTCOME_STYLES[result.verdict.outcome]
            mark = Text("✓", "green") if result.agrees else Text("✗", "bold red")
            table.add_row(Text(part), Text(truth), Text(verdict, style), *numbers, mark)
        return Group(table, self._progress)


def _cells(result: PartResult) -> tuple[str, str, str, str, str, str]:
    verdict = result.verdict
    return (
        result.part_id,
        result.truth_text,
        verdict.outcome.value + (f": {verdict.reason}" if verdict.reason else ""),
        _number(verdict.score, ".4g"),
        _number(verdict.threshold, ".4g"),
        _number(result.latency_ms, ".0f"),
    )


def _plain(cells: Sequence[str], note: str) -> str:
    part, truth, verdict, score, threshold, latency = cells
    return f"{part:<14} {truth:<14} {verdict:<12} {score:>9} {threshold:>9} {latency:>6}  {note}".rstrip()


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def show_summary(console: Console, summary: Summary) -> None:
    """The run in a few lines, and where its pictures lie."""
    latency = (
        ""
        if summary.latency_p50_ms is None or summary.latency_max_ms is None
        else f"latency {summary.latency_p50_ms:.0f} ms (median), {summary.latency_max_ms:.0f} ms (largest)"
    )
    first = (
        ""
        if summary.seconds_to_first_verdict is None
        else f"first verdict after {summary.seconds_to_first_verdict:.1f} s, "
    )
    trained = "not told by the bundle" if summary.train_seed is None else f"of seed {summary.train_seed}"
    finds = ", ".join(f"{kind} {_of(found)}" for kind, found in summary.finds.items())
    lines = [
        f"verdicts received   {summary.verdicts} of {summary.parts}, {summary.duplicates} twice"
        + (", interrupted" if summary.interrupted else ""),
        f"heatmaps received   {summary.heatmaps}",
        f"agree with truth    {_of(summary.agreement)}",
        f"false rejects       {_of(summary.false_rejects)} good parts",
        f"defects found       {finds or 'none shown'}",
        f"undecided           {summary.undecided}",
        f"time                {first}{summary.seconds:.1f} s in all; {latency}",
        f"parts               {summary.product}, seed {summary.seed}; trained on parts {trained}",
        f"overlays            {summary.folder / 'overlays'}",
        f"contact sheet       {summary.contact_sheet or 'none: no picture came'}",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _of(found: Found) -> str:
    share = f" ({found.found / found.shown:.1%})" if found.shown >= 20 else ""
    return f"{found.found}/{found.shown}{share}"
