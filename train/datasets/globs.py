"""Any folder of RGB and depth images, described by a YAML; PD-REAL is one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.camera.sample import Sample, image_size, read_image, read_mask
from edge.errors import CaptureError, DatasetError
from edge.frame import DepthImage, Intrinsics
from train.datasets.dataset import DataSet, held_out, refuse_defects
from train.datasets.labelme import read_labelme_mask
from train.datasets.layout import CATEGORY, LABEL, FileGroup, FolderLayout
from train.datasets.patterns import PathPattern

__all__ = ["PDREAL_LAYOUT", "CountedDepth", "categories_of", "open_globs"]

PDREAL_LAYOUT = Path(str(files("train") / "configs" / "pdreal.yaml"))
"""The layout that `pdreal` means where no other is named; a guess, for none is published."""


@dataclass(frozen=True, slots=True)
class CountedDepth:
    """Reads depth in counts or metres, with the values that mean "none"; a function that pickles."""

    invalid_values: tuple[float, ...]
    nan_is_invalid: bool

    def __call__(self, path: Path, depth_unit_m: float) -> DepthImage:
        """(H, W) float32 in metres, 0 = invalid; raises `CaptureError`."""
        image = _read_array(path) if path.suffix == ".npy" else read_image(path)
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[..., 0]
        if image.ndim != 2 or image.dtype.kind not in "uif" or image.dtype.itemsize < 2:
            raise CaptureError(
                f"{path}: is {image.dtype}{image.shape}, must be one channel of 16 bits or more; a "
                "picture of depth (8 bits, in colours) can't be measured"
            )
        counts = np.asarray(image, dtype=np.float64)  # (H, W)
        none = np.isin(counts, np.asarray(self.invalid_values, dtype=np.float64))
        if self.nan_is_invalid:
            none |= np.isnan(counts)
        # In float32, as the device does it: the same integers give the same metres everywhere.
        depth_m = image.astype(np.float32) * np.float32(depth_unit_m)  # (H, W)
        depth_m[none] = 0.0
        return np.asarray(depth_m)


def open_globs(folder: Path, layout: FolderLayout, category: str | None, held_out_share: float) -> DataSet:
    """The files that the layout finds, in its splits.

    `folder` is the category's, or that of all categories where the layout's paths hold `{category}`. Raises
    `CaptureError` naming the file that is missing or of a wrong size, `DatasetError` where a split is empty.
    """
    train = _split(folder, layout, "train", layout.splits.train, category)
    validation = _split(folder, layout, "validation", layout.splits.validation, category)
    test = _split(folder, layout, "test", layout.splits.test, category)
    if not layout.splits.validation:
        train, validation = held_out(train, held_out_share)
    refuse_defects(train + validation)
    _refuse_overlap(train + validation, test)
    return DataSet(name=category or folder.name, train=train, validation=validation, test=test)


def categories_of(folder: Path, layout: FolderLayout) -> tuple[str, ...]:
    """Below `folder`, what has files to train on; empty where nothing has."""
    patterns = [PathPattern(group.rgb) for group in layout.splits.train]
    if layout.names_categories:
        found = {words[CATEGORY] for pattern in patterns for _, words in pattern.find(folder)}
    else:
        found = {
            path.name
            for path in folder.iterdir()
            if path.is_dir() and any(next(pattern.find(path), None) for pattern in patterns)
        }
    return tuple(sorted(found))


def _split(
    folder: Path, layout: FolderLayout, split: str, groups: Sequence[FileGroup], category: str | None
) -> tuple[Sample, ...]:
    samples: dict[str, Sample] = {}
    categories: set[str] = set()
    for group in groups:
        known = {} if category is None else {CATEGORY: category}
        for rgb, words in PathPattern(group.rgb).find(folder, known):
            categories.add(words.get(CATEGORY, ""))
            if len(categories) > 1:
                there = ", ".join(categories_of(folder, layout))
                raise DatasetError(f"{folder}: holds {there}; name one as the category")
            sample = _sample(folder, layout, group, split=split, rgb=rgb, words=words)
            if (twin := samples.get(sample.part_id)) is not None:
                raise DatasetError(
                    f"{rgb}: is {sample.part_id} as {twin.rgb_path} is; a {{name}} in the layout's path must "
                    "tell them apart"
                )
            samples[sample.part_id] = sample
    if groups and not samples:
        wanted = ", ".join(group.rgb for group in groups)
        raise DatasetError(
            f"{folder}: no file is {wanted} (the layout's {split}); mend the path in the layout"
        )
    return tuple(sorted(samples.values(), key=_in_order))


def _in_order(sample: Sample) -> tuple[str, int, str]:
    label, _, name = sample.part_id.rpartition("/")
    return label, len(name), name


def _sample(
    folder: Path, layout: FolderLayout, group: FileGroup, *, split: str, rgb: Path, words: dict[str, str]
) -> Sample:
    found = group.label if group.label is not None else words[LABEL]
    label = layout.names.get(found, found)
    good = found in layout.good_labels or label in layout.good_labels
    depth = _partner(folder, group.depth, words, rgb)
    mask = None if good or group.mask is None else _partner(folder, group.mask, words, rgb)
    intrinsics = layout.intrinsics.intrinsics()
    images = (rgb, depth) if mask is None or layout.mask_format != "image" else (rgb, depth, mask)
    for path in images:
        _check_size(path, intrinsics)
    name = "-".join(words[name] for name in group.words) or rgb.stem
    return Sample(
        part_id=f"{'good' if good else label}/{name}",
        split=split,
        defect=None if good else label,
        source=str(folder),
        rgb_path=rgb,
        depth_path=depth,
        mask_path=mask,
        depth_unit_m=layout.depth_unit_m,
        intrinsics=intrinsics,
        read_depth=CountedDepth(layout.invalid_values, layout.nan_is_invalid),
        read_mask=read_labelme_mask if layout.mask_format == "labelme" else read_mask,
    )


def _partner(folder: Path, text: str, words: dict[str, str], rgb: Path) -> Path:
    wanted = PathPattern(text).filled(words)
    found = sorted(path for path in folder.glob(wanted) if path.is_file())
    if not found:
        raise CaptureError(f"{folder / wanted}: is missing; {rgb} is there")
    if len(found) > 1:
        raise CaptureError(
            f"{rgb}: {found[0].name} and {found[1].name} are both {wanted}; make the layout's path "
            "tell them apart"
        )
    return found[0]


def _check_size(path: Path, intrinsics: Intrinsics) -> None:
    size = image_size(path)
    if size is not None and size != (intrinsics.height_px, intrinsics.width_px):
        raise CaptureError(
            f"{path}: is {size[1]}×{size[0]}, the layout's intrinsics are for {intrinsics.width_px}×"
            f"{intrinsics.height_px}; depth has to be aligned to colour, and neither may be resized"
        )


def _refuse_overlap(trained_on: Sequence[Sample], test: Sequence[Sample]) -> None:
    seen = {sample.rgb_path for sample in trained_on}
    for sample in test:
        if sample.rgb_path in seen:
            raise DatasetError(f"{sample.rgb_path}: is trained on and tested with; mend the layout's splits")


def _read_array(path: Path) -> npt.NDArray[np.generic]:
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise CaptureError(f"{path}: can't be read ({error.strerror}); restore it") from error
    except (ValueError, EOFError) as error:
        raise CaptureError(f"{path}: is no array of numbers ({error}); restore it") from error
    if not isinstance(array, np.ndarray):
        raise CaptureError(f"{path}: is an archive of arrays; save the depth alone as .npy")
    return array
