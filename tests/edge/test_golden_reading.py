"""Golden samples are read as what the manifest says: no pickle, no bomb, no strange array."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle import Bundle, FileSpec, Manifest, load_bundle
from edge.errors import BundleCorrupt, BundleError, FileChanged, GoldenInvalid, PickleRefused, ZipBomb
from edge.golden import FOREGROUND, read_golden
from edge.sealed import file_sha256
from tests.fuzzing import cases
from tests.tiny_bundle import make_tiny_bundle

Arrays = Mapping[str, Any]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(make_tiny_bundle(tmp_path_factory.mktemp("golden") / "b", golden=1))


@pytest.fixture(scope="module")
def arrays(bundle: Bundle) -> dict[str, Any]:
    with np.load(bundle.golden_files()[0]) as stored:
        return dict(stored)


def listed(manifest: Manifest, path: Path) -> Manifest:
    """The manifest as if it had been written for this sample."""
    spec = FileSpec(sha256=file_sha256(path), bytes=path.stat().st_size)
    return manifest.model_copy(update={"files": {**manifest.files, f"golden/{path.name}": spec}})


def read(manifest: Manifest, path: Path) -> dict[str, Any]:
    return read_golden(path, listed(manifest, path))


def saved(path: Path, arrays: Arrays) -> Path:
    np.savez_compressed(path, allow_pickle=True, **arrays)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_sample_is_read_as_it_was_written(
    bundle: Bundle, arrays: Arrays, tmp_path: Path, save: Callable[..., None]
) -> None:
    everything = {
        **arrays,
        "colour_map": np.zeros((1, 1, 8, 8), np.float32),
        FOREGROUND: np.eye(64, dtype=bool),
        "z": np.asfortranarray(arrays["z"]),
    }
    save(tmp_path / "s.npz", **everything)
    found = read(bundle.manifest, tmp_path / "s.npz")
    assert set(found) == set(everything)
    for name, array in everything.items():
        assert found[name].dtype == array.dtype
        assert found[name].flags.c_contiguous
        np.testing.assert_array_equal(found[name], array)


def test_those_of_a_bundle_are_read(bundle: Bundle, arrays: Arrays) -> None:
    for path in bundle.golden_files():
        assert set(read_golden(path, bundle.manifest)) == set(arrays) == {"image", "z", "mask", "anomaly_map"}


def test_a_sample_that_the_manifest_does_not_list_or_that_was_changed(
    bundle: Bundle, arrays: Arrays, tmp_path: Path
) -> None:
    path = saved(tmp_path / "s.npz", arrays)
    with pytest.raises(GoldenInvalid, match=r"lists no 'golden/s\.npz'"):
        read_golden(path, bundle.manifest)
    manifest = listed(bundle.manifest, path)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(FileChanged):
        read_golden(path, manifest)
    path.unlink()
    path.symlink_to(bundle.golden_files()[0])
    with pytest.raises(BundleCorrupt, match="is a link"):
        read_golden(path, manifest)


class Trap:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (os.mkdir, ("executed",))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_array_of_objects_is_refused_and_nothing_runs(bundle: Bundle, arrays: Arrays, here: Path) -> None:
    trap = np.empty(arrays["mask"].shape, object)
    trap[...] = Trap()
    for name in ("mask", "anomaly_map"):
        with pytest.raises(PickleRefused, match=f"'{name}': holds Python objects"):
            read(bundle.manifest, saved(here / "s.npz", {**arrays, name: trap}))
    assert not (here / "executed").exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_in_place_of_a_sample_or_of_an_array_is_refused(
    bundle: Bundle, here: Path, protocol: int
) -> None:
    pickled = pickle.dumps(Trap(), protocol)
    (here / "s.npz").write_bytes(pickled)
    with pytest.raises(PickleRefused, match=r"s\.npz: is pickled"):
        read(bundle.manifest, here / "s.npz")
    for name in ("mask.npy", "data.pkl"):
        with zipfile.ZipFile(here / "s.npz", "w") as archive:
            archive.writestr(name, pickled)
        with pytest.raises(PickleRefused, match="is pickled"):
            read(bundle.manifest, here / "s.npz")
    assert not (here / "executed").exists()


@pytest.mark.parametrize("protocol", [0, 1])
def test_an_old_pickle_is_no_sample(bundle: Bundle, here: Path, protocol: int) -> None:
    (here / "s.npz").write_bytes(pickle.dumps(Trap(), protocol))
    with pytest.raises(GoldenInvalid, match=r"is not an \.npz"):
        read(bundle.manifest, here / "s.npz")
    assert not (here / "executed").exists()


@pytest.mark.parametrize("name", ["weights.pt", "weights.PTH", "index.pkl", "forest.joblib", "data.bin"])
def test_a_bundle_that_lists_something_pickled_is_refused(bundle: Bundle, tmp_path: Path, name: str) -> None:
    """By its name, and where the name says nothing by its first bytes."""
    from tests.edge.test_bundle import rewrite

    folder = Path(shutil.copytree(bundle.path, tmp_path / "b"))
    (folder / name).write_bytes(pickle.dumps([1]) if name == "data.bin" else b"anything")
    spec = {"sha256": file_sha256(folder / name), "bytes": (folder / name).stat().st_size}
    rewrite(folder, lambda manifest: manifest["files"].update({name: spec}))
    with pytest.raises(PickleRefused, match=name):
        load_bundle(folder)


def test_a_bomb_is_refused_before_it_is_unpacked(bundle: Bundle, arrays: Arrays, tmp_path: Path) -> None:
    bomb = np.zeros((1, 1, 4_000, 4_000), np.float32)  # 64 MB
    path = saved(tmp_path / "s.npz", {**arrays, "mask": bomb})
    del bomb
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(ZipBomb, match="'mask': claims to hold 64000128 bytes"):
            read(bundle.manifest, path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_a_bomb_that_lies_about_its_size_gives_no_more_than_it_says(
    bundle: Bundle, arrays: Arrays, tmp_path: Path
) -> None:
    path = saved(tmp_path / "s.npz", {**arrays, "mask": np.zeros((1, 1, 2_000, 2_000), np.float32)})
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("mask.npy").file_size
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", size), struct.pack("<I", 384)))
    with pytest.raises(GoldenInvalid):
        read(bundle.manifest, path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mask": None}, r"lacks \['mask'\]"),
        ({"anomaly_map": None}, r"lacks \['anomaly_map'\]"),
        ({"infrared": np.zeros(3)}, "holds 'infrared.npy'"),
        ({"../mask": np.zeros(3)}, "holds '../mask.npy'"),
        ({"mask": np.zeros((1, 1, 8, 8), np.float64)}, r"is <f8\(1, 1, 8, 8\), must be <f4"),
        ({"mask": np.zeros((1, 1, 8, 8), ">f4")}, "is >f4.* must be <f4"),
        ({"mask": np.zeros((1, 8, 8), np.float32)}, r"is <f4\(1, 8, 8\)"),
        ({"mask": np.zeros((1, 1, 8, 8), [("a", "f4")])}, "not an array of numbers"),
        ({"image": np.zeros((1, 64, 64, 3), np.int8)}, r"must be \|u1"),
        ({"mask": np.full((1, 1, 8, 8), np.nan, np.float32)}, "64 of its 64 values are NaN"),
        ({"anomaly_map": np.full((1, 1, 8, 8), np.inf, np.float32)}, "NaN or infinite"),
        ({FOREGROUND: np.zeros((8, 8), bool)}, r"is \|b1\(8, 8\), must be \|b1\(64, 64\)"),
    ],
)
def test_what_does_not_fit_the_manifest_is_named(
    bundle: Bundle, arrays: Arrays, tmp_path: Path, changes: Arrays, words: str
) -> None:
    changed = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    with pytest.raises(GoldenInvalid, match=words):
        read(bundle.manifest, saved(tmp_path / "s.npz", changed))


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


MASK = _npy(np.ones((1, 1, 8, 8), np.float32))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00" + MASK[8:],
        MASK[:-1],
        MASK + b"\0",
        MASK.replace(b"(1, 1, 8, 8)", b"(1, 1, 8,-8)"),
        MASK.replace(b"(1, 1, 8, 8)", b"(1, 1, 8, x)"),
        MASK.replace(b"(1, 1, 8, 8)", b"((((((((((((")[:200],
        MASK.replace(b"'<f4'", b"'|O8'"),
        MASK.replace(b"'<f4'", b"'zzz'"),
        MASK.replace(b"(1, 1, 8, 8)", b"(99999999,9)"),
        MASK[:8] + struct.pack("<H", 65535) + MASK[10:],
    ],
)
def test_what_is_no_array_is_an_error(bundle: Bundle, arrays: Arrays, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", content if name == "mask" else _npy(array))
    with pytest.raises((GoldenInvalid, PickleRefused), match="mask"):
        read(bundle.manifest, path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_given_twice_is_refused(bundle: Bundle, arrays: Arrays, tmp_path: Path) -> None:
    path = saved(tmp_path / "s.npz", arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("mask.npy", MASK)
    with pytest.raises(GoldenInvalid, match="'mask' twice"):
        read(bundle.manifest, path)


@cases(300)
@given(st.data())
def test_a_damaged_sample_with_a_right_sha256_is_read_or_an_error(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    good = bundle.golden_files()[0].read_bytes()
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        starts = [info.header_offset for info in archive.infolist()]
        starts += [start + 30 for start in starts] + [archive.start_dir]
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        near = st.sampled_from(starts).flatmap(
            lambda start: st.integers(start, min(start + 250, len(good) - 1))
        )
        position = data.draw(st.one_of(near, st.integers(0, len(good) - 1)))
        changed[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 0, 1, 22, 500]))
    path.write_bytes(bytes(changed)[: len(changed) - cut])
    try:
        found = read(bundle.manifest, path)
    except BundleError as error:
        reason = str(error)
        assert str(path) in reason
    else:
        assert set(found) >= bundle.manifest.wanted
