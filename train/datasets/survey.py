"""What a reader found: how many parts of what kind, how large, how far away, and what is odd about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from edge.camera.sample import Sample
from edge.errors import CaptureError, DatasetError
from edge.frame import DepthImage, RgbImage
from train.datasets.check import evenly
from train.datasets.dataset import DataSet

__all__ = ["Group", "Looked", "Survey", "parts_to_read", "survey"]

GOOD = "good"
TILE_PX = 240
"""The longest side of the small pictures that are kept of a part."""
_FAR_SHARE = 0.01


class Group(BaseModel):
    """The parts of one split and kind; depths are those of the `looked_at` parts that were read.

    `depth_median_m` is the median of the parts' medians, `invalid_share` the mean share of pixels without
    depth, `far_share` that of pixels at the very greatest depth of their picture, `defect_share` the mean
    share of the picture that the mask marks. None where no part has depth.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str
    label: str
    parts: int
    looked_at: int
    depth_min_m: float | None
    depth_median_m: float | None
    depth_max_m: float | None
    invalid_share: float | None
    far_share: float | None
    defect_share: float | None


class Survey(BaseModel):
    """All of a data set.

    `sizes`: how many of the parts looked at are so large; `depth_unit_m`: the least and the greatest of the
    parts' own. `problems` must be mended before anything is trained on it or measured with it; `notes` are
    worth knowing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    folder: str
    parts: dict[str, int]
    groups: tuple[Group, ...]
    sizes: dict[str, int]
    depth_unit_m: tuple[float, float] | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """One part that was read: its numbers, and small pictures of it.

    `rgb` uint8 (h, w, 3), `depth_m` float32 (h, w), 0 = invalid, `mask` bool (h, w).
    """

    split: str
    label: str
    part_id: str
    size_px: tuple[int, int]
    depth_range_m: tuple[float, float, float] | None
    invalid_share: float
    far_share: float
    defect_share: float
    rgb: RgbImage
    depth_m: DepthImage
    mask: npt.NDArray[np.bool_]


def survey(
    data: DataSet, folder: Path, per_group: int, progress: Callable[[int], None]
) -> tuple[Survey, tuple[Looked, ...]]:
    """Count everything, and read `per_group` parts of each split and kind, evenly spaced (0: all of them).

    A file that can't be read is a problem, not the end. One part is in memory at a time, beside the small
    pictures.
    """
    groups: list[Group] = []
    looked: list[Looked] = []
    problems: list[str] = []
    for split, label, samples in _kinds(data):
        chosen = samples if per_group == 0 else evenly(samples, per_group)
        found = []
        for sample in chosen:
            try:
                found.append(_look(sample, split, label))
            except (CaptureError, DatasetError) as error:
                problems.append(str(error))
            progress(1)
        problems += _mask_problems(label, samples, found)
        groups.append(_group(split, label, len(samples), found))
        looked += found
    sizes = Counter(f"{part.size_px[0]}×{part.size_px[1]}" for part in looked)
    units = {sample.depth_unit_m for sample in data.train + data.validation + data.test}
    return Survey(
        name=data.name,
        folder=str(folder),
        parts={name: len(samples) for name, samples in _splits(data)},
        groups=tuple(groups),
        sizes=dict(sizes),
        depth_unit_m=(min(units), max(units)) if units else None,
        problems=tuple(problems + _split_problems(data)),
        notes=tuple(_notes(groups, sizes)),
    ), tuple(looked)


def parts_to_read(data: DataSet, per_group: int) -> int:
    """How many parts `survey` will read."""
    return sum(min(len(s), per_group) if per_group else len(s) for _, _, s in _kinds(data))


def _splits(data: DataSet) -> tuple[tuple[str, Sequence[Sample]], ...]:
    return (("train", data.train), ("validation", data.validation), ("test", data.test))


def _kinds(data: DataSet) -> Iterable[tuple[str, str, Sequence[Sample]]]:
    """Split, label and samples; good parts first."""
    for split, samples in _splits(data):
        labels = sorted({sample.defect or GOOD for sample in samples}, key=lambda name: (name != GOOD, name))
        for label in labels:
            yield split, label, [sample for sample in samples if (sample.defect or GOOD) == label]


def _look(sample: Sample, split: str, label: str) -> Looked:
    frame, mask = sample.frame(), sample.mask()
    depth_m = frame.depth_m  # (H, W)
    valid = depth_m[depth_m > 0]
    # float32 of what was stored: pixels at the far bound are equal to the last bit.
    far = int((valid == valid.max()).sum()) if valid.size else 0
    scale = TILE_PX / max(depth_m.shape)
    size = (max(1, round(frame.width_px * scale)), max(1, round(frame.height_px * scale)))
    smaller = scale < 1
    return Looked(
        split=split,
        label=label,
        part_id=sample.part_id,
        size_px=(frame.width_px, frame.height_px),
        depth_range_m=(float(valid.min()), float(np.median(valid)), float(valid.max()))
        if valid.size
        else None,
        invalid_share=1 - valid.size / depth_m.size,
        far_share=far / depth_m.size,
        defect_share=float(mask.mean()),
        rgb=np.asarray(
            cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST)
        ),
        depth_m=np.asarray(cv2.resize(depth_m, size, interpolation=cv2.INTER_NEAREST)),
        # A defect of one pixel is seen in the small picture as well.
        mask=np.asarray(
            cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA if smaller else 0) > 0
        ),
    )


def _group(split: str, label: str, parts: int, found: Sequence[Looked]) -> Group:
    ranges = [part.depth_range_m for part in found if part.depth_range_m is not None]
    return Group(
        split=split,
        label=label,
        parts=parts,
        looked_at=len(found),
        depth_min_m=min((low for low, _, _ in ranges), default=None),
        depth_median_m=float(np.median([middle for _, middle, _ in ranges])) if ranges else None,
        depth_max_m=max((high for _, _, high in ranges), default=None),
        invalid_share=_mean([part.invalid_share for part in found]),
        far_share=_mean([part.far_share for part in found]),
        defect_share=_mean([part.defect_share for part in found]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _mask_problems(label: str, samples: Sequence[Sample], found: Sequence[Looked]) -> list[str]:
    if label == GOOD:
        return [
            f"{part.part_id} ({part.split}): is good, but its mask marks {part.defect_share:.2%} of it"
            for part in found
            if part.defect_share > 0
        ]
    without = [sample for sample in samples if sample.mask_path is None]
    problems = [
        f"{len(without)} of {len(samples)} parts with {label} have no mask, the first is "
        f"{without[0].rgb_path}; nothing per pixel can be measured on them"
        for _ in without[:1]
    ]
    named = {sample.part_id for sample in without}
    problems += [
        f"{part.part_id} ({part.split}): is defective, but its mask marks nothing"
        for part in found
        if part.defect_share == 0 and part.part_id not in named
    ]
    return problems


def _split_problems(data: DataSet) -> list[str]:
    problems = [f"no good parts in {name}" for name, samples in _splits(data)[:2] if not samples]
    kinds = {sample.defect is None for sample in data.test}
    for good, word in ((True, "good"), (False, "defective")):
        if good not in kinds:
            problems.append(f"no {word} parts in test; figures such as I-AUROC need both kinds")
    return problems


def _notes(groups: Sequence[Group], sizes: Counter[str]) -> list[str]:
    notes = []
    if len(sizes) > 1:
        notes.append(f"pictures of {len(sizes)} sizes")
    far = max((group.far_share or 0.0 for group in groups), default=0.0)
    if far > _FAR_SHARE:
        notes.append(
            f"up to {far:.1%} of a picture lies at its very greatest depth: that is a far plane, or a "
            "clipped value, and no surface; name its count in invalid_values where the format has such a key"
        )
    invalid = max((group.invalid_share or 0.0 for group in groups), default=0.0)
    if invalid > 0.5:
        notes.append(f"up to {invalid:.0%} of a picture has no depth")
    return notes
