"""A bundle's .zip: the same bytes each time, and nothing but a whole bundle of a stranger's is kept."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge.archive import ArchiveLimits, pack_bundle, unpack_bundle
from edge.bundle import MANIFEST_FILE, load_bundle
from edge.errors import (
    ArchiveInvalid,
    BundleCorrupt,
    BundleError,
    EdgeError,
    FileChanged,
    FileTooLarge,
    PathEscapes,
    SignatureMissing,
    ZipBomb,
)
from edge.signature import SIGNATURE_FILE, PublicKey
from edge.signing import sign_bundle
from tests.fuzzing import cases
from tests.tiny_bundle import make_tiny_bundle

KEY = Ed25519PrivateKey.generate()
TRUSTED = [PublicKey.of(KEY.public_key(), "a test")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_tiny_bundle(tmp_path_factory.mktemp("archive") / "whole", golden=1)
    sign_bundle(folder, KEY)
    return folder


@pytest.fixture(scope="module")
def packed(whole: Path) -> Path:
    archive = whole.parent / "whole.zip"
    pack_bundle(whole, archive)
    return archive


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A folder in which nothing may be left, nor changed beside it, where a test says that it fails."""
    room = tmp_path / "outer" / "room"
    room.mkdir(parents=True)
    return room


def left_in(room: Path) -> list[str]:
    return [str(path.relative_to(room.parent)) for path in room.parent.rglob("*") if path != room]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


Entry = tuple[str | zipfile.ZipInfo, bytes]


