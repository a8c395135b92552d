"""Bundles to measure: a memory bank of random rows, and a bundle whose heads are int8."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch

from edge.bundle import Bundle, FileSpec, Manifest, TensorSpec, load_bundle, write_manifest
from edge.framing import FramingConfig
from edge.preprocessing import Preprocessing
from edge.runtime import Runner
from edge.runtime.runner import Array
from edge.scoring import ScoreSpec
from edge.sealed import file_sha256
from export.onnx import export_graph
from export.precision import in_precision, supports
from train.methods.memory_bank import MemoryBankConfig, MemoryBankModel

__all__ = ["BANK_ROWS", "bundle_with_int8_heads", "random_bank"]

BANK_ROWS = 8000


def random_bank(folder: Path, *, image_px: int = 512, cells: int = 32, rows: int = BANK_ROWS) -> Bundle:
    """A memory bank that looks closely, its rows drawn at random: it takes as long as a trained one."""
    preprocessing = Preprocessing(
        image_px=image_px,
        depth_px=6 * cells,
        map_cells=cells,
        framing=FramingConfig(mode="part", window_px=192, upright="axis"),
    )
    model = MemoryBankModel(MemoryBankConfig(), preprocessing)
    generator = torch.Generator().manual_seed(0)
    model.bank.set_rows(torch.randn(rows, model.bank.rows.shape[1], generator=generator))  # (M, C)
    folder.mkdir(parents=True)
    tensors: dict[str, TensorSpec] = {}
    for stage in model.stages():
        graph = export_graph(stage.module, stage.examples, list(stage.spec.outputs), folder / stage.spec.file)
        for node, tensor in stage.spec.outputs.items():
            dtype, shape = graph.outputs[node]
            tensors[tensor] = TensorSpec.model_validate({"dtype": dtype, "shape": shape})
    manifest = Manifest(
        product="plate",
        method=model.label,
        preprocessing=preprocessing,
        stages=tuple(stage.spec for stage in model.stages()),
        tensors=tensors,
        score=ScoreSpec(),
        files={path.name: _file_spec(path) for path in sorted(folder.glob("*.onnx"))},
    )
    write_manifest(folder, manifest)
    return load_bundle(folder)


def bundle_with_int8_heads(
    bundle: Bundle, runner: Runner, parts: Sequence[dict[str, Array]], folder: Path
) -> Bundle | None:
    """The bundle with all that follows the backbone in int8; None where nothing of it can be.

    `parts` are the tensors of a few frames, from which the ranges are taken.
    """
    manifest = bundle.manifest
    heads = {stage.file for stage in manifest.stages if stage.name.partition("_")[0] != "backbone"}
    graphs = {file: onnx.load_from_string(bundle.read(file)) for file in sorted(heads)}
    chosen = [file for file in graphs if supports(graphs[file], "int8")]
    if not chosen:
        return None
    # Only what the manifest names: golden samples and a calibration belong to the bundle as it was.
    folder.mkdir(parents=True)
    for file in {stage.file for stage in manifest.stages}:
        shutil.copy(bundle.path / file, folder)
    everything = [{**part, **runner.run(part, list(manifest.tensors))} for part in parts]
    for file in chosen:
        calibration = [
            {node: values[tensor] for node, tensor in stage.inputs.items()}
            for stage in manifest.stages
            if stage.file == file
            for values in everything
        ]
        onnx.save(in_precision(graphs[file], "int8", name=file, calibration=calibration), folder / file)
    stages = tuple(
        stage.model_copy(update={"precision": "int8"}) if stage.file in chosen else stage
        for stage in manifest.stages
    )
    files = {path.name: _file_spec(path) for path in sorted(folder.glob("*.onnx"))}
    write_manifest(folder, manifest.model_copy(update={"stages": stages, "files": files}))
    return load_bundle(folder)


def _file_spec(path: Path) -> FileSpec:
    return FileSpec(sha256=file_sha256(path), bytes=path.stat().st_size)
