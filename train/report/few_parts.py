"""The curve of accuracy over the number of good parts, from the results of a benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edge.errors import ConfigError
from train.report.figures import Spread

__all__ = ["CurveRow", "load_rows", "spreads"]


class CurveRow(BaseModel):
    """What one model, trained on so many good parts, reached; other keys of a row are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    method: str = Field(min_length=1)
    parts: int = Field(ge=1)
    seed: int
    i_auroc: float = Field(ge=0, le=1)
    aupro_30: float = Field(ge=0, le=1)


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


def spreads(rows: Sequence[CurveRow], figure: Callable[[CurveRow], float]) -> dict[str, tuple[Spread, ...]]:
    """Method → mean and standard deviation (n − 1) over the rows of each number of parts."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        found.setdefault(row.method, {}).setdefault(row.parts, []).append(figure(row))
    return {
        method: tuple(
            Spread(parts, statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)
            for parts, values in sorted(by_parts.items())
        )
        for method, by_parts in found.items()
    }