def zipped(path: Path, entries: list[Entry], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def entries_of(folder: Path) -> list[Entry]:
    return list(files_of(folder).items())


def test_what_was_packed_is_unpacked(whole: Path, packed: Path, room: Path) -> None:
    bundle = unpack_bundle(packed, room / "gland")
    assert files_of(room / "gland") == files_of(whole)
    assert bundle == load_bundle(room / "gland")
    assert left_in(room) == [f"room/{name}" for name in ("gland",)] + [
        str(path.relative_to(room.parent)) for path in (room / "gland").rglob("*")
    ]


def test_packing_gives_the_same_bytes_each_time(whole: Path, packed: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    for number, path in enumerate(sorted(copy.rglob("*"), reverse=True)):
        os.utime(path, (1e9 + number, 1e9))
        path.chmod(0o700)
    pack_bundle(copy, tmp_path / "copy.zip")
    assert (tmp_path / "copy.zip").read_bytes() == packed.read_bytes()


def test_a_signature_travels_along_and_is_asked_for(whole: Path, packed: Path, room: Path) -> None:
    assert unpack_bundle(packed, room / "signed", trusted_keys=TRUSTED).signed_by == TRUSTED[0]
    bare = zipped(room / "bare.zip", [(n, d) for n, d in entries_of(whole) if n != SIGNATURE_FILE])
    with pytest.raises(SignatureMissing):
        unpack_bundle(bare, room / "bare", trusted_keys=TRUSTED)
    assert sorted(path.name for path in room.iterdir()) == ["bare.zip", "signed"]


def test_a_zip_of_another_tool_is_taken(whole: Path, room: Path) -> None:
    """Deflated, with entries for the folders, in another order."""
    entries = [("golden/", b""), *reversed(entries_of(whole))]
    made = zipped(room / "tool.zip", entries, zipfile.ZIP_DEFLATED)
    unpack_bundle(made, room / "gland")
    assert files_of(room / "gland") == files_of(whole)


@pytest.mark.skipif(shutil.which("zip") is None, reason="no zip(1)")
def test_info_zip_s_archive_is_taken(whole: Path, room: Path) -> None:
    subprocess.run(["zip", "-qr", str(room / "it.zip"), "."], cwd=whole, check=True)
    unpack_bundle(room / "it.zip", room / "gland")
    assert files_of(room / "gland") == files_of(whole)


def test_a_damaged_bundle_is_not_packed(whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    (copy / "shape.onnx").write_bytes(b"")
    with pytest.raises(FileChanged):
        pack_bundle(copy, tmp_path / "copy.zip")
    assert not (tmp_path / "copy.zip").exists()


def test_nothing_is_written_over(whole: Path, packed: Path, room: Path) -> None:
    for there in (room / "a", room / "b"):
        there.mkdir() if there.name == "a" else there.write_text("mine")
        with pytest.raises(BundleError, match="exists already"):
            unpack_bundle(packed, there)
        with pytest.raises(BundleError, match="exists already"):
            pack_bundle(whole, there)
    assert list((room / "a").iterdir()) == []
    assert (room / "b").read_text() == "mine"


LIMITS = ArchiveLimits()


def refused(made: Path, room: Path, kind: type[EdgeError], limits: ArchiveLimits = LIMITS) -> str:
    """Unpack what must not be; nothing may be there afterwards."""
    with pytest.raises(kind) as caught:
        unpack_bundle(made, room / "into", limits)
    assert left_in(room) == []
    assert str(made) in str(caught.value) or "into" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "/tmp/evil", "golden/../../evil", "..", "a\\..\\..\\evil", "C:\\evil", "C:evil",
        "//evil", "golden/\x00/../../evil", "../", "golden/..",
    ],
)  # fmt: skip
def test_a_name_that_leads_out_is_refused(whole: Path, room: Path, tmp_path: Path, name: str) -> None:
    made = _with_name(zipped(tmp_path / "evil.zip", [*entries_of(whole), (_stand_in(name), b"evil")]), name)
    assert repr(name)[1:-1] in refused(made, room, PathEscapes)


def _stand_in(name: str) -> str:
    return "Q" * len(name)


def _with_name(made: Path, name: str) -> Path:
    """Put the name into the archive's bytes, as its last file's: `zipfile` would mend it on the way in."""
    with zipfile.ZipFile(made) as archive:
        local = archive.infolist()[-1].header_offset + 30
    data, text = bytearray(made.read_bytes()), name.encode()
    for at in (local, data.rindex(_stand_in(name).encode())):
        data[at : at + len(text)] = text
    made.write_bytes(bytes(data))
    return made


@pytest.mark.parametrize(
    "name",
    [
        "./x",
        "a//b",
        ".hidden",
        "golden/.x",
        "a/b/c/d/e",
        "größe",
        "x\n",
        " x",
        "x" * 101,
        "xx:y",
        "-rf",
        "a b",
    ],
)
def test_a_name_that_not_every_system_holds_is_refused(
    whole: Path, room: Path, tmp_path: Path, name: str
) -> None:
    made = zipped(tmp_path / "odd.zip", [*entries_of(whole), (name, b"")])
    assert "has a name" in refused(made, room, ArchiveInvalid)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("colour.onnx", "colour.onnx"),
        ("colour.onnx", "Colour.ONNX"),
        ("golden/000.npz", "GOLDEN/000.npz"),
        ("colour.onnx", "colour.onnx/"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_names_for_one_file_are_refused(
    whole: Path, room: Path, tmp_path: Path, one: str, other: str
) -> None:
    made = zipped(tmp_path / "two.zip", [*entries_of(whole), (other, b"")])
    assert "can be one file" in refused(made, room, ArchiveInvalid)


def test_a_file_that_is_a_folder_too_is_refused(whole: Path, room: Path, tmp_path: Path) -> None:
    made = zipped(tmp_path / "both.zip", [*entries_of(whole), ("golden", b"")])
    assert "is a file and holds" in refused(made, room, ArchiveInvalid)


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFDIR]
)
def test_what_is_no_file_is_refused(whole: Path, room: Path, tmp_path: Path, kind: int) -> None:
    info = zipfile.ZipInfo("link.onnx")
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    made = zipped(tmp_path / "link.zip", [*entries_of(whole), (info, b"/etc/passwd")])
    assert ("is a link" if kind == stat.S_IFLNK else "neither") in refused(made, room, ArchiveInvalid)


