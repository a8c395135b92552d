"""What papers report on the public data sets, each row with its source (`published.yaml`)."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from edge.strict_yaml import load_strict_yaml

__all__ = ["Published", "PublishedRow", "published_for"]

PUBLISHED_FILE = Path(__file__).with_name("published.yaml")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PublishedRow(_Section):
    """The means of one method; `beside` names the preset that is this method here, `source` who says so."""

    method: str
    beside: str | None = None
    source: str
    i_auroc: float | None = Field(default=None, ge=0, le=1)
    aupro_30: float | None = Field(default=None, ge=0, le=1)
    aupro_1: float | None = Field(default=None, ge=0, le=1)
    i_auroc_by_category: dict[str, float] = {}
    aupro_30_by_category: dict[str, float] = {}


class Published(_Section):
    """The rows of one data set, means over its `categories`."""

    name: str
    categories: int = Field(ge=1)
    rows: tuple[PublishedRow, ...]

    def beside(self, method: str) -> PublishedRow | None:
        """The row of the method that this preset is; None where nothing is published of it."""
        return next((row for row in self.rows if row.beside == method), None)

    def text_beside(self, method: str, figure: str) -> str:
        """A figure of that row; – where there is none."""
        row = self.beside(method)
        value: float | None = None if row is None else getattr(row, figure)
        return "–" if value is None else f"{value:.3f}"


class _File(_Section):
    mvtec3d: Published
    eyecandies: Published
    pdreal: Published


def published_for(layout: str) -> Published | None:
    """What is published of the data set that has this layout; None where it is nobody's but the user's."""
    file = load_strict_yaml(PUBLISHED_FILE, _File)
    found: Published | None = getattr(file, layout) if layout in _File.model_fields else None
    return found
