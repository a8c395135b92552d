"""Maps, scores and the field's figures of a test split, for a checkpoint or for a bundle."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from edge.bundle import ANOMALY_MAP, Bundle
from edge.calibration import Calibration
from edge.camera.sample import Sample
from edge.errors import CaptureError, DatasetError, TrainingError
from edge.preprocessing import Prepared, Preprocessing
from edge.region_rules import RegionRules
from edge.ruled_score import NoPieceSoLarge, RuledScore, cell_mm2_of
from edge.runtime.runner import Runner
from edge.scoring import ScoreSpec, smooth_map
from edge.sealed import write_atomically
from train.checkpoint import load_model
from train.datasets import name_of
from train.maps import KEPT_MAPS_BYTES, MadeMaps, PackedMask, PackedMasks, StoredMap, pack
from train.metrics import (
    MIN_RESAMPLES,
    Figures,
    Judged,
    OutsideMask,
    checked_labels,
    false_positive_rate_at,
    image_auroc,
    intervals,
    legacy_figures,
    pixel_figures,
    resized_figures,
)
from train.model import AnomalyModel
from train.predictor import cells_by_torch
from train.views import prepare

__all__ = [
    "Evaluation",
    "EvaluationOptions",
    "Figures",
    "JudgedSplit",
    "Outside",
    "Predictor",
    "check_folder_for_maps",
    "evaluate",
    "judge",
    "predictor_of_bundle",
    "predictor_of_model",
    "predictor_of_run",
    "save_maps",
]

_Float = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Predictor:
    """What evaluation needs of a model: its preprocessing, its score function, tensors → map (m, m).

    The region rules of `calibration` are part of the score, as on the device.
    """

    preprocessing: Preprocessing
    wanted: frozenset[str]
    score: ScoreSpec
    cells: Callable[[dict[str, npt.NDArray[np.generic]]], _Float]
    calibration: Calibration | None = None


class EvaluationOptions(BaseModel):
    """What is told of a split beside the figures that are always told.

    `detection_rate` is the share of defective parts at which the false positive rate is given; `legacy` adds
    AUPRO by the thresholds of published code; `bootstrap` is the number of resamples for intervals (0: none),
    drawn from `seed`; `score` judges with another score function than the model's own, without the region
    rules that were made for that one, and the figures say so. Beyond `kept_maps_bytes` of maps, each is made
    anew when it is asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    detection_rate: float = Field(default=0.95, gt=0, le=1)
    legacy: bool = False
    bootstrap: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)
    score: ScoreSpec | None = None
    kept_maps_bytes: int = Field(default=KEPT_MAPS_BYTES, ge=0)

    @field_validator("bootstrap")
    @classmethod
    def _enough(cls, resamples: int) -> int:
        if 0 < resamples < MIN_RESAMPLES:
            raise ValueError(f"give 0 for no intervals or at least {MIN_RESAMPLES} resamples; 1000 is usual")
        return resamples


class Outside(NamedTuple):
    """Marked pixels of an image, and how many of them lie outside the foreground."""

    marked: int
    lost: int


