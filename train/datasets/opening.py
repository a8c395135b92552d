"""From a folder and a format to a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge.camera.sample import Sample
from edge.captures import CAPTURE_FILE
from edge.errors import CaptureError, ConfigError, DatasetError
from edge.frame import DepthImage
from edge.strict_yaml import load_strict_yaml
from train.datasets.captures import is_product, open_captures
from train.datasets.check import RANGES, DepthRange, check_depth
from train.datasets.dataset import DataSet
from train.datasets.eyecandies import is_class, open_eyecandies
from train.datasets.globs import PDREAL_LAYOUT, categories_of, open_globs
from train.datasets.layout import FolderLayout
from train.datasets.mvtec3d import is_category, open_mvtec3d
from train.datasets.options import DatasetOptions, Format

__all__ = ["check_unit", "list_categories", "open_dataset", "read_dataset"]

_DEFAULTS = DatasetOptions()


def open_dataset(
    path: Path,
    layout: Format,
    category: str | None,
    held_out_share: float,
    options: DatasetOptions = _DEFAULTS,
) -> DataSet:
    """The data set at `path`; `category` names a folder in it (a category, a class) or a product (captures).

    Of good parts that the layout does not set aside itself, `held_out_share` goes to validation. Nothing
    but lists and headers is read, and the depth of a few parts: where its median is outside what the
    format's camera can see, its unit is wrong. Raises `DatasetError` where it is not what it should be,
    `ConfigError` for a wrong option or layout file.
    """
    data = read_dataset(path, layout, category, held_out_share, options)
    check_unit(data, path, layout, options)
    return data


def read_dataset(
    path: Path,
    layout: Format,
    category: str | None,
    held_out_share: float,
    options: DatasetOptions = _DEFAULTS,
) -> DataSet:
    """`open_dataset` without the look at the depth's unit."""
    described = _layout(layout, options)
    inside = category is not None and not (described is not None and described.names_categories)
    folder = path / category if category is not None and inside else path
    if not folder.is_dir():
        if not path.is_dir():
            raise DatasetError(f"{path}: no such folder")
        there = sorted(p.name for p in path.iterdir() if p.is_dir())
        raise DatasetError(f"{folder}: no such folder; {path} holds {', '.join(there) or 'none'}")
    try:
        data = _read(
            folder,
            layout,
            described=described,
            category=category,
            held_out_share=held_out_share,
            options=options,
        )
    except CaptureError as error:
        raise DatasetError(str(error)) from error
    return data if options.depth_scale == 1.0 else _scaled(data, options.depth_scale)


def check_unit(data: DataSet, path: Path, layout: Format, options: DatasetOptions = _DEFAULTS) -> None:
    """Raises `DatasetError` where the depth of a few parts is not in metres, or a part can't be read."""
    described = _layout(layout, options)
    expected, unit_in = RANGES[layout], None
    if described is not None:
        unit_in = str(_layout_file(layout, options))
        if described.depth_range_m is not None:
            expected = DepthRange(*described.depth_range_m, "the layout expects")
    elif layout == "captures":
        unit_in = CAPTURE_FILE
    if options.depth_range_m is not None:
        expected = DepthRange(*options.depth_range_m, "it should be")
    try:
        check_depth(data, expected, unit_in, options.depth_scale)
    except CaptureError as error:
        raise DatasetError(str(error)) from error


def list_categories(path: Path, layout: Format, options: DatasetOptions = _DEFAULTS) -> tuple[str, ...]:
    """The categories (classes, products) of a data set, sorted.

    Raises `DatasetError` where `path` holds none: then it may be a category itself.
    """
    if not path.is_dir():
        raise DatasetError(f"{path}: no such folder")
    described = _layout(layout, options)
    if described is not None:
        found = categories_of(path, described)
    else:
        belongs = {"mvtec3d": is_category, "eyecandies": is_class, "captures": is_product}[layout]
        found = tuple(sorted(p.name for p in path.iterdir() if p.is_dir() and belongs(p)))
    if not found:
        raise DatasetError(
            f"{path}: holds no category of {layout}; name the folder in which the categories lie"
        )
    return found


def _read(
    folder: Path,
    layout: Format,
    *,
    described: FolderLayout | None,
    category: str | None,
    held_out_share: float,
    options: DatasetOptions,
) -> DataSet:
    if described is not None:
        return open_globs(folder, described, category if described.names_categories else None, held_out_share)
    if layout == "mvtec3d":
        return open_mvtec3d(folder)
    if layout == "eyecandies":
        return open_eyecandies(folder, held_out_share, options.light)
    return open_captures(folder, held_out_share, options.test_lots)


def _layout(layout: Format, options: DatasetOptions) -> FolderLayout | None:
    file = _layout_file(layout, options)
    return None if file is None else load_strict_yaml(file, FolderLayout)


def _layout_file(layout: Format, options: DatasetOptions) -> Path | None:
    if layout == "pdreal":
        return options.layout_file or PDREAL_LAYOUT
    if layout == "globs":
        if options.layout_file is None:
            raise ConfigError(
                "the format globs needs a YAML that describes the folders (--layout-file); copy "
                f"{PDREAL_LAYOUT} and mend it"
            )
        return options.layout_file
    if options.layout_file is not None:
        raise ConfigError(
            f"a layout file is for the formats globs and pdreal; {layout} has a layout of its own"
        )
    return None


@dataclass(frozen=True, slots=True)
class _ScaledDepth:
    read: Callable[[Path, float], DepthImage]
    scale: float

    def __call__(self, path: Path, depth_unit_m: float) -> DepthImage:
        return np.asarray(self.read(path, depth_unit_m / self.scale) * np.float32(self.scale))


def _scaled(data: DataSet, scale: float) -> DataSet:
    def scaled(sample: Sample) -> Sample:
        return replace(
            sample,
            depth_unit_m=sample.depth_unit_m * scale,
            read_depth=_ScaledDepth(sample.read_depth, scale),
        )

    return replace(
        data,
        train=tuple(map(scaled, data.train)),
        validation=tuple(map(scaled, data.validation)),
        test=tuple(map(scaled, data.test)),
    )
