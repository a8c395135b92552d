"""The curve of accuracy over the number of good parts, from the results of a benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edge.errors import ConfigError
from train.report.figures import Spread

__all__ = ["CurveRow", "load_rows", "spreads"]


class CurveRow(BaseModel):
    """What one model, trained on so many good parts, reached; other keys of a row are passed over.

    `aupro_30` is None where no defect is marked. A row whose `parts_asked` is
    null was given all the parts that its category has.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    method: str = Field(min_length=1)
    parts: int = Field(ge=1)
    parts_asked: int | None = None
    seed: int
    category: str | None = None
    i_auroc: float = Field(ge=0, le=1)
    aupro_30: float | None = Field(ge=0, le=1)

    @property
    def of_all(self) -> bool:
        return "parts_asked" in self.model_fields_set and self.parts_asked is None


_ROWS = TypeAdapter(tuple[CurveRow, ...])


def load_rows(path: Path) -> tuple[CurveRow, ...]:
    """The rows of a JSON file: a list of objects. Raises `ConfigError` naming the row and the key."""
    try:
        rows = _ROWS.validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}); check --curve") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(
            f"{path}: {place}: {first['msg']}; must be a JSON list of rows with method, parts, seed, i_auroc "
            "and aupro_30"
        ) from error
    if not rows:
        raise ConfigError(f"{path}: holds no row; leave --curve out, or run the benchmark first")
    return rows


def spreads(
    rows: Sequence[CurveRow], figure: Callable[[CurveRow], float | None]
) -> dict[str, tuple[Spread, ...]]:
    """Method → mean and standard deviation (n − 1) over seeds, for each number of parts.

    Of several categories a seed's value is their mean. Rows that were given all parts are one point, at the
    mean of what their categories have. Rows without the figure are left out.
    """
    everything: dict[str, list[int]] = {}
    for row in rows:
        if row.of_all:
            everything.setdefault(row.method, []).append(row.parts)
    found: dict[str, dict[int, dict[int, list[float]]]] = {}
    for row in rows:
        value = figure(row)
        if value is not None:
            parts = round(statistics.fmean(everything[row.method])) if row.of_all else row.parts
            seeds = found.setdefault(row.method, {}).setdefault(parts, {})
            seeds.setdefault(row.seed, []).append(value)
    return {
        method: tuple(_spread(parts, seeds) for parts, seeds in sorted(by_parts.items()))
        for method, by_parts in found.items()
    }


def _spread(parts: int, seeds: Mapping[int, Sequence[float]]) -> Spread:
    values = [statistics.fmean(own) for own in seeds.values()]
    return Spread(parts, statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)
