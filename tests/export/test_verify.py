"""A bundle is refused where it does not give what torch gives, and where a verdict would be another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from edge.bundle import ANOMALY_MAP, Manifest, StageSpec, load_bundle, write_manifest
from edge.bundle_files import FileSpec
from edge.calibration import Calibration
from edge.calibration_file import write_calibration
from edge.demo.rig import packaged_bundle
from edge.errors import VerificationFailed
from edge.framing import FramingConfig
from edge.preprocessing import Preprocessing
from edge.quantile import quantile_rank
from edge.scoring import ScoreSpec
from edge.sealed import file_sha256, plain_data, read_sealed
from export.bundle import export_bundle
from export.golden import choose_for_bundle
from export.lint import lint_bundle
from export.threshold import shipped_scores
from export.verification import (
    VERIFICATION_FILE,
    TensorError,
    Tolerance,
    Tolerances,
    Verification,
)
from export.verify import LINE_OF_SPREAD, Measured, MeasuredSample, refuse_problems, verified, verify_bundle
from tests.small_run import NoBars
from train.golden import GoldenSample, about_the_threshold, load_golden, score_spread
from train.good_parts import Task

LOOSE = Tolerances(fp32=Tolerance(tensor=1e9, score=1e9))


def resealed(bundle: Path, **changes: object) -> None:
    """Write the manifest anew for the files as they are now, and the calibration for that manifest."""
    manifest, calibration = (
        plain_data(read_sealed(bundle / name)[0]) for name in ("manifest.yaml", "calibration.yaml")
    )
    before = Manifest.model_validate(manifest)
    files = {
        name: FileSpec(sha256=file_sha256(bundle / name), bytes=(bundle / name).stat().st_size)
        for name in before.files
    }
    digest = write_manifest(bundle, before.model_copy(update={"files": files, **changes}))
    old = Calibration.model_validate(calibration)
    write_calibration(bundle, old.model_copy(update={"model_sha256": digest}))


@pytest.fixture
def copy(bundle_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(bundle_folder, tmp_path / "copy")
    return tmp_path / "copy"


def shifted(bundle: Path, file: str, by: float) -> None:
    """Add `by` to the output of a stage: to the bias of its last convolution."""
    model = onnx.load(bundle / file)
    bias = [node for node in model.graph.node if node.op_type == "Conv"][-1].input[2]
    (weights,) = (tensor for tensor in model.graph.initializer if tensor.name == bias)
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) + np.float32(by), bias))
    onnx.save(model, bundle / file)
    resealed(bundle)


def test_the_report_lies_in_the_bundle_and_is_what_a_second_look_finds(
    bundle_folder: Path, tiny_run: Path
) -> None:
    bundle = load_bundle(bundle_folder)
    assert VERIFICATION_FILE in bundle.manifest.files
    report = Verification.model_validate_json((bundle_folder / VERIFICATION_FILE).read_bytes())
    assert report == verify_bundle(tiny_run, bundle, Tolerances(), NoBars())
    assert report.problems() == ()
    assert [stage.name for stage in report.stages] == [stage.name for stage in bundle.manifest.stages]
    assert set(report.chain) == set(bundle.manifest.tensors)
    assert bundle.calibration is not None
    assert report.scores.threshold == bundle.calibration.threshold
    assert {sample.name for sample in report.samples} == {sample.name for sample in load_golden(tiny_run)}
    assert report.good_samples == 3
    assert report.defective_samples >= 6
    assert report.versions["onnxruntime"]


def test_the_bundle_that_ships_was_verified_and_would_be_built() -> None:
    bundle = load_bundle(packaged_bundle())
    report = Verification.model_validate_json((bundle.path / VERIFICATION_FILE).read_bytes())
    assert report.problems() == ()
    assert (report.good_samples, report.defective_samples) >= (8, 6)
    assert bundle.calibration is not None
    assert report.scores.threshold == bundle.calibration.threshold
    assert lint_bundle(bundle) == ()


def test_the_part_that_makes_the_threshold_lies_on_the_line(bundle_folder: Path) -> None:
    report = Verification.model_validate_json((bundle_folder / VERIFICATION_FILE).read_bytes())
    on_the_line = [sample for sample in report.samples if sample.verdict == "on the line"]
    assert report.scores.threshold in {sample.onnx_score for sample in on_the_line}
    assert not any(sample.defective for sample in on_the_line)


def test_a_stage_that_was_changed_is_named_and_no_other(copy: Path, tiny_run: Path) -> None:
    shifted(copy, "student.onnx", 0.5)
    found = verify_bundle(tiny_run, load_bundle(copy), Tolerances(), NoBars())
    wrong = {
        stage.name
        for stage in found.stages
        if not all(error.within(stage.tolerance) for error in stage.outputs.values())
    }
    assert wrong == {"student"}  # the stages after it were given what torch gives
    beyond = {name for name, error in found.chain.items() if not error.within(found.chain_tolerance)}
    assert beyond == {"student_out", "anomaly_map"}
    with pytest.raises(VerificationFailed, match="stage 'student'"):
        refuse_problems(found)


def test_a_flipped_verdict_is_refused_though_every_error_is_allowed(copy: Path, tiny_run: Path) -> None:
    shifted(copy, "student.onnx", 30.0)  # all parts look bad
    found = verify_bundle(tiny_run, load_bundle(copy), LOOSE, NoBars())
    assert {sample.name for sample in found.flipped} >= {
        sample.name
        for sample in found.samples
        if sample.torch_score < found.scores.threshold - found.scores.line
    }
    assert found.flipped
    with pytest.raises(VerificationFailed, match="another verdict"):
        refuse_problems(found)


def test_numbers_that_are_none_are_refused(copy: Path, tiny_run: Path) -> None:
    shifted(copy, "teacher.onnx", 0.0)
    model = onnx.load(copy / "student.onnx")
    last = model.graph.node[-1].output[0]
    model.graph.node[-1].output[0] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1e38), "huge"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["before", "huge"], ["larger"]))
    model.graph.node.append(onnx.helper.make_node("Mul", ["larger", "huge"], [last]))
    onnx.save(model, copy / "student.onnx")
    resealed(copy)
    found = verify_bundle(tiny_run, load_bundle(copy), LOOSE, NoBars())
    with pytest.raises(VerificationFailed, match=r"not finite"):
        refuse_problems(found)
    assert "NaN" not in found.model_dump_json()
    assert json.loads(found.model_dump_json())["samples"][0]["onnx_score"] is None


def test_a_bundle_of_another_run_is_refused(copy: Path, tiny_run: Path) -> None:
    resealed(copy, product="bolt")
    with pytest.raises(VerificationFailed, match=r"was not exported from .*: product differ"):
        verify_bundle(tiny_run, load_bundle(copy), Tolerances(), NoBars())


def test_without_a_threshold_nothing_can_be_said(copy: Path, tiny_run: Path) -> None:
    (copy / "calibration.yaml").unlink()
    with pytest.raises(VerificationFailed, match="no calibration"):
        verify_bundle(tiny_run, load_bundle(copy), Tolerances(), NoBars())


class Interrupted(NoBars):
    """Ctrl-C, a while after a task has begun."""

    def __init__(self, task: str) -> None:
        self.interrupted = task

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        def advance(steps: int) -> None:
            if name == self.interrupted:
                raise KeyboardInterrupt

        yield advance


@pytest.mark.parametrize("task", ["export", "verify"])
def test_an_interrupted_export_leaves_nothing(task: str, tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        export_bundle(tiny_run, tmp_path / "out" / "bundle", progress=Interrupted(task))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_run_without_golden_samples_proves_nothing(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    with np.load(tiny_run / "golden.npz") as arrays:
        kept = {key: arrays[key] for key in arrays.files if "-0.5/" in key}  # defective ones alone
    np.savez(tmp_path / "run" / "golden.npz", **kept)
    with pytest.raises(VerificationFailed, match="no golden samples"):
        export_bundle(tmp_path / "run", tmp_path / "bundle", progress=NoBars())
    assert not (tmp_path / "bundle").exists()


# The rules, on numbers alone.

ONE_STAGE = Manifest(
    product="plate",
    method="uneven",
    preprocessing=Preprocessing(framing=FramingConfig(mode="whole")),
    stages=(
        StageSpec(
            name="uneven",
            file="uneven.onnx",
            precision="fp32",
            inputs={"z": "z"},
            outputs={ANOMALY_MAP: ANOMALY_MAP},
        ),
    ),
    tensors={},
    score=ScoreSpec(),
    files={},
)


def sample(name: str, *, defective: bool = False) -> GoldenSample:
    return GoldenSample(name, {}, np.ones((2, 2), bool), defective)


def measured(rows: Sequence[tuple[float, float]]) -> Measured:
    """Samples with these scores, by torch and by ONNX Runtime."""
    found = Measured()
    found.samples = [
        MeasuredSample(sample(f"part-{number}"), by_torch, by_onnx, 0.0)
        for number, (by_torch, by_onnx) in enumerate(rows)
    ]
    return found


def judged(rows: Sequence[tuple[float, float]], threshold: float) -> Verification:
    """Their verification where the good parts' scores spread by 1, and may drift by 0.25."""
    found = measured(rows)
    nothing = TensorError(max_abs=0, of_spread=0)
    found.stages = {(s.name, t): nothing for s in ONE_STAGE.stages for t in s.outputs.values()}
    return verified(
        ONE_STAGE,
        found,
        threshold=threshold,
        good_scores={"a": 1.0, "b": 3.0},
        tolerances=Tolerances(fp32=Tolerance(tensor=1.0, score=0.25)),
        findings=(),
    )


