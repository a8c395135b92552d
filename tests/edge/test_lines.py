"""A log of lines: whole lines in order, bounded pieces, and what a crash or a full disk leaves of it."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.lines import Lines
from tests.edge.small_disk import fill, mounted


def log_in(folder: Path, piece_bytes: int = 1000, pieces: int = 3) -> Lines:
    return Lines(folder / "log.jsonl", piece_bytes=piece_bytes, pieces=pieces)


def test_lines_come_back_in_order_over_reopenings(tmp_path: Path) -> None:
    for number in range(5):
        log_in(tmp_path / "new").add(b"line %d" % number, durable=number % 2 == 0)
    assert list(log_in(tmp_path / "new").read()) == [b"line %d" % n for n in range(5)]
    assert list(log_in(tmp_path / "none").read()) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=40))
def test_the_newest_stay_and_the_size_is_bounded(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = log_in(folder)
    lines = [b"%d:%s" % (number, b"x" * size) for number, size in enumerate(sizes)]
    for line in lines:
        log.add(line, durable=False)
    kept = list(log.read())
    assert kept == lines[len(lines) - len(kept) :]
    if sum(len(line) + 1 for line in lines) < 1000:
        assert kept == lines
    assert len(list(folder.iterdir())) <= 3
    assert all(path.stat().st_size <= 1000 for path in folder.iterdir())


def test_a_line_that_a_crash_tore_stays_alone(tmp_path: Path) -> None:
    log_in(tmp_path).add(b"first", durable=True)
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"torn": ')
    log_in(tmp_path).add(b"second", durable=True)
    assert list(log_in(tmp_path).read()) == [b"first", b'{"torn": ', b"second"]


def test_somebody_may_take_the_file_away(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.add(b"first", durable=True)
    (tmp_path / "log.jsonl").unlink()
    log.add(b"second", durable=True)
    assert list(log.read()) == [b"second"]


def test_many_threads_add_whole_lines(tmp_path: Path) -> None:
    log = log_in(tmp_path, piece_bytes=1 << 20)
    lines = [b"%d:%s" % (number, b"y" * (number % 90)) for number in range(600)]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(log.add, line, durable=n % 50 == 0) for n, line in enumerate(lines)]:
            done.result()
    assert sorted(log.read()) == sorted(lines)


def test_on_a_full_disk_it_is_an_error_and_nothing_of_the_line_is_there(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", size_mb=2) as disk:
        log = Lines(disk / "log.jsonl", piece_bytes=1 << 22, pieces=2)
        log.add(b"first", durable=True)
        fill(disk)
        kept = 1 + add_until_full(log)
        (disk / "hog").unlink()
        log.add(b"last", durable=True)
        assert list(log.read()) == [b"first", *([b"z" * 1000] * (kept - 1)), b"last"]


def add_until_full(log: Lines) -> int:
    """How many lines there was room for."""
    for number in range(1000):
        try:
            log.add(b"z" * 1000, durable=True)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return number
    raise AssertionError("the disk is not full")