@dataclass(frozen=True, slots=True, eq=False)
class JudgedSplit:
    """What a model said of samples, in their order; `outside` is None for one on which nothing is marked.

    `score` is the score function that was used, `region_rules` what its numbers are by, None without any. The
    maps are the model's own.
    """

    names: tuple[str, ...]
    judged: Judged
    outside: tuple[Outside | None, ...]
    score: ScoreSpec
    region_rules: RegionRules | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Scores, labels and maps at the frames' resolution, in the order of the samples.

    `maps` float32 (H, W) are made when they are asked for (`train.maps.MadeMaps`), so that those of thousands
    of parts fit: go through them one by one.
    """

    names: tuple[str, ...]
    defects: tuple[str | None, ...]
    scores: tuple[float, ...]
    maps: Sequence[_Float]
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

    manifest = bundle.manifest
    wanted = bundle.wanted | {"mask"}
    return Predictor(manifest.preprocessing, wanted, manifest.score, cells, bundle.calibration)


def judge(
    predictor: Predictor,
    samples: Sequence[Sample],
    progress: Callable[[int], None],
    options: EvaluationOptions = EvaluationOptions(),  # noqa: B008 frozen
) -> JudgedSplit:
    """Scores and maps of the samples, be there good and defective ones among them or not.

    Memory stays bounded: some 10 kB a sample, and what `options.kept_maps_bytes` allows.

    Raises `DatasetError` naming the file where a sample can't be judged, `TrainingError` where a map is not
    finite, `CalibrationError` where region rules don't go with the score.
    """
    score = options.score or predictor.score
    calibration = predictor.calibration if options.score is None else None
    rules = None if calibration is None else calibration.region_rules
    scoring = RuledScore(score, rules, predictor.preprocessing.depth_px)
    scores: list[float] = []
    stored: list[StoredMap] = []
    masks: list[PackedMask] = []
    shares: list[Outside | None] = []
    for sample in samples:
        prepared = prepare(sample, predictor.preprocessing, predictor.wanted)
        cells = predictor.cells(prepared.tensors)  # (m, m)
        if not bool(np.isfinite(cells).all()):
            raise TrainingError(f"{sample.rgb_path}: the model's map is not finite")
        square = smooth_map(cells, prepared.mask, score)  # (side, side)
        cell_mm2 = cell_mm2_of(prepared.view, square.shape[0], prepared.pixel_mm)
        threshold = None if calibration is None else calibration.threshold
        try:
            scores.append(scoring.score(scoring.ruled(square, prepared.mask, threshold, cell_mm2)))
        except NoPieceSoLarge as error:
            raise DatasetError(f"{sample.rgb_path}: gets no decision on the device: {error}") from error
        width, height = sample.intrinsics.width_px, sample.intrinsics.height_px
        stored.append(StoredMap(np.array(cells), pack(prepared.mask), prepared.view, width, height))
        mask = _mask(sample)  # (H, W)
        masks.append(pack(mask))
        shares.append(_outside(mask, prepared) if bool(mask.any()) else None)
        progress(1)
    maps = MadeMaps(stored, score, options.kept_maps_bytes)
    return JudgedSplit(
        names=tuple(name_of(sample) for sample in samples),
        judged=Judged(
            defects=tuple(sample.defect for sample in samples),
            scores=tuple(scores),
            masks=PackedMasks(masks),
            maps=maps,
            marked=tuple(share is not None for share in shares),
        ),
        outside=tuple(shares),
        score=score,
        region_rules=rules,
    )


def evaluate(
    predictor: Predictor,
    samples: Sequence[Sample],
    progress: Callable[[int], None],
    options: EvaluationOptions = EvaluationOptions(),  # noqa: B008 frozen
) -> Evaluation:
    """Judge the samples and compute the figures.

    Raises `DatasetError` where the split lacks a class, before anything is judged; else as `judge` does.
    """
    defects = tuple(sample.defect for sample in samples)
    checked_labels([defect is not None for defect in defects], np.zeros(len(defects)))
    split = judge(predictor, samples, progress, options)
    return Evaluation(
        names=split.names,
        defects=defects,
        scores=tuple(split.judged.scores),
        maps=split.judged.maps,
        figures=_figures(split, options),
    )


def _mask(sample: Sample) -> npt.NDArray[np.bool_]:
    try:
        return sample.mask()
    except CaptureError as error:
        raise DatasetError(str(error)) from error


def _outside(mask: npt.NDArray[np.bool_], prepared: Prepared) -> Outside:
    height, width = mask.shape
    foreground = prepared.view.give_back(prepared.mask.astype(np.float32), width, height) > 0  # (H, W)
    return Outside(int(np.count_nonzero(mask)), int(np.count_nonzero(mask & ~foreground)))


def _figures(split: JudgedSplit, options: EvaluationOptions) -> Figures:
    judged, score = split.judged, split.score
    labels = judged.labels
    known = judged.with_ground_truth()
    pixels = pixel_figures(known)
    outside = [(name, one) for name, one in zip(split.names, split.outside, strict=True) if one is not None]
    kinds = sorted({defect for defect in judged.defects if defect is not None})
    return Figures(
        images=len(labels),
        good=labels.count(False),
        defective=labels.count(True),
        unmarked=labels.count(True) - sum(known.labels),
        i_auroc=image_auroc(labels, judged.scores),
        p_auroc=None if pixels is None else pixels.p_auroc,
        aupro_30=None if pixels is None else pixels.aupro_30,
        aupro_5=None if pixels is None else pixels.aupro_5,
        aupro_1=None if pixels is None else pixels.aupro_1,
        ground_truth_outside_mask=_lost(outside) if outside else None,
        outside_mask=_outside_mask(outside) if outside else None,
        fpr_at_detection=false_positive_rate_at(labels, judged.scores, options.detection_rate),
        by_defect={kind: judged.type_figures(kind, legacy=options.legacy) for kind in kinds},
        at_224=resized_figures(known),
        legacy=legacy_figures(known) if options.legacy else None,
        intervals=intervals(judged, options.bootstrap, options.seed) if options.bootstrap else None,
        score=score,
        score_overridden=options.score is not None,
        region_rules=split.region_rules,
    )


def _lost(shares: Sequence[tuple[str, Outside]]) -> float:
    return sum(share.lost for _, share in shares) / sum(share.marked for _, share in shares)


def _outside_mask(shares: Sequence[tuple[str, Outside]]) -> OutsideMask:
    by_part = [(share.lost / share.marked, name) for name, share in shares]
    worst, name = max(by_part)
    return OutsideMask(mean=fmean(share for share, _ in by_part), worst=worst, worst_part=name)


def check_folder_for_maps(folder: Path) -> None:
    """Raise `TrainingError` where `save_maps` could not write into `folder`; leaves nothing behind.

    To be called before hours are spent on judging.
    """
    try:
        if folder.exists() and any(folder.iterdir()):
            raise TrainingError(f"{folder}: holds something already; name a new folder for the maps")
    except OSError as error:
        raise TrainingError(f"{folder}: maps can't be written ({error.strerror})") from error
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = os.strerror(errno.EACCES if there.is_dir() else errno.ENOTDIR)
        raise TrainingError(f"{folder}: maps can't be written ({there}: {reason}); name another folder")


def save_maps(folder: Path, evaluation: Evaluation) -> None:
    """Each image's map as float32 .npy (H, W) at the original resolution, scores and labels in `scores.json`.

    `scores.json` comes last: a folder that has it has all. Raises `TrainingError` where the folder holds
    something already, or can't be written.
    """
    check_folder_for_maps(folder)
    rows = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, (part, defect, score) in enumerate(
            zip(evaluation.names, evaluation.defects, evaluation.scores, strict=True)
        ):
            name = f"{part.replace('/', '_')}.npy"
            # "a/b_c" and "a_b/c" would share a name: the second is numbered, not written over the first.
            if (folder / name).exists():
                name = f"{index:06d}_{name}"
            with (folder / name).open("xb") as file:
                np.save(file, evaluation.maps[index])
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