def test_no_right_of_an_archive_is_taken_over(whole: Path, room: Path) -> None:
    entries: list[Entry] = []
    for name, data in files_of(whole).items():
        info = zipfile.ZipInfo(name)
        info.external_attr = (stat.S_IFREG | 0o6777) << 16
        entries.append((info, data))
    unpack_bundle(zipped(room / "rights.zip", entries), room / "gland")
    assert all(not path.stat().st_mode & 0o7111 for path in (room / "gland").rglob("*") if path.is_file())


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_compression_is_refused(whole: Path, room: Path, tmp_path: Path, method: int) -> None:
    made = zipped(tmp_path / "odd.zip", entries_of(whole), method)
    assert f"by method {method}" in refused(made, room, ArchiveInvalid)


def test_an_encrypted_file_is_refused(room: Path, tmp_path: Path, whole: Path) -> None:
    made = zipped(tmp_path / "locked.zip", entries_of(whole))
    data = bytearray(made.read_bytes())
    with zipfile.ZipFile(made) as archive:
        directory = archive.start_dir
    data[directory + 8] |= 1  # the general flags of the first file in the directory
    made.write_bytes(bytes(data))
    assert "is encrypted" in refused(made, room, ArchiveInvalid)


def test_a_bomb_is_refused_by_what_it_says_of_itself(whole: Path, room: Path, tmp_path: Path) -> None:
    zeros = bytes(20 << 20)
    made = zipped(tmp_path / "bomb.zip", [*entries_of(whole), ("zeros", zeros)], zipfile.ZIP_DEFLATED)
    assert made.stat().st_size < 100_000
    assert f"to {len(zeros)} bytes" in refused(made, room, ZipBomb)


def test_many_small_bombs_are_one(whole: Path, room: Path, tmp_path: Path) -> None:
    zeros = bytes(900_000)  # each below the size from which a ratio counts
    entries = [*entries_of(whole), *((f"z{number}", zeros) for number in range(100))]
    made = zipped(tmp_path / "bombs.zip", entries, zipfile.ZIP_DEFLATED)
    assert "are allowed" in refused(made, room, ZipBomb)


def test_files_that_share_their_bytes_are_a_bomb(room: Path, tmp_path: Path) -> None:
    """As in Fifield's zip bomb (USENIX WOOT 2019): many entries of the directory name one file's bytes."""
    made = zipped(tmp_path / "overlap.zip", [("a", os.urandom(100_000))])
    data = made.read_bytes()
    with zipfile.ZipFile(made) as archive:
        start = archive.start_dir
    entry, end = data[start:-22], bytearray(data[-22:])
    entries = b"".join(entry[:46] + b"abcdefgh"[n : n + 1] + entry[47:] for n in range(8))
    struct.pack_into("<HHI", end, 8, 8, 8, len(entries))
    made.write_bytes(data[:start] + entries + bytes(end))
    assert "no byte may stand for two files" in refused(made, room, ZipBomb)


def test_a_size_that_is_a_lie_is_found_as_it_is_unpacked(whole: Path, room: Path, tmp_path: Path) -> None:
    made = zipped(tmp_path / "lie.zip", [*entries_of(whole), ("zeros", bytes(1 << 20))], zipfile.ZIP_DEFLATED)
    data = made.read_bytes()
    made.write_bytes(data.replace(struct.pack("<I", 1 << 20), struct.pack("<I", 1000)))
    refused(made, room, ArchiveInvalid)


def test_limits_are_held(whole: Path, packed: Path, room: Path) -> None:
    files = files_of(whole)
    largest, total = max(map(len, files.values())), packed.stat().st_size
    refused(packed, room, ZipBomb, ArchiveLimits(max_files=len(files) - 1))
    refused(packed, room, FileTooLarge, ArchiveLimits(max_file_bytes=largest - 1))
    refused(packed, room, FileTooLarge, ArchiveLimits(max_total_bytes=total - 1))
    unpack_bundle(packed, room / "gland", ArchiveLimits(len(files), largest, total))


def test_a_directory_of_millions_is_not_read(room: Path, tmp_path: Path) -> None:
    made = tmp_path / "many.zip"
    directory = 600_000_000  # as told; it need not be there for the memory to be asked for
    made.write_bytes(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, directory, 0, 0))
    assert "a directory of 600000000 bytes" in refused(made, room, ZipBomb)