scores = st.floats(0, 10, allow_nan=False)


@settings(deadline=None)
@given(st.data())
def test_a_verdict_is_flipped_or_the_same_or_on_the_line(data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.tuples(scores, scores), min_size=1, max_size=8))
    found = judged(rows, 5.0)
    for (by_torch, by_onnx), row in zip(rows, found.samples, strict=True):
        if min(abs(by_torch - 5), abs(by_onnx - 5)) <= LINE_OF_SPREAD:
            assert row.verdict == "on the line"
        else:
            assert (row.verdict == "flipped") == ((by_torch > 5) != (by_onnx > 5))
    assert found.scores.drift == max(abs(by_torch - by_onnx) for by_torch, by_onnx in rows)
    drifts = [abs(by_torch - by_onnx) / max(1.0, abs(by_torch - 5)) for by_torch, by_onnx in rows]
    assert bool(found.problems()) == (max(drifts) > 0.25 or bool(found.flipped))


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=60, unique=True),
    st.floats(0, 5),
    st.integers(1, 300),
    st.randoms(use_true_random=False),
)
def test_the_threshold_is_that_of_all_the_bundles_scores_or_there_is_none(
    by_torch: Sequence[float], drift: float, per_mille: int, random: Random
) -> None:
    rate = per_mille / 1000
    torch_scores = {f"p{number}": score for number, score in enumerate(by_torch)}
    everything = {name: score + random.uniform(-drift, drift) for name, score in torch_scores.items()}
    kept = about_the_threshold(torch_scores, rate)
    seen = max(abs(everything[name] - torch_scores[name]) for name in torch_scores)
    try:
        merged = shipped_scores(torch_scores, {name: everything[name] for name in kept}, seen, rate)
    except VerificationFailed:
        assert len(torch_scores) > len(kept)
        return
    rank = quantile_rank(len(by_torch), rate) - 1
    assert sorted(merged.values())[rank] == sorted(everything.values())[rank]


