"""What would end the daemon, or keep it for ever, ends a child instead."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge.bundle import Bundle, load_bundle
from edge.config import RigConfig, load_rig_config
from edge.errors import BundleInvalid, RunnerError, SignatureMissing, SignatureUntrusted
from edge.rig import check_rig, run_rig
from edge.signing import create_key_pair, read_private_key, sign_bundle
from edge.trial import try_stages
from tests.hostile_graphs import HOSTILE, with_graph
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(make_tiny_bundle(tmp_path_factory.mktemp("trial") / "b", golden=1))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smallest by minus one", "SIGFPE"),
        # ONNX Runtime before 1.32 ends its process here.
        ("group 0", "SIGFPE|can't load it"),
        ("block size", "SIGFPE|can't load it"),
        ("endless", "not through one run after 5 s"),
        ("constant of 64 GB", "failed"),
        ("tile", "failed"),
        ("resize", "shape_map"),
        ("external data", "can't load it"),
    ],
)
def test_a_graph_that_would_end_the_daemon_is_an_error(
    bundle: Bundle, tmp_path: Path, name: str, words: str
) -> None:
    folder = Path(shutil.copytree(bundle.path, tmp_path / "b"))
    broken = with_graph(bundle, folder, "shape.onnx", HOSTILE[name])
    with pytest.raises((RunnerError, BundleInvalid), match=words):
        try_stages(broken, timeout_s=5.0 if name == "endless" else 60.0)


def test_a_whole_bundle_passes_with_and_without_golden_samples(bundle: Bundle, tmp_path: Path) -> None:
    try_stages(bundle)
    try_stages(load_bundle(make_tiny_bundle(tmp_path / "b")))


def test_a_bundle_exchanged_for_another_is_not_the_one_that_was_tried(tmp_path: Path) -> None:
    loaded = load_bundle(make_tiny_bundle(tmp_path / "b"))
    shutil.rmtree(tmp_path / "b")
    make_tiny_bundle(tmp_path / "b", colour=(1.0, 0.0, 0.0))
    with pytest.raises(BundleInvalid, match="became another bundle"):
        try_stages(loaded)


def rig(folder: Path, keys: str = "") -> RigConfig:
    path = folder / "rig.yaml"
    path.write_text(
        "rig: {enterprise: acme, site: dresden, area: assembly, line: line-3, cell: cell-2}\n"
        f"camera: {{source: folder, path: {folder}}}\n"
        f"bundle: b\n{keys}\n"
    )
    return load_rig_config(path)


def about_the_bundle(config: RigConfig) -> list[str]:
    return [mistake for mistake in check_rig(config) if f"{config.bundle}" in mistake]


def test_the_daemon_ends_with_an_error_and_not_with_a_crash(bundle: Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle.path, tmp_path / "b"))
    with_graph(bundle, folder, "shape.onnx", HOSTILE["smallest by minus one"])
    with pytest.raises(RunnerError, match="SIGFPE"):
        run_rig(rig(tmp_path), path=tmp_path / "rig.yaml")
    (mistake,) = about_the_bundle(rig(tmp_path))
    assert "SIGFPE" in mistake


def test_a_rig_with_trusted_keys_takes_what_they_signed_alone(tmp_path: Path) -> None:
    for name in ("acme", "other"):
        create_key_pair(tmp_path / name)
    folder = make_tiny_bundle(tmp_path / "b")
    trusting = rig(tmp_path, "trusted_keys: [acme.pub]")
    with pytest.raises(SignatureMissing):
        run_rig(trusting, path=tmp_path / "rig.yaml")
    (mistake,) = about_the_bundle(trusting)
    assert "is not signed" in mistake
    sign_bundle(folder, read_private_key(tmp_path / "other"))
    with pytest.raises(SignatureUntrusted):
        run_rig(trusting, path=tmp_path / "rig.yaml")
    assert about_the_bundle(rig(tmp_path)) == []
    sign_bundle(folder, read_private_key(tmp_path / "acme"))
    assert about_the_bundle(trusting) == []
