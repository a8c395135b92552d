from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle import ANOMALY_MAP, MANIFEST_FILE, load_bundle, write_manifest
from edge.calibration_file import CALIBRATION_FILE
from edge.errors import BundleCorrupt, BundleError, BundleInvalid, CalibrationError
from edge.runtime import runner_for
from edge.sealed import file_sha256, read_sealed, seal
from tests.tiny_bundle import make_tiny_bundle

_Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "whole", golden=2)


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


def rewrite(folder: Path, change: Callable[[_Manifest], object], *, calibrated: bool = False) -> None:
    """Change the manifest and seal it anew, as one would who means it."""
    path = folder / MANIFEST_FILE
    manifest = yaml.safe_load(read_sealed(path)[0])
    change(manifest)
    path.write_text(seal(yaml.safe_dump(manifest, sort_keys=False)))
    if not calibrated:
        (folder / CALIBRATION_FILE).unlink()


def test_a_whole_bundle_is_loaded(whole: Path) -> None:
    bundle = load_bundle(whole)
    assert bundle.product == "plate"
    assert bundle.method == "tiny"
    assert bundle.wanted == {"image", "z", "mask"}
    assert [p.name for p in bundle.golden_files()] == ["000.npz", "001.npz"]
    assert bundle.calibration is not None
    assert bundle.calibration.model_sha256 == bundle.model_sha256


def test_without_calibration_it_is_loaded_and_has_none(tmp_path: Path) -> None:
    assert load_bundle(make_tiny_bundle(tmp_path / "b", threshold=None)).calibration is None


def test_one_byte_changed_in_any_file_is_refused(bundle: Path) -> None:
    files = sorted(p for p in bundle.rglob("*") if p.is_file())
    assert {p.name for p in files} == {
        "manifest.yaml", "calibration.yaml", "colour.onnx", "shape.onnx", "distance.onnx",
        "000.npz", "001.npz",
    }  # fmt: skip
    for path in files:
        good = path.read_bytes()
        positions = {0, 1, len(good) // 3, len(good) // 2, len(good) - 1}
        for position in positions:
            bad = bytearray(good)
            bad[position] ^= 0x01
            path.write_bytes(bytes(bad))
            with pytest.raises(BundleCorrupt, match="differs from the sha256") as caught:
                load_bundle(bundle)
            assert str(path) in str(caught.value)
            assert "again" in str(caught.value)  # how to mend it
        path.write_bytes(good)
    load_bundle(bundle)


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_a_file_cut_short_or_grown_is_refused(bundle: Path, cut: int) -> None:
    path = bundle / "colour.onnx"
    good = path.read_bytes()
    for bad in (good[:cut], good + b"\0"):
        path.write_bytes(bad)
        with pytest.raises(BundleCorrupt, match=r"colour\.onnx: differs"):
            load_bundle(bundle)


@pytest.mark.parametrize("name", ["colour.onnx", "golden/001.npz", MANIFEST_FILE])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleCorrupt) as caught:
        load_bundle(bundle)
    assert str(bundle / name) in str(caught.value)


@pytest.mark.parametrize("name", ["extra.onnx", "golden/002.npz", ".hidden", "deep/er/x"])
def test_a_file_that_is_not_listed_is_named(bundle: Path, name: str) -> None:
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_bytes(b"")
    with pytest.raises(BundleCorrupt, match="does not list") as caught:
        load_bundle(bundle)
    assert repr(name) in str(caught.value)


def test_a_link_in_place_of_a_file_is_refused(bundle: Path, whole: Path) -> None:
    (bundle / "colour.onnx").unlink()
    (bundle / "colour.onnx").symlink_to(whole / "colour.onnx")  # its bytes are right: today
    with pytest.raises(BundleCorrupt, match=r"colour\.onnx: is a link"):
        load_bundle(bundle)


def test_a_link_in_place_of_a_folder_is_refused(bundle: Path, whole: Path) -> None:
    shutil.rmtree(bundle / "golden")
    (bundle / "golden").symlink_to(whole / "golden")
    with pytest.raises(BundleCorrupt, match="golden"):
        load_bundle(bundle)


def test_a_lost_calibration_is_not_taken_for_none(bundle: Path) -> None:
    (bundle / CALIBRATION_FILE).unlink()
    (bundle / CALIBRATION_FILE).symlink_to("/nowhere/calibration.yaml")
    with pytest.raises(BundleCorrupt, match=r"calibration\.yaml"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "name", ["../outside.onnx", "golden/../../outside.onnx", "/etc/hostname", "..", "a\\..\\b"]
)
def test_a_path_that_leads_out_is_refused_unread(bundle: Path, name: str) -> None:
    outside = bundle.parent / "outside.onnx"
    shutil.copy(bundle / "colour.onnx", outside)
    spec = {"sha256": file_sha256(outside), "bytes": outside.stat().st_size}
    rewrite(bundle, lambda m: m["files"].update({name: spec}))
    with pytest.raises(BundleInvalid, match="leads out of the bundle") as caught:
        load_bundle(bundle)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["./colour.onnx", "golden//000.npz"])
