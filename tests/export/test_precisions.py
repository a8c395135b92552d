"""Bundles whose stages are of several precisions: what is asked for, what comes out, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle import load_bundle
from edge.errors import ExportError
from edge.golden import read_golden
from edge.runtime import runner_for
from export.bundle import export_bundle
from export.lint import lint_bundle
from export.plan import PrecisionRequest, parse_precisions, precisions_of
from export.verification import VERIFICATION_FILE, Tolerance, Tolerances, Verification
from export.verify import verify_bundle
from tests.small_run import NoBars
from train.checkpoint import load_model

ROOMY = Tolerances(int8=Tolerance(tensor=1e3, score=1e3))
"""A network of 12 cells, trained for seconds, is coarser in int8 than any that ships."""


@pytest.mark.parametrize(
    ("text", "everywhere", "by_stage"),
    [
        ("fp16", "fp16", {}),
        ("teacher=fp16, student=int8", "fp32", {"teacher": "fp16", "student": "int8"}),
        ("int8,backbone=fp16", "int8", {"backbone": "fp16"}),
        ("a=int8,a=int8", "fp32", {"a": "int8"}),
    ],
)
def test_a_request_is_read(text: str, everywhere: str, by_stage: dict[str, str]) -> None:
    assert parse_precisions(text) == PrecisionRequest(everywhere, by_stage)  # type: ignore[arg-type]  # as text


@pytest.mark.parametrize("text", ["", "fp8", "teacher=", "=fp16", "fp16,int8", "a=fp16,a=int8", "fp16,,int8"])
def test_a_request_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ExportError, match="--precision"):
        parse_precisions(text)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9_]{1,8}", fullmatch=True), st.sampled_from(["fp32", "fp16", "int8"])
    )
)
def test_a_request_says_what_was_written(by_stage: dict[str, str]) -> None:
    text = ",".join(["int8", *(f"{stage}={precision}" for stage, precision in by_stage.items())])
    assert parse_precisions(text) == PrecisionRequest("int8", by_stage)  # type: ignore[arg-type]  # as text


@pytest.mark.parametrize("precision", ["fp16", "int8,backbone=fp16"])
def test_a_bundle_of_lower_precision_is_verified_linted_and_runs(
    precision: str, tiny_run: Path, tmp_path: Path
) -> None:
    request = parse_precisions(precision)
    exported = export_bundle(
        tiny_run, tmp_path / "bundle", precision=request, tolerances=ROOMY, progress=NoBars()
    )
    bundle, report = load_bundle(tmp_path / "bundle"), exported.verification
    assert {stage.name: stage.precision for stage in bundle.manifest.stages} == {
        "backbone": "fp16",
        "backbone_normals": "fp16",
        "teacher": request.everywhere,
        "student": request.everywhere,
        "distance": "fp32",
    }
    assert lint_bundle(bundle) == ()
    assert report.precision == request.everywhere
    by_precision = {"fp32": 0.0, "fp16": 0.0, "int8": 0.0}
    for stage in report.stages:
        for error in stage.outputs.values():
            by_precision[stage.precision] = max(by_precision[stage.precision], error.of_spread)
    assert by_precision["fp32"] < 1e-4 < by_precision["fp16"] < 0.2
    assert request.everywhere == "fp16" or by_precision["fp16"] < by_precision["int8"]
    fp16 = {stage.name for stage in bundle.manifest.stages if stage.precision == "fp16"}
    assert {peak.stage for peak in report.fp16_ranges} == fp16
    assert all(0 < peak.peak < 65504 for peak in report.fp16_ranges)
    # What is in the bundle is what a second look finds, and what the device's samples are held against.
    assert report == Verification.model_validate_json((bundle.path / VERIFICATION_FILE).read_bytes())
    assert report == verify_bundle(tiny_run, bundle, ROOMY, NoBars())
    with runner_for(bundle) as runner:
        for path in bundle.golden_files():
            arrays = read_golden(path, bundle.manifest)
            found = runner.run({name: arrays[name] for name in bundle.wanted})["anomaly_map"]
            assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("studnet=fp16", "no stage 'studnet'; there are backbone, backbone_normals"),
        ("distance=fp16", "nothing in stage 'distance' may run in fp16"),
        ("backbone=fp16,backbone_normals=int8", "run one file, backbone.onnx"),
    ],
)
def test_what_no_stage_can_be_is_refused(text: str, said: str, tiny_run: Path, bundle_folder: Path) -> None:
    stages = load_model(tiny_run)[0].stages()
    graphs = {path.name: onnx.load(path) for path in bundle_folder.glob("*.onnx")}
    with pytest.raises(ExportError, match=said):
        precisions_of(parse_precisions(text), stages, graphs)


def test_everywhere_spares_distances_and_of_int8_backbones(tiny_run: Path, bundle_folder: Path) -> None:
    stages = load_model(tiny_run)[0].stages()
    graphs = {path.name: onnx.load(path) for path in bundle_folder.glob("*.onnx")}
    for text, backbone in (
        ("int8", "fp32"),
        ("int8,backbone_normals=int8", "int8"),
        ("int8,backbone=fp16", "fp16"),
    ):
        assert precisions_of(parse_precisions(text), stages, graphs) == {
            "backbone.onnx": backbone,
            "teacher.onnx": "int8",
            "student.onnx": "int8",
            "distance.onnx": "fp32",
        }
