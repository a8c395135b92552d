"""A class of Eyecandies as a data set, in its own layout.

::

    <Class>/{train,val,test_public,test_private}/data/
      <id>_image_0.png … _image_5.png    8-bit RGB under six lights, 4: the left spotlight
      <id>_depth.png                     16 bit, value / 65535 × (max - min) + min metres
      <id>_info_depth.yaml               normalization: {min, max}; or one for all beside data/
      <id>_metadata.yaml                 anomalous, bumps, dents, colors, normals: 0 or 1
      <id>_mask.png, <id>_{bumps,dents,colors,normals}_mask.png

The YAML files end in .yaml or .yml, both are about. Every pixel is rendered, so no count means "no depth":
0 is the nearest point. Bonfiglioli, Toschi, Silvestri, Fioraio, De Gregorio: The Eyecandies Dataset for
Unsupervised Multimodal Anomaly Detection and Localization, ACCV 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from edge.camera.sample import Sample, image_size, read_image, read_mask
from edge.errors import CaptureError, DatasetError
from edge.frame import DepthImage, Intrinsics
from edge.sealed import plain_data
from train.datasets.dataset import DataSet, held_out, refuse_defects

__all__ = ["DEFECTS", "SPLITS", "NormalisedDepth", "is_class", "list_class", "open_eyecandies"]

DEFECTS = ("bumps", "colors", "dents", "normals")
SPLITS = ("train", "val", "test_public")
PRIVATE = "test_private"
_FOCAL_PX = 711.11
_FOCAL_WIDTH_PX = 512
"""The published focal length belongs to pictures of this width."""
_FULL = 65535


_Model = TypeVar("_Model", bound=BaseModel)


class _Loose(BaseModel):
    """What the data set's files say beside what is needed is of no concern."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Normalization(_Loose):
    min: float = Field(ge=0)
    max: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min < self.max:
            raise ValueError(f"max {self.max:g} must be greater than min {self.min:g}")
        return self


class _DepthInfo(_Loose):
    normalization: _Normalization


class _Metadata(_Loose):
    anomalous: bool
    bumps: bool | None = None
    colors: bool | None = None
    dents: bool | None = None
    normals: bool | None = None


@dataclass(frozen=True, slots=True)
class NormalisedDepth:
    """Reads 16-bit counts between a nearest and a farthest depth; a function that pickles."""

    min_m: float
    max_m: float

    def __call__(self, path: Path, _depth_unit_m: float) -> DepthImage:
        """(H, W) float32 in metres; raises `CaptureError`."""
        image = read_image(path)
        if image.dtype != np.uint16 or image.ndim != 2:
            raise CaptureError(f"{path}: is {image.dtype}{image.shape}, must be 16-bit grey (H, W)")
        share = image.astype(np.float64) / _FULL  # (H, W), 0 nearest, 1 farthest
        return np.asarray(share * (self.max_m - self.min_m) + self.min_m, dtype=np.float32)


def open_eyecandies(folder: Path, held_out_share: float, light: int) -> DataSet:
    """A class with its own splits; without `val`, `held_out_share` of `train` is held out.

    The test split is `test_public`: `test_private` has no ground truth. Raises `CaptureError` and
    `DatasetError`.
    """
    train = list_class(folder, "train", light)
    if (folder / "val").is_dir():
        validation = list_class(folder, "val", light)
    else:
        train, validation = held_out(train, held_out_share)
    refuse_defects(train + validation)
    return DataSet(
        name=folder.name, train=train, validation=validation, test=list_class(folder, "test_public", light)
    )


def is_class(folder: Path) -> bool:
    """Whether a folder has what every class has: a split to train on."""
    return (folder / "train" / "data").is_dir()


def list_class(folder: Path, split: str, light: int) -> tuple[Sample, ...]:
    """The samples of a split, sorted by number; partners, sizes and small YAML files checked.

    A part with several defects has their names joined: `bumps-dents`. Raises `CaptureError` naming the file
    that is missing or wrong, `DatasetError` for a split that can't be used.
    """
    data = folder / split / "data"
    if split == PRIVATE or (split == "test_public" and not data.is_dir() and (folder / PRIVATE).is_dir()):
        raise DatasetError(
            f"{folder / PRIVATE}: has no ground truth, nothing can be measured on it; restore "
            f"{folder / 'test_public'} and use that"
        )
    if split not in SPLITS:
        raise DatasetError(f"{folder}: has no split {split!r}; there are {', '.join(SPLITS)}")
    if not data.is_dir():
        raise DatasetError(f"{data}: no such folder; is {folder} a class of Eyecandies?")
    kinds = (f"_image_{light}.png", "_depth.png")
    names = {
        path.name.removesuffix(kind) for kind in kinds for path in data.glob(f"*{kind}") if path.is_file()
    }
    if not names:
        raise DatasetError(f"{data}: holds no <id>_image_{light}.png; is {folder} a class of Eyecandies?")
    ordered = sorted(names, key=lambda name: (len(name), name))
    size = None
    samples = []
    for name in ordered:
        sample = _sample(folder, split, name, light)
        found = (sample.intrinsics.width_px, sample.intrinsics.height_px)
        size = size or found
        if found != size:
            raise CaptureError(
                f"{sample.rgb_path}: is {found[0]}×{found[1]}, the first image of the split is "
                f"{size[0]}×{size[1]}; restore it"
            )
        samples.append(sample)
    return tuple(samples)


