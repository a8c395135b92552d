"""Where logs go and how they look: lines with a level and key=value for the journal, easy to read elsewhere.

Whoever logs gives what a program may look for as `extra`: `_log.warning("the camera is gone",
extra={"serial": serial, "attempt": 3})` is `<4>edge.camera: the camera is gone serial=123456789012 attempt=3`
in the journal. One writes no password there, nor what could hold one.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from logging import LogRecord

__all__ = ["JournalFormatter", "PlainFormatter", "set_up_logging", "stderr_is_the_journal"]

# systemd reads a syslog level in angle brackets from the start of a line (sd-daemon(3)).
_JOURNAL_LEVELS = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What each record has; the rest of its attributes came as `extra`."""

_BARE = re.compile(r'[^\s"=\\]+')


def set_up_logging(verbose: bool = False) -> None:
    """Log to stderr: for the journal under systemd, with times elsewhere. `verbose` logs debug, too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JournalFormatter() if stderr_is_the_journal() else PlainFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)


def stderr_is_the_journal() -> bool:
    """JOURNAL_STREAM names device and inode of the journal's socket; children inherit it elsewhere too."""
    named = os.environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # stderr is closed, or no file
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


class PlainFormatter(logging.Formatter):
    """Time, level, logger, message, and key=value for what came as `extra`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: LogRecord) -> str:  # noqa: N802 (the name that logging calls)
        return super().formatMessage(record) + _pairs(record)


class JournalFormatter(logging.Formatter):
    """`<level>logger: message key=value`; the journal has the time, and the main thread needs no name.

    Each line has the level: the journal takes lines, not messages.
    """

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def formatMessage(self, record: LogRecord) -> str:  # noqa: N802 (the name that logging calls)
        thread = record.threadName
        named = {} if thread is None or thread == "MainThread" else {"thread": thread}
        return super().formatMessage(record) + _pairs(record, named)

    def format(self, record: LogRecord) -> str:
        level = _JOURNAL_LEVELS.get(record.levelno, 6)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).split("\n"))


def _pairs(record: LogRecord, more: Mapping[str, str] | None = None) -> str:
    extra = {key: value for key, value in vars(record).items() if key not in _OWN}
    return "".join(f" {key}={_value(value)}" for key, value in {**extra, **(more or {})}.items())


def _value(value: object) -> str:
    """As it is where it is one plain word, else in quotes, with a line's end as `\\n`."""
    text = str(value)
    return text if _BARE.fullmatch(text) and text.isprintable() else json.dumps(text, ensure_ascii=False)
