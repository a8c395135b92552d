"""The self-test: what computes right passes, what does not is told, and by how much."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from edge.bundle import ANOMALY_MAP, Bundle, FileSpec, Precision, load_bundle, write_manifest
from edge.calibration_file import write_calibration
from edge.config import OnnxConfig
from edge.demo.rig import packaged_bundle
from edge.doctor.report import Level
from edge.doctor.samples import samples
from edge.golden import CELL_MM2, FOREGROUND, read_golden
from edge.region_rules import RegionRules, Zone
from edge.runtime import runner_for
from edge.runtime.runner import Array
from edge.sealed import file_sha256
from edge.selftest import TOLERANCES, golden_score, run_selftest
from edge.selftest_result import SelftestResult
from edge.testing import FakeRunner
from tests.tiny_bundle import make_tiny_bundle


def run(bundle: Bundle) -> SelftestResult:
    return run_selftest(bundle, lambda: runner_for(bundle), backend="onnx", runtime="ONNX Runtime")


def perturbed(bundle: Bundle, folder: Path, stage: str, factor: float) -> Bundle:
    """A copy of which one stage has other weights, and all else fits: only running it can tell."""
    shutil.copytree(bundle.path, folder)
    path = folder / f"{stage}.onnx"
    model = onnx.load(path)
    weights = [w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT]
    largest = max(weights, key=lambda w: int(np.prod(w.dims)))
    largest.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(largest) * np.float32(factor), largest.name)
    )
    onnx.save(model, path)
    file = FileSpec(sha256=file_sha256(path), bytes=path.stat().st_size)
    files = {**bundle.manifest.files, path.name: file}
    digest = write_manifest(folder, bundle.manifest.model_copy(update={"files": files}))
    assert bundle.calibration is not None
    write_calibration(folder, bundle.calibration.model_copy(update={"model_sha256": digest}))
    return load_bundle(folder)


@pytest.fixture(scope="module")
def demo() -> Bundle:
    return load_bundle(packaged_bundle())


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    return load_bundle(make_tiny_bundle(tmp_path / "tiny", golden=2))


def test_the_demos_bundle_passes(demo: Bundle) -> None:
    result = run(demo)
    assert result.passed
    assert [sample.name for sample in result.samples] == [path.stem for path in demo.golden_files()]
    for sample in result.samples:
        assert sample.map_error is not None
        assert sample.map_error < TOLERANCES["fp32"] == result.tolerance
        assert sample.verdict == sample.expected_verdict is not None
    assert SelftestResult.model_validate_json(result.model_dump_json()) == result


def test_a_stage_with_other_weights_fails(demo: Bundle, tmp_path: Path) -> None:
    result = run(perturbed(demo, tmp_path / "demo", "student", 1.05))
    assert not result.passed
    assert all("standard deviations off" in (sample.problem or "") for sample in result.samples)


def fake_result(bundle: Bundle, *, times: float = 1.0, plus: float = 0.0) -> SelftestResult:
    """A device that gives the expected map times `times`, plus `plus`."""
    expected = iter(
        [read_golden(path, bundle.manifest)[ANOMALY_MAP] for path in bundle.golden_files() for _ in range(2)]
    )

    def map_of(tensors: Mapping[str, Array]) -> npt.NDArray[np.float32]:
        made = next(expected) * times + plus
        return np.asarray(made, np.float32)

    return run_selftest(bundle, lambda: FakeRunner(bundle, map_of), backend="tensorrt", runtime="a fake")


def test_the_error_is_measured_in_standard_deviations(tiny: Bundle) -> None:
    expected = read_golden(tiny.golden_files()[0], tiny.manifest)[ANOMALY_MAP]
    offset = 0.25 * float(np.std(expected))
    sample = fake_result(tiny, plus=offset).samples[0]
    assert sample.map_error == pytest.approx(0.25, rel=1e-3)
    assert sample.problem is not None


def at_threshold(bundle: Bundle, share: float, precision: Precision) -> Bundle:
    """The stages as of that precision, the threshold `share` standard deviations below the first score."""
    arrays = read_golden(bundle.golden_files()[0], bundle.manifest)
    cells = np.asarray(arrays[ANOMALY_MAP][0, 0], np.float32)
    threshold = golden_score(cells, arrays, bundle) - share * float(cells.std())
    assert bundle.calibration is not None
    calibration = bundle.calibration.model_copy(update={"threshold": threshold})
    stages = tuple(stage.model_copy(update={"precision": precision}) for stage in bundle.manifest.stages)
    manifest = bundle.manifest.model_copy(update={"stages": stages})
    return Bundle(bundle.path, manifest, bundle.model_sha256, calibration)


def test_a_verdict_that_changes_is_told_even_within_the_tolerance(tiny: Bundle) -> None:
    moved = at_threshold(tiny, 0.005, "fp16")
    arrays = read_golden(moved.golden_files()[0], moved.manifest)
    sample = fake_result(moved, plus=-0.01 * float(np.std(arrays[ANOMALY_MAP]))).samples[0]
    assert sample.map_error is not None
    assert sample.map_error < TOLERANCES["fp16"]
    assert sample.flipped
    assert sample.problem == "the verdict is pass, on the workstation it was fail"


def test_a_verdict_on_the_line_may_change_by_rounding(tiny: Bundle) -> None:
    moved = at_threshold(tiny, 1e-5, "fp32")
    arrays = read_golden(moved.golden_files()[0], moved.manifest)
    sample = fake_result(moved, plus=-1e-4 * float(np.std(arrays[ANOMALY_MAP]))).samples[0]
    assert sample.flipped
    assert sample.problem is None


LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def hot_on_the_left(folder: Path, rules: RegionRules, cell_mm2: float | None) -> Bundle:
    """A bundle of one sample whose map is 2 on the left and 1 on the right; its threshold is 1.5."""
    bundle = load_bundle(make_tiny_bundle(folder, golden=1, threshold=1.5))
    (path,) = bundle.golden_files()
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays[ANOMALY_MAP] = np.ones((1, 1, 8, 8), np.float32)
    arrays[ANOMALY_MAP][..., :4] = 2.0
    arrays[FOREGROUND] = np.ones((64, 64), bool)
    if cell_mm2 is not None:
        arrays[CELL_MM2] = np.array([cell_mm2])
    np.savez(path, **arrays)
    spec = FileSpec(sha256=file_sha256(path), bytes=path.stat().st_size)
    files = {**bundle.manifest.files, "golden/000.npz": spec}
    digest = write_manifest(folder, bundle.manifest.model_copy(update={"files": files}))
    assert bundle.calibration is not None
    ruled = bundle.calibration.model_copy(update={"model_sha256": digest, "region_rules": rules})
    write_calibration(folder, ruled)
    return load_bundle(folder)


@pytest.mark.parametrize(
    ("rules", "score", "verdict"),
    [
        (RegionRules(), 2.0, "fail"),
        (RegionRules(zones=(Zone(name="left", corners=LEFT, ignore=True),)), 1.5, "pass"),
        (RegionRules(zones=(Zone(name="left", corners=LEFT, threshold=3.0),)), 1.5, "pass"),
        (RegionRules(zones=(Zone(name="left", corners=LEFT, threshold=0.5),)), 6.0, "fail"),
        (RegionRules(min_area_mm2=42 * 64 * 0.25), 1.0, "pass"),  # more than half of the square
        (RegionRules(min_area_mm2=64 * 64 * 0.25), 1.0, "pass"),
    ],
)
def test_verdicts_are_by_the_region_rules(
    tmp_path: Path, rules: RegionRules, score: float, verdict: str
) -> None:
    bundle = hot_on_the_left(tmp_path / "b", rules, cell_mm2=0.25)
    result = fake_result(bundle)
    assert result.passed
    (sample,) = result.samples
    assert sample.expected_score == sample.score == pytest.approx(score, abs=0.1)  # the edge is smoothed
    assert sample.verdict == sample.expected_verdict == verdict
    assert sample.not_judged is None
    # An error of the map is as large in the score, whatever a zone's threshold makes of it.
    moved = fake_result(bundle, times=1.1).samples[0]
    assert moved.score_drift is not None
    assert 0.1 < moved.score_drift <= (moved.map_error or 0.0) + 1e-6
    assert SelftestResult.model_validate_json(result.model_dump_json()) == result


def test_a_backend_that_is_wrong_where_a_rule_looks_is_found(tmp_path: Path) -> None:
    rules = RegionRules(zones=(Zone(name="left", corners=LEFT, threshold=2.002),))
    bundle = hot_on_the_left(tmp_path / "b", rules, cell_mm2=None)
    result = fake_result(bundle, times=1.002)
    (sample,) = result.samples
    assert sample.problem == "the verdict is fail, on the workstation it was pass"


def test_an_area_that_a_sample_can_not_tell_is_not_judged(tmp_path: Path) -> None:
    bundle = hot_on_the_left(tmp_path / "b", RegionRules(min_area_mm2=1.0), cell_mm2=None)
    result = fake_result(bundle)
    (sample,) = result.samples
    assert (result.passed, sample.verdict, sample.expected_verdict) == (True, None, None)
    assert "does not say what a cell of the map covers" in (sample.not_judged or "")
    nan = fake_result(bundle, times=float("nan")).samples[0]
    assert "not numbers" in (nan.problem or "")


def test_a_part_that_is_too_small_to_fail_has_its_map_compared(tmp_path: Path) -> None:
    bundle = hot_on_the_left(tmp_path / "b", RegionRules(min_area_mm2=1e6), cell_mm2=0.25)
    (sample,) = fake_result(bundle).samples
    assert (sample.problem, sample.map_error, sample.score, sample.verdict) == (None, 0.0, None, None)
    assert "nothing of this part could fail" in (sample.not_judged or "")
    assert "standard deviations off" in (fake_result(bundle, times=1.1).samples[0].problem or "")
    assert "not numbers" in (fake_result(bundle, times=float("nan")).samples[0].problem or "")


def test_without_a_threshold_there_is_no_verdict(tmp_path: Path) -> None:
    bundle = load_bundle(make_tiny_bundle(tmp_path / "bare", golden=1, threshold=None))
    result = run(bundle)
    assert result.passed
    assert result.threshold is result.samples[0].verdict is None


def test_nan_is_a_problem(tiny: Bundle) -> None:
    result = fake_result(tiny, times=float("nan"))
    assert not result.passed
    assert "64 of 64 cells of the map are not numbers" in (result.samples[0].problem or "")
    SelftestResult.model_validate_json(result.model_dump_json())


def test_a_map_of_another_shape_is_a_problem(tiny: Bundle) -> None:
    def map_of(tensors: Mapping[str, Array]) -> npt.NDArray[np.float32]:
        return np.zeros((1, 1, 4, 4), np.float32)

    result = run_selftest(tiny, lambda: FakeRunner(tiny, map_of), backend="onnx", runtime="a fake")
    assert all("came out as float32(1, 1, 4, 4)" in (sample.problem or "") for sample in result.samples)


def test_a_sample_that_changed_since_the_bundle_was_loaded(tiny: Bundle) -> None:
    tiny.golden_files()[0].write_bytes(b"PK")
    result = run(tiny)
    assert [sample.problem is None for sample in result.samples] == [False, True]


def test_the_coarsest_stage_decides_on_the_tolerance(tiny: Bundle) -> None:
    stages = tuple(
        stage.model_copy(update={"precision": "int8"}) if stage.name == "colour" else stage
        for stage in tiny.manifest.stages
    )
    manifest = tiny.manifest.model_copy(update={"stages": stages})
    result = run(Bundle(tiny.path, manifest, tiny.model_sha256, tiny.calibration))
    assert (result.precision, result.tolerance) == ("int8", TOLERANCES["int8"])


class TestFindings:
    def test_no_bundle(self) -> None:
        result, (finding,) = samples(None, OnnxConfig(), lambda what: None)
        assert (result, finding.level) == (None, Level.ERROR)

    def test_no_samples(self, tmp_path: Path) -> None:
        bundle = load_bundle(make_tiny_bundle(tmp_path / "bare"))
        result, (finding,) = samples(bundle, OnnxConfig(), lambda what: None)
        assert result is not None
        assert not result.passed
        assert (finding.level, finding.check) == (Level.ERROR, "samples")

    def test_a_stage_that_can_not_be_loaded(self, tiny: Bundle) -> None:
        (tiny.path / "shape.onnx").write_bytes(b"\x00")
        result, (finding,) = samples(tiny, OnnxConfig(), lambda what: None)
        assert (result, finding.level, finding.check) == (None, Level.ERROR, "load")

    def test_what_failed_is_named(self, demo: Bundle, tmp_path: Path) -> None:
        wrong = perturbed(demo, tmp_path / "demo", "teacher", 0.9)
        told: list[str] = []
        result, (finding,) = samples(wrong, OnnxConfig(), told.append)
        assert result is not None
        assert finding.level is Level.ERROR
        names = tuple(path.stem for path in demo.golden_files())
        assert finding.details["failed"] == names
        assert told[-1] == f"Self-test: {len(names)} of {len(names)} samples"

    def test_rules_that_are_not_judged_are_told(self, demo: Bundle) -> None:
        assert demo.calibration is not None  # its samples are of before, and say no area
        ruled = demo.calibration.model_copy(update={"region_rules": RegionRules(min_area_mm2=2.0)})
        found = samples(replace(demo, calibration=ruled), OnnxConfig(), lambda what: None)[1]
        assert [(finding.check, finding.level) for finding in found] == [
            ("samples", Level.OK),
            ("rules", Level.NOTE),
        ]
        assert "min_area_mm2 of the calibration" in found[1].what
        assert found[1].remedy == "Export the bundle anew."

    def test_what_passed_is_told(self, demo: Bundle) -> None:
        _, (finding,) = samples(demo, OnnxConfig(), lambda what: None)
        assert finding.level is Level.OK
        assert finding.what.startswith("ONNX Runtime 1.")