def test_a_threshold_that_drift_could_move_is_not_carried_over() -> None:
    by_torch = {f"p{number:02d}": float(number) for number in range(40)}
    kept = {name: by_torch[name] for name in ("p38", "p39")}
    assert shipped_scores(by_torch, kept, 0.5, 0.02)["p39"] == 39.0
    with pytest.raises(VerificationFailed, match="p37 for one"):
        shipped_scores(by_torch, kept, 2.0, 0.02)


def test_the_spread_of_equal_scores_is_a_hundredth_of_them() -> None:
    assert score_spread({"a": 5.0}) == score_spread({"a": 5.0, "b": 5.0}) == 0.05
    assert score_spread({"a": 1.0, "b": 3.0}) == 1.0
    assert score_spread({"a": 0.0}) > 0


def test_a_bundle_takes_samples_that_no_rounding_decides() -> None:
    rows = [(1.0, 1.0), (4.0, 4.0), (4.9, 4.9), (5.1, 5.1), (6.0, 6.0), (7.0, 7.0), (9.0, 9.0)]
    names = [found.name for found in choose_for_bundle(measured(rows), judged(rows, 5.0))]
    assert names == ["part-0", "part-1", "part-4", "part-6"]
    near = [(4.9, 4.9), (5.0, 5.0), (5.2, 5.2)]
    assert [found.name for found in choose_for_bundle(measured(near), judged(near, 5.0))] == ["part-2"]
