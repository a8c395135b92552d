from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edge.bundle import ANOMALY_MAP, load_bundle
from edge.errors import ExportError, VerificationFailed
from edge.golden import CELL_MM2, FOREGROUND, read_golden
from edge.inspection import Outcome
from edge.inspector import Inspector
from edge.ruled_score import cell_mm2_of
from edge.runtime import runner_for
from export.bundle import export_bundle
from export.onnx import OPSET, export_graph
from export.verification import Tolerance, Tolerances
from tests.small_run import NoBars
from train.checkpoint import load_log
from train.datasets import open_dataset
from train.evaluation import evaluate, predictor_of_bundle, predictor_of_run
from train.views import prepare


def test_a_bundle_gives_the_figures_of_its_run(bundle_folder: Path, tiny_run: Path, simulated: Path) -> None:
    samples = open_dataset(simulated / "test", "captures", None, 0.5).test
    by_torch = evaluate(predictor_of_run(tiny_run), samples, lambda n: None)
    bundle = load_bundle(bundle_folder)
    with runner_for(bundle) as runner:
        by_onnx = evaluate(predictor_of_bundle(bundle, runner), samples, lambda n: None)
    assert np.allclose(by_torch.scores, by_onnx.scores, rtol=1e-4)
    for name in ("i_auroc", "p_auroc", "aupro_30", "aupro_5", "aupro_1"):
        assert getattr(by_onnx.figures, name) == pytest.approx(getattr(by_torch.figures, name), abs=1e-3)


def test_the_device_finds_what_evaluation_found(bundle_folder: Path, simulated: Path) -> None:
    samples = open_dataset(simulated / "test", "captures", None, 0.5).test
    bundle = load_bundle(bundle_folder)
    with runner_for(bundle) as runner:
        scores = evaluate(predictor_of_bundle(bundle, runner), samples, lambda n: None).scores
        inspections = [Inspector(bundle, runner).inspect(sample.frame()) for sample in samples]
    assert [inspection.score for inspection in inspections] == list(scores)
    assert bundle.calibration is not None
    for inspection, score in zip(inspections, scores, strict=True):
        expected = Outcome.FAIL if score > bundle.calibration.threshold else Outcome.PASS
        assert inspection.outcome is expected


def test_the_threshold_comes_from_the_parts_held_out_and_says_that_it_is_provisional(
    bundle_folder: Path, tiny_run: Path
) -> None:
    calibration = load_bundle(bundle_folder).calibration
    scores = load_log(tiny_run).validation_scores
    assert calibration is not None
    # Of 3 parts no quantile is below the largest; and it is the bundle's own score, not torch's.
    assert calibration.threshold == pytest.approx(max(scores.values()), rel=1e-4)
    assert calibration.good_parts == 3
    assert calibration.good_scores == pytest.approx(sorted(scores.values()), rel=1e-4)
    assert calibration.provisional


def test_golden_samples_hold_what_torch_made_of_them(bundle_folder: Path, simulated: Path) -> None:
    bundle = load_bundle(bundle_folder)
    part = open_dataset(simulated / "test", "captures", None, 0.5).test[0]
    prepared = prepare(part, bundle.manifest.preprocessing, frozenset({"mask"}))
    cell_mm2 = cell_mm2_of(prepared.view, prepared.mask.shape[0], prepared.pixel_mm)
    assert 2 <= len(bundle.golden_files()) <= 4
    with runner_for(bundle) as runner:
        for path in bundle.golden_files():
            tensors = read_golden(path, bundle.manifest)
            expected = tensors.pop(ANOMALY_MAP)
            assert float(tensors.pop(CELL_MM2)[0]) == pytest.approx(cell_mm2, rel=0.05)
            found = runner.run(tensors)[ANOMALY_MAP]
            assert np.abs(found - expected).max() < 1e-3 * expected.std()
            assert tensors[FOREGROUND].any()


def test_graphs_are_static_self_contained_and_of_the_opset_asked_for(bundle_folder: Path) -> None:
    assert {path.suffix for path in bundle_folder.iterdir() if path.is_file()} == {".json", ".onnx", ".yaml"}
    for path in bundle_folder.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        assert [entry.version for entry in model.opset_import if entry.domain == ""] == [OPSET]
        assert not any(
            tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer
        )
        for value in (*model.graph.input, *model.graph.output):
            assert all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim)


def test_graphs_tell_nothing_of_the_machine_that_made_them(bundle_folder: Path) -> None:
    here = str(Path(__file__).resolve().parents[2]).encode()
    for path in bundle_folder.glob("*.onnx"):
        data = path.read_bytes()
        assert here not in data, path
        assert b"stack_trace" not in data, path
        assert b".py" not in data, path


def test_the_backbone_is_one_file_that_runs_twice(bundle_folder: Path) -> None:
    stages = load_bundle(bundle_folder).manifest.stages
    assert [stage.name for stage in stages] == [
        "backbone",
        "backbone_normals",
        "teacher",
        "student",
        "distance",
    ]
    assert [stage.file for stage in stages[:2]] == ["backbone.onnx"] * 2


def test_an_export_is_the_same_bundle_each_time(tmp_path: Path, bundle_folder: Path, tiny_run: Path) -> None:
    export_bundle(tiny_run, tmp_path / "again", progress=NoBars())
    for path in sorted(bundle_folder.rglob("*")):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(bundle_folder)).read_bytes() == path.read_bytes(), (
                path
            )


def test_a_missed_tolerance_leaves_nothing_behind(tmp_path: Path, tiny_run: Path) -> None:
    nothing = Tolerances(fp32=Tolerance(tensor=1e-12, score=1e-12))
    with pytest.raises(VerificationFailed, match="does not give what torch gives"):
        export_bundle(tiny_run, tmp_path / "out" / "bundle", tolerances=nothing, progress=NoBars())
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bundle_is_never_written_over(bundle_folder: Path, tiny_run: Path) -> None:
    with pytest.raises(ExportError, match="exists already"):
        export_bundle(tiny_run, bundle_folder, progress=NoBars())


def test_one_tensor_for_two_inputs_is_still_two_inputs(tmp_path: Path) -> None:
    class Difference(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a - 2 * b

    same = torch.ones(1, 3)
    graph = export_graph(Difference(), {"a": same, "b": same}, ["y"], tmp_path / "difference.onnx")
    reference = onnx.reference.ReferenceEvaluator(str(graph.path))
    a, b = np.array([[1, 2, 3]], np.float32), np.array([[5, 7, 11]], np.float32)
    assert reference.run(None, {"a": a, "b": b})[0].tolist() == (a - 2 * b).tolist()


def test_a_run_that_is_none_is_named(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "x", ignore_errors=True)
    with pytest.raises(Exception, match="no such checkpoint") as caught:
        export_bundle(tmp_path / "x", tmp_path / "b", progress=NoBars())
    assert type(caught.value).__name__ == "TrainingError"