def _sample(folder: Path, split: str, name: str, light: int) -> Sample:
    data = folder / split / "data"
    rgb, depth = data / f"{name}_image_{light}.png", data / f"{name}_depth.png"
    for path in (rgb, depth):
        if not path.is_file():
            raise CaptureError(f"{path}: is missing; its partners are there")
    height, width = _size(rgb)
    info = _load(_found(data, name, "info_depth"), _DepthInfo).normalization
    defect = _defect(data, name, needed=split == "test_public")
    mask = data / f"{name}_mask.png"
    if defect is not None and not mask.is_file():
        raise CaptureError(f"{mask}: is missing; the part is defective ({defect}), so there must be one")
    focal_px = _FOCAL_PX * width / _FOCAL_WIDTH_PX
    return Sample(
        part_id=f"{defect or 'good'}/{name}",
        split=split,
        defect=defect,
        source=str(folder),
        rgb_path=rgb,
        depth_path=depth,
        mask_path=None if defect is None else mask,
        depth_unit_m=(info.max - info.min) / _FULL,
        intrinsics=Intrinsics(
            width_px=width,
            height_px=height,
            fx_px=focal_px,
            fy_px=focal_px,
            cx_px=width / 2,
            cy_px=height / 2,
        ),
        read_depth=NormalisedDepth(info.min, info.max),
    )


def _size(rgb: Path) -> tuple[int, int]:
    size = image_size(rgb)
    if size is None:
        raise CaptureError(f"{rgb}: is not a PNG; restore it")
    return size


def _defect(data: Path, name: str, *, needed: bool) -> str | None:
    """The defect's name, None for a good part; `needed` where the file must be there to tell."""
    path = _look_for(data, name, "metadata")
    if path is None:
        if needed:
            raise CaptureError(
                f"{data / f'{name}_metadata.yaml'}: is missing; it says whether the part is good"
            )
        return None
    metadata = _load(path, _Metadata)
    said = {kind: getattr(metadata, kind) for kind in DEFECTS}
    if not metadata.anomalous:
        if any(said.values()):
            raise CaptureError(f"{path}: says not anomalous, but {_joined(said)}; restore it")
        return None
    # Where it names no kind at all, the masks of the kinds know.
    if all(value is None for value in said.values()):
        said = {kind: _marked(data / f"{name}_{kind}_mask.png") for kind in DEFECTS}
    if not any(said.values()):
        raise CaptureError(f"{path}: says anomalous, but none of {', '.join(DEFECTS)}; restore it")
    return _joined(said)


def _joined(said: dict[str, bool | None]) -> str:
    return "-".join(kind for kind in DEFECTS if said[kind])


def _marked(mask: Path) -> bool:
    return mask.is_file() and bool(read_mask(mask).any())


def _look_for(data: Path, name: str, item: str) -> Path | None:
    """The YAML of a sample, or the one for all samples beside data/; .yaml or .yml."""
    for stem in (data / f"{name}_{item}", data.parent / item):
        for suffix in (".yaml", ".yml"):
            path = stem.with_name(stem.name + suffix)
            if path.is_file():
                return path
    return None


def _found(data: Path, name: str, item: str) -> Path:
    path = _look_for(data, name, item)
    if path is None:
        raise CaptureError(f"{data / f'{name}_{item}.yaml'}: is missing (nor is there a .yml); restore it")
    return path


def _load(path: Path, model: type[_Model]) -> _Model:
    try:
        return model.model_validate(plain_data(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise CaptureError(f"{path}: can't be read ({error.strerror}); restore it") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        said = first["msg"].removeprefix("Value error, ")
        raise CaptureError(f"{path}: {key}: {said}; restore it") from error
    except ValueError as error:
        raise CaptureError(f"{path}: {error}; restore it") from error
