"""The YAML that describes a folder of RGB and depth images: where they lie and how to read them."""

from __future__ import annotations

from itertools import chain
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from edge.captures import IntrinsicsInfo
from train.datasets.patterns import PathPattern

__all__ = ["CATEGORY", "FileGroup", "FolderLayout", "Splits"]

CATEGORY = "category"
LABEL = "label"


def _pattern(text: str) -> str:
    PathPattern(text)
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileGroup(_Strict):
    """Images that lie alike: `depth` and `mask` are found by the words that `rgb` captures.

    `mask` None: these parts have none (good ones need none). `label` for all of them, where no `{label}` in
    the path says it.
    """

    rgb: Pattern
    depth: Pattern
    mask: Pattern | None = None
    label: str | None = None

    @model_validator(mode="after")
    def _names(self) -> Self:
        known = PathPattern(self.rgb).names
        for which, text in (("depth", self.depth), ("mask", self.mask)):
            if text is not None and (unknown := set(PathPattern(text).names) - set(known)):
                raise ValueError(
                    f"{which} holds {{{sorted(unknown)[0]}}}, which rgb does not; rgb holds "
                    f"{', '.join(f'{{{name}}}' for name in known) or 'no names'}"
                )
        if (LABEL in known) == (self.label is not None):
            raise ValueError("give either {label} in rgb, or label: for all of them")
        return self

    @property
    def words(self) -> tuple[str, ...]:
        """The names that tell parts of one label apart."""
        return tuple(name for name in PathPattern(self.rgb).names if name not in (LABEL, CATEGORY))


class Splits(_Strict):
    """Which files are trained on, held out, and tested with; without `validation` some are held out."""

    train: tuple[FileGroup, ...] = Field(min_length=1)
    validation: tuple[FileGroup, ...] = ()
    test: tuple[FileGroup, ...] = Field(min_length=1)


class FolderLayout(_Strict):
    """A data set's folders and units.

    Depth is 16-bit grey (PNG, TIFF) or float (TIFF, .npy): z = value × `depth_unit_m`; `invalid_values`
    (as stored), and NaN where `nan_is_invalid`, become 0. `good_labels` mean a good part; `names` gives
    labels on disk other names.
    """

    name: str | None = None
    depth_unit_m: float = Field(gt=0, le=1, description="metres per count; 1 where the files hold metres")
    depth_range_m: tuple[float, float] | None = None
    intrinsics: IntrinsicsInfo
    invalid_values: tuple[float, ...] = (0.0,)
    nan_is_invalid: bool = False
    mask_format: Literal["image", "labelme"] = "image"
    good_labels: tuple[str, ...] = ("good",)
    names: dict[str, str] = Field(default_factory=dict)
    splits: Splits

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.depth_range_m is not None and not 0 <= self.depth_range_m[0] < self.depth_range_m[1]:
            raise ValueError("depth_range_m must be two depths, the nearer first")
        with_category = {CATEGORY in PathPattern(group.rgb).names for group in self.groups}
        if len(with_category) > 1:
            raise ValueError("{category} must stand in every rgb path, or in none")
        return self

    @property
    def groups(self) -> tuple[FileGroup, ...]:
        return tuple(chain(self.splits.train, self.splits.validation, self.splits.test))

    @property
    def names_categories(self) -> bool:
        """Whether the paths say where a category's name stands; else each category is a folder."""
        return CATEGORY in PathPattern(self.groups[0].rgb).names
