"""What a person presses in the terminal, key by key, without Enter."""

from __future__ import annotations

import contextlib
import os
import re
import select
import termios
import tty
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import TextIO

from typing_extensions import Self

__all__ = ["Key", "Keyboard", "Press", "decoded"]

# Arrow and function keys come as an escape and what follows; none of them means anything here.
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O.)")


class Key(str, Enum):
    """What a press asks for."""

    TAKE = "take"
    NEXT = "next"
    UNDO = "undo"
    LABEL = "label"
    END = "end"
    ERASE = "erase"
    TEXT = "text"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Press:
    """One key; `text` is the character of `Key.TEXT`."""

    key: Key
    text: str = ""


_ALWAYS = {
    "\r": Key.TAKE,
    "\n": Key.TAKE,
    "\t": Key.LABEL,
    "\x04": Key.END,  # Ctrl-D
    "\x15": Key.UNDO,  # Ctrl-U
    "\x0e": Key.NEXT,  # Ctrl-N
    "\x7f": Key.ERASE,
    "\x08": Key.ERASE,
}
_LETTERS = {" ": Key.TAKE, "n": Key.NEXT, "u": Key.UNDO, "q": Key.END}


def decoded(typed: str, *, text: bool) -> list[Press]:
    """The presses in what was typed; with `text` letters are text (a serial), and no commands."""
    presses = []
    for character in _ESCAPES.sub("", typed):
        if character in _ALWAYS:
            presses.append(Press(_ALWAYS[character]))
        elif text:
            presses.append(Press(Key.TEXT, character) if character.isprintable() else Press(Key.OTHER))
        else:
            presses.append(Press(_LETTERS.get(character.lower(), Key.OTHER)))
    return presses


class Keyboard:
    """The terminal that `stream` is, its keys given one by one as long as the context lasts.

    Ctrl-C still interrupts. A terminal that goes away has pressed `Key.END`.
    """

    def __init__(self, stream: TextIO, *, text: bool = False) -> None:
        self._fd = stream.fileno()
        self._text = text
        self._before: list[int | list[bytes | int]] | None = None

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd, termios.TCSANOW)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        before, self._before = self._before, None
        if before is not None:
            with contextlib.suppress(termios.error):  # its window was closed
                termios.tcsetattr(self._fd, termios.TCSANOW, before)

    def pressed(self, wait_s: float = 0.0) -> list[Press]:
        """What was pressed since the last call; waits for the first press, at most `wait_s`."""
        ready, _, _ = select.select([self._fd], [], [], wait_s)
        if not ready:
            return []
        try:
            typed = os.read(self._fd, 4096)
        except OSError:  # EIO: its window was closed
            typed = b""
        if not typed:
            return [Press(Key.END)]
        return decoded(typed.decode("utf-8", "replace"), text=self._text)
