"""AST's and the paper's choices, trained and run on the device's side without a line of their own there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle import load_bundle
from edge.runtime import runner_for
from export.bundle import export_bundle
from tests.small_run import TINY, NoBars
from train.config import TrainConfig
from train.datasets import DataSet, open_dataset
from train.evaluation import evaluate, predictor_of_bundle, predictor_of_run
from train.training import train_run
from train.views import FeatureCache

AST = {
    "preprocessing": {
        "hole_passes": 3,
        "foreground": {
            "closing_px": 1,
            "opening_px": 5,
            "shrinking": "touched",
            "dilation_px": 2,
            "dilation_shape": "square",
            "cells": "soft",
        },
        "framing": {"mode": "whole"},
        "z": {"source": "raw", "clamp": None, "normalised": "frame"},
    },
    "method": {
        "inputs": ["image", "z"],
        "standardise": False,
        "likelihood": {"average": "cells", "channels": "sum"},
        "teacher_optimiser": {"clip_norm": None, "learning_rate": 2e-4},
        "distillation": {"scales": [1], "average": "cells", "map_mask": "twice"},
    },
    "score": {"smoothing_px": 0.0, "interpolation": "bicubic"},
}
DEPTH_ONLY = {"method": {"inputs": ["z"], "distillation": {"scales": [2, 4]}}}
COARSE = {
    "preprocessing": {"foreground": {"cells": "half"}},
    "method": {
        "inputs": ["image"],
        "distillation": {"scales": [4], "channels": "sum", "pooled_mask": "half"},
    },
}
CASES = {
    "ast": (AST, {"image", "z", "mask"}, "ast"),
    "depth only": (DEPTH_ONLY, {"z", "mask"}, "msd"),
    "coarse scale only": (COARSE, {"image", "mask"}, "msd"),
}


def overlaid(data: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **data,
        **{
            key: overlaid(data[key], value) if isinstance(value, Mapping) else value
            for key, value in over.items()
        },
    }


@pytest.mark.parametrize("name", CASES)
def test_each_choice_trains_exports_and_gives_one_map_on_both_sides(
    name: str, training_data: DataSet, simulated: Path, tmp_path: Path
) -> None:
    over, wanted, label = CASES[name]
    config = TrainConfig.model_validate(overlaid(TINY.model_dump(mode="json"), over))
    train_run(training_data, config, tmp_path / "run", cache=FeatureCache(None), progress=NoBars(), note={})
    export_bundle(tmp_path / "run", tmp_path / "bundle", progress=NoBars())
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.wanted == wanted
    assert bundle.method == label
    assert bundle.manifest.score == config.score

    samples = open_dataset(simulated / "test", "captures", None, 0.5).test
    by_torch = evaluate(predictor_of_run(tmp_path / "run"), samples, lambda n: None)
    with runner_for(bundle) as runner:
        by_onnx = evaluate(predictor_of_bundle(bundle, runner), samples, lambda n: None)
    assert np.isfinite(by_torch.scores).all()
    assert np.allclose(by_torch.scores, by_onnx.scores, rtol=1e-3)
    assert by_onnx.figures.aupro_30 == pytest.approx(by_torch.figures.aupro_30, abs=1e-3)

    if name == "ast":  # the exported graph squares the soft mask
        with np.load(bundle.golden_files()[0]) as golden:
            mask = golden["mask"]
            tensors = {tensor: golden[tensor] for tensor in bundle.wanted}
        assert ((mask > 0) & (mask < 1)).any()
        with runner_for(bundle) as runner:
            soft = runner.run(tensors)["anomaly_map"]
            bare = runner.run({**tensors, "mask": np.ones_like(mask)})["anomaly_map"]
        assert np.allclose(soft, mask**2 * bare, rtol=1e-4, atol=1e-7)
