"""Collecting in the terminal: a live panel where there is one, a line per event where there is not."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge.capturing.events import Event, HeldBack, Kept, Summary, Undone
from edge.capturing.showing import Shown
from edge.terminal import LiveDrawing

__all__ = ["TerminalPanel", "sentence"]


class TerminalPanel(LiveDrawing):
    """A context manager: the panel is live as long as it lasts.

    With `bell` the terminal rings for each capture: who lays parts down does not look at it.
    """

    def __init__(self, console: Console, *, title: str, bell: bool = False, lines: bool = True) -> None:
        super().__init__(console, per_second=8)
        self._title = title
        self._bell = bell
        self._lines = lines
        self._shown: Shown | None = None

    def show(self, shown: Shown) -> None:
        """Into the panel, when it is drawn next."""
        self._shown = shown

    def tell(self, event: Event) -> None:
        """A line that stays."""
        if self._bell and isinstance(event, Kept):
            self._console.bell()
        if self._lines:
            style = "yellow" if isinstance(event, HeldBack) else None
            self._console.print(sentence(event), style=style, markup=False, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """A line that stays, of no event."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def render(self) -> RenderableType:
        shown = self._shown
        if shown is None:
            return Panel(Text("waiting for the first frame …"), title=self._title, title_align="left")
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column()
        for name, value in shown.lines:
            table.add_row(name, Text(value))
        rows: list[RenderableType] = [table]
        if shown.trouble:
            rows.append(Text(shown.trouble, "bold red"))
        if shown.seen is not None:
            rows += [Text(f"⚠ {worry.text}", "yellow") for worry in shown.seen.worries]
        if shown.prompt:
            rows.append(Text(shown.prompt, "bold"))
        if shown.keys:
            rows.append(Text(shown.keys, "dim"))
        return Panel(Group(*rows), title=self._title, title_align="left")


def sentence(event: Event) -> str:
    """An event in one line for people."""
    if isinstance(event, Kept):
        serial = f", part {event.part_serial}" if event.part_serial else ""
        all_the_same = f" (kept all the same: {', '.join(event.concerns)})" if event.concerns else ""
        return f"{event.rgb}{serial}{all_the_same}"
    if isinstance(event, HeldBack):
        return "not kept: " + "; ".join(event.concerns.values())
    if isinstance(event, Undone):
        return f"{event.capture} taken back; its files are in {event.moved_to}"
    return summary_text(event)


def summary_text(summary: Summary) -> str:
    """The end, in a few lines."""
    counts = ", ".join(f"{count} {label}" for label, count in summary.counts.items()) or "nothing"
    text = [f"{summary.folder}: {counts}; {summary.kept} kept in this run"]
    if summary.undone:
        text.append(f"{summary.undone} taken back, in {summary.folder / '.undone'}")
    if summary.held_back:
        text.append("not kept: " + ", ".join(f"{n} {concern}" for concern, n in summary.held_back.items()))
    if summary.torn:
        text.append(f"{summary.torn} torn by a crash, moved to {summary.folder / '.torn'}")
    return "\n".join(text)