def test_the_format_for_more_than_4_gb_is_refused(room: Path, tmp_path: Path, whole: Path) -> None:
    made = zipped(tmp_path / "64.zip", entries_of(whole))
    data = made.read_bytes()
    made.write_bytes(data[:-22] + b"PK\x06\x07" + bytes(16) + data[-22:])
    assert "more than 4 GB" in refused(made, room, ArchiveInvalid)


@pytest.mark.parametrize("data", [b"", b"PK", b"words" * 20, b"PK\x05\x06" + bytes(18), b"\x80\x04K\x01."])
def test_what_is_no_zip_is_refused(room: Path, tmp_path: Path, data: bytes) -> None:
    made = tmp_path / "none.zip"
    made.write_bytes(data)
    with pytest.raises(BundleError):  # an archive of nothing is one, and holds no bundle
        unpack_bundle(made, room / "into")
    assert left_in(room) == []


def test_a_zip_that_is_missing_a_folder_or_a_pipe_is_refused(room: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    for name in ("missing.zip", ".", "pipe.zip"):
        refused(tmp_path / name, room, ArchiveInvalid)


@pytest.mark.parametrize("cut", [1, 22, 23, 1000])
def test_a_zip_cut_short_is_refused(packed: Path, room: Path, tmp_path: Path, cut: int) -> None:
    (tmp_path / "short.zip").write_bytes(packed.read_bytes()[:-cut])
    refused(tmp_path / "short.zip", room, ArchiveInvalid)


def test_a_bundle_in_a_folder_of_the_zip_is_refused(whole: Path, room: Path, tmp_path: Path) -> None:
    made = zipped(
        tmp_path / "nested.zip", [(f"gland/{name}", data) for name, data in files_of(whole).items()]
    )
    assert MANIFEST_FILE in refused(made, room, BundleCorrupt)


def test_a_whole_zip_of_a_damaged_bundle_is_refused(whole: Path, room: Path, tmp_path: Path) -> None:
    made = zipped(tmp_path / "bad.zip", [(n, d[:-1] + b"x") for n, d in files_of(whole).items()])
    refused(made, room, FileChanged)


_WITH_A_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from edge.archive import pack_bundle, unpack_bundle
from edge.errors import BundleError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit then fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
work = {"pack": pack_bundle, "unpack": unpack_bundle}[sys.argv[1]]
try:
    work(Path(sys.argv[2]), Path(sys.argv[3]))
except BundleError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("what", ["pack", "unpack"])
def test_a_disk_that_is_full_leaves_nothing(whole: Path, packed: Path, room: Path, what: str) -> None:
    source = whole if what == "pack" else packed
    done = subprocess.run(
        [sys.executable, "-c", _WITH_A_FULL_DISK, what, str(source), str(room / "into")],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.startswith("BundleError"), done.stdout
    assert "can't be written (File too large); nothing was left" in done.stdout
    assert left_in(room) == []


def test_more_than_the_disk_has_room_for_is_not_begun(
    packed: Path, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(room)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert "0.0 MB are free" in refused(packed, room, BundleError)


def test_a_place_that_can_t_be_written_to_is_named(whole: Path, packed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for work, source in ((pack_bundle, whole), (unpack_bundle, packed)):
        with pytest.raises(BundleError, match="can't be written"):
            work(source, tmp_path / "file" / "into")


@cases(150)
@given(st.data())
def test_a_damaged_zip_is_the_same_bundle_or_an_error_and_nothing_is_left(
    packed: Path, whole: Path, data: st.DataObject
) -> None:
    good = packed.read_bytes()
    # The directory at the end, and the headers before each file, are where a change means something.
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(
            st.one_of(st.integers(0, len(good) - 1), st.integers(len(good) - 700, len(good) - 1))
        )
        changed[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 0, 1, 30, 500]))
    with tempfile.TemporaryDirectory() as name:
        made, into = Path(name) / "x.zip", Path(name) / "room" / "into"
        into.parent.mkdir()
        made.write_bytes(bytes(changed)[: len(changed) - cut])
        try:
            unpack_bundle(made, into)
        except BundleError:
            assert list(into.parent.iterdir()) == []
        else:
            assert files_of(into) == files_of(whole)
