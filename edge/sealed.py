"""Text files that know when they were changed: the first line is the sha256 of all that follows."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import yaml

from edge.bundle_files import read_bounded
from edge.errors import BundleCorrupt, FileChanged

__all__ = [
    "MAX_SEALED_BYTES",
    "file_sha256",
    "plain_data",
    "read_sealed",
    "seal",
    "unsealed",
    "write_atomically",
]

MAX_SEALED_BYTES = 128 * 1024
"""Ten times what a manifest of many stages has; YAML is read slowly, and all of it is in memory."""

_MAX_DIGITS = 100
"""More than any number of a manifest has."""

_PREFIX = "# sha256 of all that follows: "


def seal(text: str) -> str:
    """`text` under a first line that holds its sha256; `read_sealed` gives `text` back."""
    return f"{_PREFIX}{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def read_sealed(path: Path) -> tuple[str, str]:
    """The text of a sealed file and its sha256 (hex).

    Raises `BundleCorrupt` where the file is missing, `FileChanged` where it has no seal or differs from it
    in one byte, `FileTooLarge` where it holds more than `MAX_SEALED_BYTES`.
    """
    return unsealed(read_bounded(path, MAX_SEALED_BYTES), path)


def unsealed(raw: bytes, where: Path | str) -> tuple[str, str]:
    """The text and sha256 (hex) of a sealed file's bytes; `where` they come from is for the message.

    Raises `FileChanged` where they have no seal or differ from it, `BundleCorrupt` where they are no text.
    """
    first, newline, body = raw.partition(b"\n")
    digest = hashlib.sha256(body).hexdigest()
    if not newline or first != f"{_PREFIX}{digest}".encode():
        raise FileChanged(
            f"{where}: differs from the sha256 in its first line; it was edited by hand or damaged: "
            "copy the bundle again, or export it anew"
        )
    try:
        return body.decode(), digest
    except UnicodeDecodeError as error:
        raise BundleCorrupt(f"{where}: is not UTF-8 text ({error.reason})") from error


class _PlainLoader(yaml.SafeLoader):
    """Without aliases: nine of nine of nine … fill the memory, and no writer of ours makes them.

    And without long numbers: `1:1:1:…` is one to the base of 60, and 250 kB of it take ten seconds.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias (*name); write it out")
        return super().compose_node(parent, index)

    def construct_number(self, node: yaml.ScalarNode) -> object:
        if len(node.value) > _MAX_DIGITS:
            raise yaml.YAMLError(f"it holds a number of {len(node.value)} characters")
        if node.tag.endswith(":int"):
            return self.construct_yaml_int(node)
        return self.construct_yaml_float(node)


for _kind in ("int", "float"):
    _PlainLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _PlainLoader.construct_number)


def plain_data(text: str) -> object:
    """The data of a YAML document: mappings, sequences, text, numbers; no tag runs code.

    Raises `ValueError`, in a sentence, for whatever can't be read.
    """
    try:
        return yaml.load(text, _PlainLoader)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    # PyYAML lets through what its constructors stumble over: a 13th month, `!!bool maybe`, `!!int ""`.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        raise ValueError(f"it is not YAML of plain data ({error})") from error


def file_sha256(path: Path) -> str:
    """The sha256 (hex) of a file's bytes; raises `OSError`."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, whole; raises `OSError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
