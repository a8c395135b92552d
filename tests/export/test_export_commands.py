"""edge-export and what stands beside it: verify, lint, keys, signatures, archives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import Result
from onnx import numpy_helper
from typer.testing import CliRunner

from edge.bundle import load_bundle
from edge.signature import read_public_key
from edge.signing import PASSPHRASE_VARIABLE, create_key_pair
from export.commands.export import app
from export.verification import Verification
from tests.export.test_verify import resealed


def edge_export(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def document(result: Result) -> dict[str, Any]:
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def refused(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    said = " ".join(result.stderr.split())
    for word in ("error:", *words):
        assert word in said


def test_an_export_is_signed_and_says_what_was_proven(tiny_run: Path, tmp_path: Path) -> None:
    key, out = tmp_path / "key", tmp_path / "bundle"
    create_key_pair(key)
    told = document(edge_export("--run", tiny_run, "--out", out, "--sign", key, "--json"))
    trusted = read_public_key(tmp_path / "key.pub")
    bundle = load_bundle(out, [trusted])
    assert told["model_sha256"] == bundle.model_sha256
    assert told["signed_by"] == trusted.fingerprint
    assert Verification.model_validate(told["verification"]).problems() == ()


def test_options_that_are_wrong_are_told_before_anything_is_done(tiny_run: Path, tmp_path: Path) -> None:
    run = ("--run", tiny_run, "--out", tmp_path / "bundle")
    for option in (
        "precision=fp8",
        *(f"tolerance={bad}" for bad in ("much", "fp8=1", "-1", "nan", "fp16=0")),
    ):
        result = edge_export(*run, f"--{option}")
        assert result.exit_code == 2, result.output
        assert f"--{option.partition('=')[0]}" in result.stderr
    refused(edge_export(*run, "--sign", tmp_path / "none"), 5, "can't be read")
    assert list(tmp_path.iterdir()) == []


def test_a_copy_is_verified(bundle_folder: Path, tiny_run: Path) -> None:
    told = document(edge_export("verify", bundle_folder, "--run", tiny_run, "--json"))
    assert told["problems"] == []
    shown = edge_export("verify", bundle_folder, "--run", tiny_run)
    assert shown.exit_code == 0
    for word in ("teacher", "fp32", "all in a chain", "0 verdicts flip", "allowed 0.001"):
        assert word in shown.stdout


def test_a_changed_copy_is_refused_with_its_report(
    bundle_folder: Path, tiny_run: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle_folder, copy)
    model = onnx.load(copy / "teacher.onnx")
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim == 4:
            tensor.CopyFrom(numpy_helper.from_array(values * np.float32(1.5), tensor.name))
    onnx.save(model, copy / "teacher.onnx")
    refused(edge_export("verify", copy, "--run", tiny_run), 5, "teacher.onnx")  # not even its sha256 holds
    resealed(copy)
    result = edge_export("verify", copy, "--run", tiny_run, "--json")
    refused(result, 10, "stage 'teacher'", "--precision")
    assert any("'teacher'" in problem for problem in document(result)["problems"])


def test_a_bundle_and_a_file_are_linted(bundle_folder: Path, tmp_path: Path) -> None:
    assert document(edge_export("lint", bundle_folder, "--json"))["findings"] == []
    assert "nothing found" in edge_export("lint", bundle_folder / "student.onnx").stdout
    broken = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18]> g (float[1,2,2] x) => (float[1] y) { y = Det(x) }'
    )
    onnx.save(broken, tmp_path / "det.onnx")
    result = edge_export("lint", tmp_path / "det.onnx", "--json")
    refused(result, 10, "Det #0", "write the determinant out")
    assert [finding["rule"] for finding in document(result)["findings"]] == ["operators"]


def test_a_bundle_is_handed_over(bundle_folder: Path, tmp_path: Path) -> None:
    key, bundle, archive = tmp_path / "line-1", tmp_path / "bundle", tmp_path / "plate.zip"
    shutil.copytree(bundle_folder, bundle)
    made = document(edge_export("keygen", key, "--json"))
    assert made["public_key"] == f"{key}.pub"
    assert document(edge_export("sign", bundle, "--key", key, "--json"))["signed_by"] == made["fingerprint"]
    packed = document(edge_export("pack", bundle, archive, "--json"))
    unpacked = document(edge_export("unpack", archive, tmp_path / "there", "--trust", f"{key}.pub", "--json"))
    assert packed["model_sha256"] == unpacked["model_sha256"] == load_bundle(bundle_folder).model_sha256
    other = tmp_path / "line-2"
    edge_export("keygen", other)
    refused(edge_export("unpack", archive, tmp_path / "not", "--trust", f"{other}.pub"), 5, "trusted")
    assert not (tmp_path / "not").exists()


def test_a_key_can_be_encrypted(bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, bundle = tmp_path / "key", tmp_path / "bundle"
    shutil.copytree(bundle_folder, bundle)
    refused(edge_export("keygen", key, "--encrypt"), 5, PASSPHRASE_VARIABLE)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "a long sentence")
    assert edge_export("keygen", key, "--encrypt").exit_code == 0
    assert edge_export("sign", bundle, "--key", key).exit_code == 0
    monkeypatch.delenv(PASSPHRASE_VARIABLE)
    refused(edge_export("sign", bundle, "--key", key), 5, PASSPHRASE_VARIABLE)
