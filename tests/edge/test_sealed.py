from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.errors import BundleCorrupt, FileTooLarge
from edge.sealed import MAX_SEALED_BYTES, file_sha256, plain_data, read_sealed, seal, write_atomically

TEXT = "schema_version: 1\nproduct: Schraube M8 × 40\nthreshold: 0.25\n"
SEALED = seal(TEXT).encode()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_sealed_is_read_back_with_its_digest(text: str) -> None:
    path = Path(f"/dev/fd/{_file_with(seal(text).encode())}")
    try:
        assert read_sealed(path) == (text, hashlib.sha256(text.encode()).hexdigest())
    finally:
        os.close(int(path.name))


def _file_with(data: bytes) -> int:
    """A file without a name that holds `data`."""
    number = os.memfd_create("sealed")
    os.write(number, data)
    return number


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SEALED) - 1), st.integers(0, 7))
@example(SEALED.index(b"\n"), 0)
@example(len(SEALED) - 1, 7)
@example(0, 0)
def test_one_bit_changed_anywhere_breaks_the_seal(position: int, bit: int) -> None:
    changed = bytearray(SEALED)
    changed[position] ^= 1 << bit
    number = _file_with(bytes(changed))
    try:
        with pytest.raises(BundleCorrupt, match="differs from the sha256 in its first line"):
            read_sealed(Path(f"/dev/fd/{number}"))
    finally:
        os.close(number)


@given(st.integers(0, len(SEALED) - 1), st.binary(min_size=1, max_size=4))
def test_one_cut_short_or_grown_is_not_read(length: int, more: bytes) -> None:
    for changed in (SEALED[:length], SEALED + more):
        number = _file_with(changed)
        try:
            with pytest.raises(BundleCorrupt, match="copy the bundle again"):
                read_sealed(Path(f"/dev/fd/{number}"))
        finally:
            os.close(number)


def test_a_whole_seal_over_what_is_not_text(tmp_path: Path) -> None:
    body = b"\xff\xfe not text"
    (tmp_path / "f").write_bytes(
        b"# sha256 of all that follows: " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    )
    with pytest.raises(BundleCorrupt, match="UTF-8"):
        read_sealed(tmp_path / "f")


def test_a_missing_file_and_a_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(BundleCorrupt, match="is missing"):
        read_sealed(tmp_path / "manifest.yaml")
    with pytest.raises(BundleCorrupt, match="Is a directory"):
        read_sealed(tmp_path)


def test_the_digest_of_a_file_larger_than_a_chunk(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "f").write_bytes(data)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(data).hexdigest()
    with pytest.raises(FileNotFoundError):
        file_sha256(tmp_path / "missing")


_WRITE_TOO_MUCH = """
import resource, sys
from pathlib import Path
from edge.sealed import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    write_atomically(Path(sys.argv[1]), b"n" * 1_000_000)
except OSError as error:
    print(type(error).__name__, error.strerror)
"""


def test_a_write_that_fails_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "calibration.yaml"
    write_atomically(path, b"old")
    done = subprocess.run(
        [sys.executable, "-c", _WRITE_TOO_MUCH, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "OSError File too large\n"
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["calibration.yaml"]


def test_a_reader_sees_the_old_file_or_the_new_one_and_never_a_part(tmp_path: Path) -> None:
    path = tmp_path / "f"
    contents = [bytes([65 + i]) * 200_000 for i in range(2)]
    write_atomically(path, contents[0])
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(30):
            write_atomically(path, contents[number % 2])
    finally:
        done.set()
        reader.join()
    assert seen
    assert seen <= set(contents)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "f", b"")


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch executed']",
        "!!python/name:os.system",
        "a: !!python/object:edge.frame.Frame {}",
        "a: 2030-13-45",
        "!!bool maybe",
        '!!int ""',
        "!!timestamp soon",
        "? {a: b}\n: c",
        "a: [",
        "a: \x00",
        "[" * 3000,
        "a: &a [x]\nb: *a",
        "--- a\n--- b",
    ],
)
def test_yaml_that_is_no_plain_data_is_a_sentence_and_runs_nothing(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="it is n"):
        plain_data(text)
    assert list(tmp_path.iterdir()) == []


@given(st.text(max_size=40))
def test_any_text_is_data_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        plain_data(text)


@pytest.mark.parametrize(
    "number", ["1:" * 60_000 + "1", "9" * 120_000, "1." + "1" * 120_000, "0x" + "f" * 120_000]
)
def test_a_number_that_takes_longer_to_read_than_to_write_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="it holds a number of 12000"):
        plain_data(f"a: {number}")


def test_ordinary_numbers_are_read() -> None:
    text = "[1, -2, 0x10, 1.5, 1e400, .inf, 1:30, 18446744073709551616]"
    assert plain_data(text) == [1, -2, 16, 1.5, "1e400", float("inf"), 90, 2**64]


def test_a_sealed_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_text(seal("a: " + "x" * MAX_SEALED_BYTES))
    with pytest.raises(FileTooLarge, match=str(MAX_SEALED_BYTES)):
        read_sealed(tmp_path / "f")
