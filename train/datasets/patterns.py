"""Paths with names in them: `{category}/test/{label}/rgb/{id}.png`."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

__all__ = ["PathPattern"]

_TOKEN = re.compile(r"\{(\w+)\}|(\*\*|\*)|([^{}*]+)|(.)", re.DOTALL)
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A path below a folder, in which `{name}` stands for a word, `*` for anything within one folder's name,
    and `**` (a step of its own) for any number of folders.

    A word is one or more characters without a slash; what stands twice must be the same twice. Where it holds
    no star, `filled(words)` of what `find` found is the path that was found. Raises `ValueError` for what is
    no such path.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text or self.text.startswith("/") or ".." in self.text.split("/"):
            raise ValueError(f"{self.text!r} must be a path below the data set's folder")
        for token in _TOKEN.finditer(self.text):
            name, star, plain, wrong = token.groups()
            if wrong is not None or (plain is not None and set(plain) & set("[]?\\")):
                raise ValueError(
                    f"{self.text!r} holds {wrong or plain!r}; a path may hold {{name}}, * and **, and no "
                    "other braces, brackets, ? or \\"
                )
            if name is not None and not _NAME.fullmatch(name):
                raise ValueError(f"{{{name}}} in {self.text!r} is no name; use lower-case letters and _")
            if star == "**" and not self._is_step(token.start(), token.end()):
                raise ValueError(f"** in {self.text!r} must stand between slashes")

    @property
    def names(self) -> tuple[str, ...]:
        """The names in it, in their order, each once."""
        return tuple(dict.fromkeys(token[1] for token in _TOKEN.finditer(self.text) if token[1]))

    def filled(self, words: Mapping[str, str]) -> str:
        """As a pattern for `Path.glob`: each name replaced by its word, stars left as they are."""
        return "".join(
            glob.escape(words[token[1]]) if token[1] else token[0] for token in _TOKEN.finditer(self.text)
        )

    def find(
        self, folder: Path, known: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[tuple[Path, dict[str, str]]]:
        """The files below `folder` that it stands for, sorted, each with the words of its names.

        A name that is `known` stands for that word alone.
        """
        stars = "".join(
            token[0] if not token[1] else glob.escape(known[token[1]]) if token[1] in known else "*"
            for token in _TOKEN.finditer(self.text)
        )
        expression = re.compile(self._expression(known))
        for path in sorted(folder.glob(stars)):
            found = expression.fullmatch(path.relative_to(folder).as_posix())
            if found is not None and path.is_file():
                yield path, found.groupdict() | {name: known[name] for name in self.names if name in known}

    def _is_step(self, start: int, end: int) -> bool:
        return (start == 0 or self.text[start - 1] == "/") and self.text[end : end + 1] == "/"

    def _expression(self, known: Mapping[str, str]) -> str:
        seen: set[str] = set()
        parts = []
        # ** stands for no folder as well, so the slash after it belongs to it.
        for token in _TOKEN.finditer(self.text.replace("**/", "**")):
            name, star, plain, _ = token.groups()
            if name is not None and name in known:
                parts.append(re.escape(known[name]))
            elif name is not None:
                parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)")
                seen.add(name)
            elif star is not None:
                parts.append("(?:[^/]+/)*" if star == "**" else "[^/]*")
            else:
                parts.append(re.escape(plain))
        return "".join(parts)