def test_a_second_name_for_a_file_is_refused(bundle: Path, name: str) -> None:
    plain = name.replace("./", "").replace("//", "/")
    rewrite(bundle, lambda m: m["files"].update({name: m["files"].pop(plain)}))
    with pytest.raises(BundleError):
        load_bundle(bundle)


@contextmanager
def somebody_else() -> Iterator[None]:
    """As root may read everything, be nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_bundle_that_this_user_may_not_read(whole: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        bundle = Path(shutil.copytree(whole, folder / "bundle"))
        for path in (bundle, bundle / "golden"):
            path.chmod(0o755)
        (bundle / "shape.onnx").chmod(0)
        with somebody_else(), pytest.raises(BundleCorrupt, match=r"shape\.onnx: can't be read \(Permission"):
            load_bundle(bundle)
        folder.chmod(0o600)
        try:
            with somebody_else(), pytest.raises(BundleCorrupt, match=r"bundle: can't be read \(Permission"):
                load_bundle(bundle)
        finally:
            folder.chmod(0o755)


def test_no_bundle_there(tmp_path: Path) -> None:
    with pytest.raises(BundleCorrupt, match="no such bundle"):
        load_bundle(tmp_path / "missing")
    with pytest.raises(BundleCorrupt, match=r"manifest\.yaml"):
        load_bundle(tmp_path)


def test_a_tensor_that_nobody_gives_is_named_with_its_stage(tmp_path: Path) -> None:
    folder = make_tiny_bundle(tmp_path / "b", broken="unknown_tensor")
    with pytest.raises(BundleInvalid, match="stage 'colour' asks for tensor 'infrared'") as caught:
        load_bundle(folder)
    assert "['depth', 'image', 'mask', 'normals', 'z']" in str(caught.value)


def _swap(m: _Manifest) -> None:
    m["stages"] = [m["stages"][2], *m["stages"][:2]]


def _set(*path: str | int, value: object) -> Callable[[_Manifest], None]:
    def change(manifest: Any) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_swap, "'distance' asks for tensor 'colour_map'"),
        (_set("stages", 1, "name", value="colour"), r"one name: \['colour', 'colour', 'distance'\]"),
        (
            _set("stages", 2, "outputs", value={ANOMALY_MAP: "colour_map"}),
            "'distance' gives tensor 'colour_map', which exists",
        ),
        (_set("stages", 0, "outputs", value={"colour_map": "image"}), "gives tensor 'image', which exists"),
        (lambda m: m["stages"].pop(), "'anomaly_map'"),
        (
            _set("stages", 2, "outputs", value={ANOMALY_MAP: "heat"}),
            "`tensors` does not say what 'heat' of 'distance' is",
        ),
        (_set("tensors", ANOMALY_MAP, "shape", value=[1, 1, 9, 8]), r"float32 \(1, 1, 8, 8\)"),
        (_set("tensors", ANOMALY_MAP, "dtype", value="float16"), "float16"),
        (_set("tensors", "spare", value={"dtype": "float32", "shape": [1]}), r"\['spare'\], which no stage"),
        (_set("tensors", "mask", value={"dtype": "float32", "shape": [1]}), r"\['mask'\], which no stage"),
        (_set("stages", 0, "file", value="other.onnx"), "'colour' runs 'other.onnx', which `files`"),
        (_set("stages", 0, "file", value="../x.onnx"), "'colour' runs '../x.onnx', which `files`"),
        (_set("stages", value=[]), "stages"),
        (_set("stages", 0, "inputs", value={}), "inputs"),
        (_set("stages", 0, "name", value="Colour Stage"), "name"),
        (lambda m: m["stages"][1].pop("precision"), r"stages\.1\.precision"),
        (_set("stages", 1, "precision", value="fp8"), "'fp32', 'fp16' or 'int8'"),
        (
            lambda m: m["stages"][1].update(file="colour.onnx", precision="fp16"),
            "'shape' says that 'colour.onnx' is fp16, an earlier stage that it is fp32",
        ),
        (_set("tensors", "colour_map", "dtype", value="bfloat16"), "dtype"),
        (_set("schema_version", value=2), "schema_version"),
        (_set("prodct", value="plate"), "prodct"),
        (lambda m: m.pop("score"), "score"),
        (_set("preprocessing", "depth_px", value=65), "depth_px 65 is not a multiple of map_cells 8"),
        (_set("files", "colour.onnx", "sha256", value="abc"), "sha256"),
    ],
)
def test_parts_that_don_t_fit_together(
    bundle: Path, change: Callable[[_Manifest], object], words: str
) -> None:
    rewrite(bundle, change)
    with pytest.raises(BundleInvalid, match=words) as caught:
        load_bundle(bundle)
    assert str(bundle / MANIFEST_FILE) in str(caught.value)


def test_a_manifest_that_does_not_fit_is_not_written(bundle: Path) -> None:
    before = (bundle / MANIFEST_FILE).read_bytes()
    manifest = load_bundle(bundle).manifest
    with pytest.raises(BundleInvalid, match="one name"):
        write_manifest(bundle, manifest.model_copy(update={"stages": (manifest.stages[0],) * 2}))
    assert (bundle / MANIFEST_FILE).read_bytes() == before
    assert write_manifest(bundle, manifest) == load_bundle(bundle).model_sha256


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("stages", 0, "inputs", value={"picture": "image"}), r"'colour' wires the inputs \['picture'\]"),
        (
            _set("stages", 2, "inputs", value={"colour_map": "colour_map", "mask": "mask"}),
            r"the graph distance.onnx has \['colour_map', 'mask', 'shape_map'\]",
        ),
        (_set("stages", 1, "outputs", value={"form": "shape_map"}), r"'shape' wires the outputs \['form'\]"),
        (_set("stages", 0, "inputs", value={"image": "normals"}), None),  # same shape and type: it may
        (_set("stages", 0, "inputs", value={"image": "depth"}), r"input 'image' of colour.onnx .*'depth'"),
        (_set("stages", 1, "inputs", value={"z": "mask"}), r"input 'z' of shape.onnx .*'mask'"),
        (_set("tensors", "shape_map", "dtype", value="float16"), "output 'shape_map' of shape.onnx"),
        (_set("tensors", "shape_map", "shape", value=[1, 1, 64]), "output 'shape_map' of shape.onnx"),
        (_set("preprocessing", "image_px", value=128), r"\(1, 64, 64, 3\).*\(1, 128, 128, 3\)"),
    ],
)
def test_wires_that_don_t_fit_the_graphs_are_found_when_the_runner_is_made(
    bundle: Path, change: Callable[[_Manifest], object], words: str | None
) -> None:
    rewrite(bundle, change)
    loaded = load_bundle(bundle)
    if words is None:
        runner_for(loaded).close()
        return
    with pytest.raises(BundleInvalid, match=words):
        runner_for(loaded)


def test_a_calibration_of_another_model_is_refused(bundle: Path, tmp_path: Path) -> None:
    other = make_tiny_bundle(tmp_path / "other", colour=(1.0, 0.0, 0.0))
    shutil.copy(other / CALIBRATION_FILE, bundle / CALIBRATION_FILE)
    with pytest.raises(CalibrationError, match="calibrate this one"):
        load_bundle(bundle)


def test_a_manifest_changed_and_sealed_anew_is_another_model(bundle: Path) -> None:
    rewrite(bundle, _set("score", "kind", value="mean"), calibrated=True)
    with pytest.raises(CalibrationError, match="scores of two models can't be compared"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just words",
        "- a\n- list\n",
        "42",
        "stages: [",
        "product: 2030-13-45",
        "!!python/object/apply:os.mkdir [executed]",
        "product: !!python/object/new:os.system ['mkdir executed']",
        "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]",
        "[" * 5000,
        "? [1, 2]\n: x",
    ],
)
def test_a_sealed_manifest_that_is_none_is_an_error_and_runs_nothing(
    bundle: Path, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (bundle / MANIFEST_FILE).write_text(seal(text))
    with pytest.raises(BundleInvalid, match=r"manifest\.yaml: is not a manifest") as caught:
        load_bundle(bundle)
    assert len(str(caught.value)) < 4000
    assert not (tmp_path / "executed").exists()


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_a_manifest_with_one_character_changed_and_sealed_anew_loads_or_says_why(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    if not folder.exists():
        make_tiny_bundle(folder, threshold=None)
        (folder.parent / "text").write_text(read_sealed(folder / MANIFEST_FILE)[0])
    text = (folder.parent / "text").read_text()
    position = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.one_of(st.sampled_from("&*!:-[]{}\n #'\"0/.~<"), st.characters(codec="utf-8")))
    (folder / MANIFEST_FILE).write_bytes(
        seal(text[:position] + character + text[position + 1 :]).encode(errors="surrogatepass")
    )
    try:
        load_bundle(folder)
    except BundleError as error:
        reason = str(error)
        assert str(folder) in reason  # either way is right, but a reason must be given


def test_a_manifest_that_leaves_a_number_to_a_default_is_refused(tmp_path: Path) -> None:
    """Another version's default would be another preprocessing than the model was trained with."""
    folder = make_tiny_bundle(tmp_path / "bundle")
    text, _ = read_sealed(folder / MANIFEST_FILE)
    data = yaml.safe_load(text)
    del data["preprocessing"]["foreground"]["closing_px"]
    del data["score"]["smoothing_px"]
    (folder / MANIFEST_FILE).write_text(seal(yaml.safe_dump(data, sort_keys=False)))
    with pytest.raises(BundleInvalid, match=r"preprocessing\.foreground\.closing_px, score\.smoothing_px"):
        load_bundle(folder)
