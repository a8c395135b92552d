"""Looks a `.db3` recording through before it is played: librealsense ends early on damage, and says nothing.

A `.db3` is a rosbag2 in SQLite (tables `topics` and `messages`). Since librealsense 2.59 its images are
PNGs, whose chunks carry a CRC-32 each: with that every damaged image is found. SQLite's own check finds
damage to the tables' structure. The small texts beside the images have no checksum: here they have to be
complete and well-formed (librealsense searches for ever for a topic whose name is damaged), and the depth
unit and the intrinsics, which stand there more than once, have to agree. A changed digit of the extrinsics
is not found. librealsense 2.58 packs each message with Zstandard, without a checksum: of such a file only the
frames are counted.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore

from edge.errors import RecordingCorrupt

__all__ = ["Db3Contents", "check_db3"]

_IMAGE = re.compile(r"/device_\d+/sensor_\d+/(Depth|Color)_\d+/image/data(/\w+)?")
_METADATA = re.compile(r"/device_\d+/sensor_\d+/(Depth|Color)_\d+/image/metadata")
_STREAM = re.compile(r"(/device_\d+/sensor_\d+/(?:Depth|Color)_\d+)/image/data(?:/\w+)?")
_OPTION = re.compile(r"(/device_\d+/sensor_\d+/option/\w+)/(?:value|description)")
_OPTION_UNIT = re.compile(r"/device_\d+/sensor_\d+/option/Depth_Units/value")
_UNIT = re.compile(rb"depth_units=([^;\x00]*)")
_NUMBER = re.compile(rb"Frame number=(\d+);")
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Db3Contents:
    """What a `.db3` holds; `unchecked_images` are stored in a form that has no checksum of its own.

    `depth_unit_m` is None where it can't be read without librealsense (2.58).
    """

    depth_frames: int
    colour_frames: int
    depth_unit_m: float | None
    unchecked_images: int


def check_db3(path: Path) -> Db3Contents:
    """Count the frames and look for damage; reads the whole file.

    Raises `RecordingCorrupt`, saying what is damaged.
    """
    for leftover in ("-journal", "-wal"):
        if path.with_name(path.name + leftover).exists():
            raise RecordingCorrupt(f"{path}: was never finished ({path.name}{leftover} lies beside it)")
    try:
        # `immutable`: looking at a recording must not create or roll back anything beside it.
        uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            database.text_factory = bytes
            return _check(path, database)
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
        raise RecordingCorrupt(f"{path}: is not a whole recording ({error}); record it again") from error


def _check(path: Path, database: sqlite3.Connection) -> Db3Contents:
    verdict = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != b"ok":
        says = " ".join(verdict.decode(errors="replace").split())
        raise RecordingCorrupt(f"{path}: is damaged (SQLite says: {says})")
    topics = {key: name.decode("ascii") for key, name in database.execute("SELECT id, name FROM topics")}
    packed = _is_packed(database)
    _check_topics(path, topics, packed=packed)
    _check_texts(path, database, packed=packed)
    images: dict[str, int] = {"Depth": 0, "Color": 0}
    texts: dict[str, list[bytes]] = {"Depth": [], "Color": []}
    unchecked = 0
    for key, name in topics.items():
        if image := _IMAGE.fullmatch(name):
            for row, data in _rows(database, key):
                images[image[1]] += 1
                start = data.find(_PNG, 0, 256)
                if start < 0:
                    unchecked += 1
                elif (flaw := _png_flaw(data, start)) is not None:
                    raise RecordingCorrupt(f"{path}: the image in row {row} ({name}) is damaged: {flaw}")
        elif metadata := _METADATA.fullmatch(name):
            texts[metadata[1]] += [data for _, data in _rows(database, key)]
    if images["Depth"] == 0 or images["Color"] == 0:
        raise RecordingCorrupt(
            f"{path}: holds {images['Depth']} depth and {images['Color']} colour images; both are needed"
        )
    for stream, count in images.items():
        if len(texts[stream]) != count:
            raise RecordingCorrupt(
                f"{path}: {count} {stream} images but {len(texts[stream])} descriptions of them; "
                "the recording was cut off"
            )
        if not packed:
            _check_numbers(path, stream, texts[stream])
    if not packed:
        _check_intrinsics(path, database, topics)
    return Db3Contents(
        depth_frames=images["Depth"],
        colour_frames=images["Color"],
        depth_unit_m=None if packed else _depth_unit_m(path, database, topics, texts["Depth"]),
        unchecked_images=unchecked,
    )


def _is_packed(database: sqlite3.Connection) -> bool:
    first = database.execute("SELECT data FROM messages ORDER BY id LIMIT 1").fetchone()
    return first is not None and bytes(first[0]).startswith(_ZSTANDARD)


def _check_topics(path: Path, topics: dict[int, str], *, packed: bool) -> None:
    parts = ["info", "camera_info", "image/metadata"] + ([] if packed else ["image/camera_info"])
    names = set(topics.values())
    needed = {"/file_version", "/device_0/info", "/device_0/sensor_0/info"}
    for name in names:
        if stream := _STREAM.fullmatch(name):
            needed |= {f"{stream[1]}/{part}" for part in parts}
        elif option := _OPTION.fullmatch(name):
            needed |= {f"{option[1]}/value", f"{option[1]}/description"}
    if missing := sorted(needed - names):
        raise RecordingCorrupt(f"{path}: is damaged: it has no {missing[0]}")


def _check_texts(path: Path, database: sqlite3.Connection, *, packed: bool) -> None:
    """Each topic has a message, and each text (CDR: 4 bytes of encapsulation, length, text, 0) is whole."""
    for name, kind, key in database.execute("SELECT name, type, id FROM topics").fetchall():
        count = 0
        for row, data in _rows(database, key):
            count += 1
            if packed != data.startswith(_ZSTANDARD):
                raise RecordingCorrupt(f"{path}: the message in row {row} ({name.decode()}) is damaged")
            if not packed and kind == b"std_msgs/msg/String" and not _is_text(data):
                raise RecordingCorrupt(f"{path}: the text in row {row} ({name.decode()}) is damaged")
        if count == 0:
            raise RecordingCorrupt(f"{path}: is damaged: it has no message of {name.decode()}")


def _is_text(data: bytes) -> bool:
    length = int.from_bytes(data[4:8], "little")
    text = data[8 : 8 + length]
    return (
        data[:4] == b"\x00\x01\x00\x00"
        and 8 + length <= len(data) < 8 + length + 4
        and text[-1:] == b"\x00"
        and text[:-1].isascii()
        and text[:-1].replace(b"\n", b" ").decode("ascii").isprintable()
    )


def _rows(database: sqlite3.Connection, topic: int) -> Iterator[tuple[int, bytes]]:
    for row, data in database.execute(
        "SELECT id, data FROM messages WHERE topic_id = ? ORDER BY id", (topic,)
    ):
        yield row, bytes(data)


def _png_flaw(data: bytes, start: int) -> str | None:
    """What is wrong with the PNG that begins at `start` and fills the rest; None where its CRCs hold."""
    view = memoryview(data)
    at = start + len(_PNG)
    while at + 12 <= len(data):
        length = int.from_bytes(view[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(data):
            return "a chunk of the PNG reaches past the end"
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return "its CRC does not hold"
        if data[at + 4 : at + 8] == b"IEND":
            return None
        at = end + 4
    return "the PNG has no end"


def _check_numbers(path: Path, stream: str, texts: list[bytes]) -> None:
    numbers = [int(found[1]) if (found := _NUMBER.search(text)) else -1 for text in texts]
    for before, after in itertools.pairwise(numbers):
        if after <= before:
            raise RecordingCorrupt(
                f"{path}: {stream} frame {after} follows frame {before}; the recording is damaged"
            )


def _check_intrinsics(path: Path, database: sqlite3.Connection, topics: dict[int, str]) -> None:
    """The stream's intrinsics, a text, against the matrix that was written with each of its frames."""
    types = get_typestore(Stores.ROS2_HUMBLE)
    ids = {name: key for key, name in topics.items()}
    for stream in sorted(found[1] for name in ids if (found := _STREAM.fullmatch(name))):
        texts = [_pairs(data) for _, data in _rows(database, ids[f"{stream}/camera_info"])]
        for row, data in _rows(database, ids[f"{stream}/image/camera_info"]):
            try:
                info: Any = types.deserialize_cdr(data, "sensor_msgs/msg/CameraInfo")
                written = [
                    [float(np.float32(text[key])) for key in ("width", "height", "fx", "fy", "ppx", "ppy")]
                    for text in texts
                ]
            except (SerdeError, KeyError, ValueError, IndexError, UnicodeDecodeError, struct.error) as error:
                raise RecordingCorrupt(
                    f"{path}: the intrinsics of {stream} can't be read ({error})"
                ) from error
            k = info.k
            read = [float(np.float32(v)) for v in (info.width, info.height, k[0], k[4], k[2], k[5])]
            if any(values != read for values in written):
                raise RecordingCorrupt(
                    f"{path}: {stream} has intrinsics {written[0]}, row {row} says {read}; it is damaged"
                )


def _pairs(data: bytes) -> dict[str, str]:
    return dict(
        pair.split("=", 1) for pair in data[8:].rstrip(b"\x00").decode("ascii").split(";") if "=" in pair
    )


def _depth_unit_m(
    path: Path, database: sqlite3.Connection, topics: dict[Any, str], texts: list[bytes]
) -> float:
    written = {found[1] if (found := _UNIT.search(text)) else b"" for text in texts}
    for key, name in topics.items():
        if _OPTION_UNIT.fullmatch(name):
            for _, data in _rows(database, key):
                # CDR: four bytes of encapsulation, four of length, the text, a zero.
                written.add(data[8:].rstrip(b"\x00"))
    try:
        units = {float(text) for text in written}
    except ValueError as error:
        raise RecordingCorrupt(f"{path}: a frame's depth unit can't be read ({error})") from error
    if len(units) != 1 or not 0 < (unit_m := units.pop()) < 1:
        raise RecordingCorrupt(
            f"{path}: its depth units are {sorted(text.decode(errors='replace') for text in written)}; "
            "one unit, above 0, must hold for all frames"
        )
    return unit_m
