"""Maps, scores and the field's figures of a test split, for a checkpoint or for a bundle."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from edge.bundle import ANOMALY_MAP, Bundle
from edge.camera.sample import Sample
from edge.errors import CaptureError, DatasetError, TrainingError
from edge.preprocessing import Preprocessing
from edge.runtime.runner import Runner
from edge.scoring import ScoreSpec, image_score, smooth_map
from edge.sealed import write_atomically
from train.checkpoint import load_model
from train.datasets import name_of
from train.metrics import aupro, image_auroc, lost_ground_truth_fraction, pixel_auroc
from train.model import AnomalyModel
from train.predictor import cells_by_torch
from train.views import prepare

__all__ = [
    "Evaluation",
    "Figures",
    "Predictor",
    "evaluate",
    "predictor_of_bundle",
    "predictor_of_model",
    "predictor_of_run",
    "save_maps",
]

AUPRO_LIMITS = (0.3, 0.05, 0.01)

_Float = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Predictor:
    """What evaluation needs of a model: its preprocessing, its score function, tensors → map (m, m)."""

    preprocessing: Preprocessing
    wanted: frozenset[str]
    score: ScoreSpec
    cells: Callable[[dict[str, npt.NDArray[np.generic]]], _Float]


class Figures(BaseModel):
    """The field's figures over one test split; AUPRO is exact, up to that false-positive rate in percent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int
    good: int
    defective: int
    i_auroc: float
    p_auroc: float
    aupro_30: float
    aupro_5: float
    aupro_1: float
    ground_truth_outside_mask: float
    i_auroc_by_defect: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Scores, labels and maps (H, W) at the frames' resolution, in the order of the samples."""

    names: tuple[str, ...]
    defects: tuple[str | None, ...]
    scores: tuple[float, ...]
    maps: tuple[_Float, ...]
    figures: Figures


def predictor_of_model(model: AnomalyModel, score: ScoreSpec) -> Predictor:
    """A checkpoint's model, by torch."""
    return Predictor(model.preprocessing, model.wanted, score, lambda tensors: cells_by_torch(model, tensors))


def predictor_of_run(run: Path) -> Predictor:
    """The model of a run, by torch; raises `TrainingError`."""
    model, info = load_model(run)
    return predictor_of_model(model, info.config.score)


def predictor_of_bundle(bundle: Bundle, runner: Runner) -> Predictor:
    """A bundle, by the device's own runner."""

    def cells(tensors: dict[str, npt.NDArray[np.generic]]) -> _Float:
        return np.asarray(runner.run(tensors)[ANOMALY_MAP][0, 0], dtype=np.float32)

    return Predictor(bundle.manifest.preprocessing, bundle.wanted | {"mask"}, bundle.manifest.score, cells)


def evaluate(predictor: Predictor, samples: Sequence[Sample], progress: Callable[[int], None]) -> Evaluation:
    """Run the predictor over the samples and compute the figures.

    Raises `DatasetError` naming the file where a sample can't be judged or the split lacks a class,
    `TrainingError` where a map is not finite.
    """
    scores, maps, masks, foregrounds = [], [], [], []
    for sample in samples:
        prepared = prepare(sample, predictor.preprocessing, predictor.wanted)
        cells = predictor.cells(prepared.tensors)  # (m, m)
        if not bool(np.isfinite(cells).all()):
            raise TrainingError(f"{sample.rgb_path}: the model's map is not finite")
        square = smooth_map(cells, prepared.mask, predictor.score)  # (side, side)
        scores.append(image_score(square, prepared.mask, predictor.score))
        height, width = sample.intrinsics.height_px, sample.intrinsics.width_px
        maps.append(prepared.view.give_back(square, width, height))
        foregrounds.append(prepared.view.give_back(prepared.mask.astype(np.float32), width, height) > 0)
        masks.append(_mask(sample))
        progress(1)
    defects = tuple(sample.defect for sample in samples)
    return Evaluation(
        names=tuple(name_of(sample) for sample in samples),
        defects=defects,
        scores=tuple(scores),
        maps=tuple(maps),
        figures=_figures(defects, scores, maps, masks, foregrounds),
    )


def _mask(sample: Sample) -> npt.NDArray[np.bool_]:
    try:
        return sample.mask()
    except CaptureError as error:
        raise DatasetError(str(error)) from error


def _figures(
    defects: Sequence[str | None],
    scores: Sequence[float],
    maps: Sequence[_Float],
    masks: Sequence[npt.NDArray[np.bool_]],
    foregrounds: Sequence[npt.NDArray[np.bool_]],
) -> Figures:
    labels = [defect is not None for defect in defects]
    by_limit = aupro(masks, maps, AUPRO_LIMITS)
    by_defect = {}
    for kind in sorted({defect for defect in defects if defect is not None}):
        rows = [i for i, defect in enumerate(defects) if defect in (None, kind)]
        by_defect[kind] = image_auroc([labels[i] for i in rows], [scores[i] for i in rows])
    return Figures(
        images=len(labels),
        good=labels.count(False),
        defective=labels.count(True),
        i_auroc=image_auroc(labels, scores),
        p_auroc=pixel_auroc(masks, maps),
        aupro_30=by_limit[0.3],
        aupro_5=by_limit[0.05],
        aupro_1=by_limit[0.01],
        ground_truth_outside_mask=lost_ground_truth_fraction(masks, foregrounds),
        i_auroc_by_defect=by_defect,
    )


def save_maps(folder: Path, evaluation: Evaluation) -> None:
    """Each image's map as float32 .npy (H, W) at the original resolution, scores and labels in `scores.json`.

    `scores.json` comes last: a folder that has it has all. Raises `TrainingError` where the folder holds
    something already, or can't be written.
    """
    rows = []
    try:
        if folder.exists() and any(folder.iterdir()):
            raise TrainingError(f"{folder}: holds something already; name a new folder for the maps")
        folder.mkdir(parents=True, exist_ok=True)
        for part, defect, score, anomaly_map in zip(
            evaluation.names, evaluation.defects, evaluation.scores, evaluation.maps, strict=True
        ):
            name = f"{part.replace('/', '_')}.npy"
            with (folder / name).open("wb") as file:
                np.save(file, anomaly_map)
            rows.append(
                {
                    "part": part,
                    "map": name,
                    "defect": defect,
                    "label": int(defect is not None),
                    "score": score,
                }
            )
        text = json.dumps({"images": rows, "figures": evaluation.figures.model_dump()}, indent=1)
        write_atomically(folder / "scores.json", text.encode())
    except OSError as error:
        raise TrainingError(f"{folder}: maps can't be written ({error.strerror})") from error
