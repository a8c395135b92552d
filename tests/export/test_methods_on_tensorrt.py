"""Every stage of every method, as it is exported, through TensorRT's runner on the pretend GPU."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from pydantic import BaseModel

from edge.bundle import Bundle, FileSpec, Manifest, TensorSpec, check_wiring
from edge.framing import FramingConfig
from edge.preprocessing import Preprocessing
from edge.scoring import ScoreSpec
from edge.sealed import file_sha256
from export.onnx import export_graph
from tests.edge.tensorrt.pretending import assert_like_onnx, random_tensors
from tests.small_run import TINY
from train.config import TrainConfig
from train.methods import FusionModel, MemoryBankModel, Method, build_method

assert isinstance(TINY.method, BaseModel)
MSD = TINY.method.model_dump()
BANK = {"name": "memory-bank", "inputs": ["image", "normals", "z"], "backbone": {"blocks": [3]}}
FUSION = {"name": "fusion", "members": [MSD, BANK]}
"""Its members are the other methods, so it has the stages of all."""


def bundle_of(model: Method, folder: Path, preprocessing: Preprocessing) -> Bundle:
    """A bundle of a method that nobody trained: what it computes is not the point."""
    tensors: dict[str, TensorSpec] = {}
    files: dict[str, FileSpec] = {}
    for stage in model.stages():
        path, spec = folder / stage.spec.file, stage.spec
        if spec.file not in files:
            export_graph(stage.module, stage.examples, list(spec.outputs), path)
            files[spec.file] = FileSpec(sha256=file_sha256(path), bytes=path.stat().st_size)
        for output in onnx.load(path).graph.output:
            assert output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
            shape = tuple(dim.dim_value for dim in output.type.tensor_type.shape.dim)
            tensors[spec.outputs[output.name]] = TensorSpec(dtype="float32", shape=shape)
    manifest = Manifest(
        product="plate",
        method=model.config.name,
        preprocessing=preprocessing,
        stages=tuple(stage.spec for stage in model.stages()),
        tensors=tensors,
        score=ScoreSpec(),
        files=files,
    )
    check_wiring(manifest, folder)
    return Bundle(folder, manifest, "0" * 64, None)


def test_methods_run_as_on_onnx_runtime(tmp_path: Path) -> None:
    config = TrainConfig.model_validate({**TINY.model_dump(), "method": FUSION})
    sizes = {key: getattr(TINY.preprocessing, key) for key in ("image_px", "depth_px", "map_cells")}
    preprocessing = Preprocessing(framing=FramingConfig(mode="whole"), **sizes)
    model = build_method(config.method, preprocessing, 0)
    assert isinstance(model, FusionModel)
    member = model.members["memory_bank"]
    assert isinstance(member, MemoryBankModel)
    rows = torch.randn(40, member.bank.rows.shape[1], generator=torch.Generator().manual_seed(0))
    member.bank.set_rows(rows)
    bundle = bundle_of(model, tmp_path, preprocessing)
    names = [stage.name for stage in bundle.manifest.stages]
    assert [name for name in names if "backbone" not in name] == [
        "msd_teacher",
        "msd_student",
        "msd_distance",
        "memory_bank_bank",
        "fusion",
    ]
    assert sum(stage.file == "backbone.onnx" for stage in bundle.manifest.stages) == 2
    assert_like_onnx(bundle, [random_tensors(bundle, seed) for seed in range(2)])
