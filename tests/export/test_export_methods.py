"""Each method becomes a bundle that the device runs as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from edge.bundle import load_bundle
from edge.runtime import runner_for
from export.bundle import export_bundle
from export.plan import parse_precisions
from export.verification import Tolerance, Tolerances
from tests.small_run import TINY, NoBars
from train.config import TrainConfig
from train.datasets import DataSet, open_dataset
from train.evaluation import evaluate, predictor_of_bundle, predictor_of_run
from train.training import train_run
from train.views import FeatureCache

assert isinstance(TINY.method, BaseModel)
MSD = TINY.method.model_dump()
BANK = {"name": "memory-bank", "inputs": ["image", "normals", "z"], "backbone": {"blocks": [3]}}
METHODS = {
    "memory-bank": BANK,
    "weighted": {**BANK, "reweighting_neighbours": 2, "position_weight": 0.3, "rotations": 2},
    "fusion": {"name": "fusion", "members": [MSD, BANK]},
    "of-banks": {
        "name": "fusion",
        "members": [
            {**BANK, "inputs": ["image"]},
            {**BANK, "inputs": ["normals"]},
            {**BANK, "backbone": {"blocks": [2]}},
        ],
    },
}
LOWER = {"weighted": "fp16", "fusion": "int8"}
"""What else a method is exported in: that it is linted and verified then, too."""

ROOMY = Tolerances(int8=Tolerance(tensor=1e3, score=1e3))


@pytest.mark.parametrize("name", list(METHODS))
def test_a_bundle_of_each_method_gives_the_maps_of_its_run(
    name: str, tmp_path: Path, training_data: DataSet, simulated: Path
) -> None:
    config = TrainConfig.model_validate({**TINY.model_dump(), "method": METHODS[name]})
    cache = FeatureCache(tmp_path / "cache")
    train_run(training_data, config, tmp_path / "run", cache=cache, progress=NoBars(), note={})
    export_bundle(tmp_path / "run", tmp_path / "bundle", progress=NoBars())
    samples = open_dataset(simulated / "test", "captures", None, 0.5).test
    bundle = load_bundle(tmp_path / "bundle")
    with runner_for(bundle) as runner:
        by_onnx = evaluate(predictor_of_bundle(bundle, runner), samples, lambda n: None)
    by_torch = evaluate(predictor_of_run(tmp_path / "run"), samples, lambda n: None)
    assert np.allclose(by_onnx.scores, by_torch.scores, rtol=1e-3, atol=1e-3)
    assert by_onnx.figures.aupro_30 > 0.8  # six parts to train on: enough to say where
    if name in LOWER:
        export_bundle(
            tmp_path / "run",
            tmp_path / "lower",
            precision=parse_precisions(LOWER[name]),
            tolerances=ROOMY,
            progress=NoBars(),
        )
        lower = load_bundle(tmp_path / "lower").manifest.stages
        assert {stage.precision for stage in lower} >= {"fp32", LOWER[name]}


def test_members_of_a_fusion_share_a_backbone(tmp_path: Path, training_data: DataSet) -> None:
    config = TrainConfig.model_validate({**TINY.model_dump(), "method": METHODS["of-banks"]})
    train_run(training_data, config, tmp_path / "run", cache=FeatureCache(None), progress=NoBars(), note={})
    export_bundle(tmp_path / "run", tmp_path / "bundle", progress=NoBars())
    manifest = load_bundle(tmp_path / "bundle").manifest
    files = [stage.file for stage in manifest.stages]
    assert files.count("backbone.onnx") == 2  # on the picture, and on the normals
    assert files.count("memory_bank_2_backbone.onnx") == 2  # cut elsewhere
    assert manifest.method == "fusion"
    assert set(manifest.licences) == {"backbone", "memory_bank_2_backbone"}
