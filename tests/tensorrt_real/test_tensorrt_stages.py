"""Each stage of each method, at the size that is the default, in each precision, built by TensorRT-RTX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from edge.bundle import Precision
from edge.demo.rig import packaged_bundle
from edge.framing import FramingConfig
from edge.preprocessing import Preprocessing, tensor_shapes
from edge.runtime.tensorrt.building import build_engine
from edge.runtime.tensorrt.options import BuildOptions
from export.onnx import export_graph
from export.precision import in_precision, supports
from train.config import TrainConfig
from train.methods import FusionModel, MemoryBankModel, Method, build_method

Tensors = Mapping[str, np.ndarray]

STAGES = ("backbone", "msd_teacher", "msd_student", "msd_distance", "memory_bank_bank", "fusion")
FLOAT_ALONE = {"msd_distance", "memory_bank_bank", "fusion"}
"""Distances, of which nothing may run in another precision."""

METHOD = {
    "name": "fusion",
    "members": [
        {"name": "msd", "inputs": ["image", "normals", "z"], "normalise_cells": True},
        {
            "name": "memory-bank",
            "inputs": ["image", "normals", "z"],
            "reweighting_neighbours": 2,
            "position_weight": 0.3,
            "normalise_cells": True,
        },
    ],
}


@dataclass(frozen=True)
class Stages:
    """The graph of each stage, and what it takes when the whole model looks at noise."""

    folder: Path
    inputs: Mapping[str, Tensors]

    def in_precision(self, name: str, precision: Precision) -> onnx.ModelProto:
        model = onnx.load(self.folder / f"{name}.onnx")
        return in_precision(model, precision, name=name, calibration=[self.inputs[name]])


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """All that fusion has: both methods with every option that adds to their graphs; not trained."""
    config = TrainConfig.model_validate({"method": METHOD})
    sizes = {name: getattr(config.preprocessing, name) for name in ("image_px", "depth_px", "map_cells")}
    preprocessing = Preprocessing(framing=FramingConfig(mode="whole"), **sizes)
    model = build_method(config.method, preprocessing, 0)
    _fill_bank(model)
    folder = tmp_path_factory.mktemp("stages")
    rng = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {
        name: (rng.random(shape) * (255 if dtype == "uint8" else 1)).astype(dtype)
        for name, (dtype, shape) in tensor_shapes(preprocessing).items()
    }
    inputs: dict[str, Tensors] = {}
    for stage in model.stages():
        path, spec = folder / stage.spec.file, stage.spec
        if not path.exists():
            export_graph(stage.module, stage.examples, list(spec.outputs), path)
        feed = {node: tensors[tensor] for node, tensor in spec.inputs.items()}
        inputs.setdefault(path.stem, feed)
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        made = session.run(list(spec.outputs), feed)
        tensors |= dict(zip(spec.outputs.values(), made, strict=True))
    return Stages(folder, inputs)


def _fill_bank(model: Method) -> None:
    """More rows than go into one chunk of the graph."""
    assert isinstance(model, FusionModel)
    member = model.members["memory_bank"]
    assert isinstance(member, MemoryBankModel)
    bank = member.bank
    bank.set_rows(torch.randn(5000, bank.rows.shape[1], generator=torch.Generator().manual_seed(0)))


def test_these_are_all_stages(stages: Stages) -> None:
    assert sorted(stages.inputs) == sorted(STAGES)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", STAGES)
def test_builds(name: str, precision: Precision, stages: Stages, rtx: Any, tmp_path: Path) -> None:
    model = onnx.load(stages.folder / f"{name}.onnx")
    assert supports(model, precision) is (precision == "fp32" or name not in FLOAT_ALONE)
    if not supports(model, precision):
        return
    path = tmp_path / f"{name}.onnx"
    onnx.save(stages.in_precision(name, precision), path)
    assert len(build_engine(rtx, path, BuildOptions())) > 1000


@pytest.mark.parametrize("path", sorted(packaged_bundle().glob("*.onnx")), ids=lambda path: path.stem)
def test_builds_the_model_of_the_demo(path: Path, rtx: Any) -> None:
    assert len(build_engine(rtx, path, BuildOptions())) > 1000
