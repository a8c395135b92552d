"""What is drawn again and again in a terminal, and nowhere else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typing_extensions import Self

__all__ = ["LiveDrawing", "counting_bars"]


class LiveDrawing(ABC):
    """A context manager: where there is a terminal, `render` is drawn so often a second while it lasts."""

    def __init__(self, console: Console, *, per_second: float) -> None:
        self._console = console
        self._per_second = per_second
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.is_live:
            # Not before: it draws as soon as it is made, and who derives from this was not ready then.
            self._live = Live(
                console=self._console, get_renderable=self.render, refresh_per_second=self._per_second
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def is_live(self) -> bool:
        """Whether there is a terminal to draw in."""
        return self._console.is_terminal

    @abstractmethod
    def render(self) -> RenderableType:
        """What there is to see now."""


def counting_bars() -> Progress:
    """Bars on stderr for work that is counted, with the time that is left; gone when it is done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
