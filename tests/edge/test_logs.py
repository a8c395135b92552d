"""What a log line looks like, in the journal and elsewhere."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.logs import JournalFormatter, PlainFormatter


def _record(
    message: str = "the camera is gone", level: int = logging.WARNING, **extra: object
) -> logging.LogRecord:
    return logging.getLogger("edge.camera").makeRecord(
        "edge.camera", level, "camera.py", 1, message, (), None, extra=extra
    )


def test_what_came_as_extra_is_key_and_value() -> None:
    line = JournalFormatter().format(_record(serial="123456789012", attempt=3, why="no answer"))
    assert line == '<4>edge.camera: the camera is gone serial=123456789012 attempt=3 why="no answer"'


def test_elsewhere_there_is_a_time_and_no_level_in_brackets() -> None:
    line = PlainFormatter().format(_record(attempt=3))
    assert re.fullmatch(r"\d{4}-\S+ \S+ WARNING edge\.camera: the camera is gone attempt=3", line)


@pytest.mark.parametrize(
    ("level", "told"),
    [(logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7)],
)
def test_levels_are_syslogs(level: int, told: int) -> None:
    assert JournalFormatter().format(_record(level=level)).startswith(f"<{told}>")


def test_each_line_of_a_traceback_has_the_level() -> None:
    record = _record(level=logging.ERROR)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record.exc_info = sys.exc_info()
    lines = JournalFormatter().format(record).splitlines()
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)


def test_a_thread_beside_the_main_one_is_named() -> None:
    records: list[logging.LogRecord] = []
    thread = threading.Thread(target=lambda: records.append(_record()), name="inspect")
    thread.start()
    thread.join()
    assert JournalFormatter().format(records[0]).endswith("gone thread=inspect")


@settings(deadline=None)
@given(st.text())
def test_no_value_can_pretend_to_be_another_line_or_key(value: str) -> None:
    line = JournalFormatter().format(_record(why=value, after=1))
    prefix, told = line.removesuffix(" after=1").split(" why=", 1)
    assert prefix == "<4>edge.camera: the camera is gone"
    assert told == value or json.loads(told) == value
    assert not set(told) & {"\n", "\r", "\0"}
