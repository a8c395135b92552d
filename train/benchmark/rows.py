"""The results of a benchmark as rows, and their means and deviations over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from train.benchmark.job import Job, JobResult
from train.benchmark.plan import Plan

__all__ = ["FIGURES", "Cell", "Row", "category_cell", "mean_cell", "rows_of", "type_cell", "types_of"]

FIGURES: Mapping[str, str] = {
    "i_auroc": "I-AUROC",
    "aupro_30": "AUPRO@30",
    "aupro_5": "AUPRO@5",
    "aupro_1": "AUPRO@1",
    "p_auroc": "P-AUROC",
}
"""Name of a figure in a row → in a table."""


class TypeRow(BaseModel):
    """The figures of one type of anomaly: the good parts and those with it."""

    model_config = ConfigDict(frozen=True)

    defective: int
    i_auroc: float
    p_auroc: float | None
    aupro_30: float | None
    aupro_5: float | None
    aupro_1: float | None


class Row(BaseModel):
    """One job's figures; None where a data set has no marked pixels.

    `parts` is the number of good parts that the method was given in all: `train_parts`, and `held_out_parts`
    for the threshold. `parts_asked` is None where it was given all.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    parts: int
    parts_asked: int | None
    train_parts: int
    held_out_parts: int
    seed: int
    category: str
    i_auroc: float
    p_auroc: float | None
    aupro_30: float | None
    aupro_5: float | None
    aupro_1: float | None
    p_auroc_224: float | None
    aupro_30_224: float | None
    aupro_5_224: float | None
    aupro_1_224: float | None
    fpr_at_detection: float
    detection_rate: float
    ground_truth_outside_mask: float | None
    test_good: int
    test_defective: int
    train_seconds: float | None
    evaluate_seconds: float
    steps: dict[str, int]
    types: dict[str, TypeRow]
    key: str


@dataclass(frozen=True, slots=True)
class Cell:
    """Mean and standard deviation (n − 1; None of one) over seeds, of which `missing` have no result."""

    mean: float
    sd: float | None
    seeds: int
    missing: int

    @property
    def text(self) -> str:
        """`0.947 ± 0.003`, and how many seeds are missing."""
        spread = "" if self.sd is None else f" ± {self.sd:.3f}"
        lacking = f" ({self.seeds}/{self.seeds + self.missing})" if self.missing else ""
        return f"{self.mean:.3f}{spread}{lacking}"


def rows_of(jobs: Sequence[Job], results: Mapping[str, JobResult]) -> tuple[Row, ...]:
    """A row for each job that has a result (by its key), under the names of this plan."""
    return tuple(_row(job, results[job.key]) for job in jobs if job.key in results)


def _row(job: Job, result: JobResult) -> Row:
    figures, small = result.figures, result.figures.at_224
    return Row(
        method=job.method,
        parts=result.train_parts + result.held_out_parts,
        parts_asked=job.parts,
        train_parts=result.train_parts,
        held_out_parts=result.held_out_parts,
        seed=job.seed,
        category=job.category,
        i_auroc=figures.i_auroc,
        p_auroc=figures.p_auroc,
        aupro_30=figures.aupro_30,
        aupro_5=figures.aupro_5,
        aupro_1=figures.aupro_1,
        p_auroc_224=None if small is None else small.p_auroc,
        aupro_30_224=None if small is None else small.aupro_30,
        aupro_5_224=None if small is None else small.aupro_5,
        aupro_1_224=None if small is None else small.aupro_1,
        fpr_at_detection=figures.fpr_at_detection.rate,
        detection_rate=figures.fpr_at_detection.detection_rate,
        ground_truth_outside_mask=figures.ground_truth_outside_mask,
        test_good=figures.good,
        test_defective=figures.defective,
        train_seconds=None if result.train_seconds is None else round(result.train_seconds, 3),
        evaluate_seconds=round(result.evaluate_seconds, 3),
        steps=result.steps,
        types={
            kind: TypeRow(
                defective=of_kind.defective,
                i_auroc=of_kind.i_auroc,
                p_auroc=of_kind.p_auroc,
                aupro_30=of_kind.aupro_30,
                aupro_5=of_kind.aupro_5,
                aupro_1=of_kind.aupro_1,
            )
            for kind, of_kind in figures.by_defect.items()
        },
        key=job.key,
    )


def category_cell(
    rows: Sequence[Row], seeds: Sequence[int], method: str, category: str, figure: str
) -> Cell | None:
    """A figure of one category and method; None where there is none. `rows` are of one number of parts."""
    return _over_seeds(seeds, lambda seed: _value(_one(rows, method, category, seed), figure))


def mean_cell(
    rows: Sequence[Row], seeds: Sequence[int], method: str, categories: Sequence[str], figure: str
) -> Cell | None:
    """The unweighted mean over categories, seed by seed; a seed that lacks a category counts as missing."""

    def mean(seed: int) -> float | None:
        values = [_value(_one(rows, method, category, seed), figure) for category in categories]
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if known and len(known) == len(values) else None

    return _over_seeds(seeds, mean)


def type_cell(rows: Sequence[Row], seeds: Sequence[int], method: str, kind: str, figure: str) -> Cell | None:
    """A figure of one type of anomaly: good ∪ type per category, the mean over those that have it."""
    categories = [category for category, kinds in _kinds(rows).items() if kind in kinds]

    def mean(seed: int) -> float | None:
        values = []
        for category in categories:
            row = _one(rows, method, category, seed)
            values.append(None if row is None else getattr(row.types[kind], figure))
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if known and len(known) == len(values) else None

    return _over_seeds(seeds, mean)


def types_of(rows: Sequence[Row]) -> dict[str, int]:
    """Each type of anomaly, sorted → how many categories have it."""
    kinds = _kinds(rows)
    names = sorted({kind for there in kinds.values() for kind in there})
    return {name: sum(name in there for there in kinds.values()) for name in names}


def of_parts(plan: Plan, rows: Sequence[Row]) -> dict[int | None, tuple[Row, ...]]:
    """The rows of each number of parts that was asked for."""
    return {parts: tuple(row for row in rows if row.parts_asked == parts) for parts in plan.parts}


def _kinds(rows: Sequence[Row]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.category, set()).update(row.types)
    return found


def _one(rows: Sequence[Row], method: str, category: str, seed: int) -> Row | None:
    return next((r for r in rows if r.method == method and r.category == category and r.seed == seed), None)


def _value(row: Row | None, figure: str) -> float | None:
    value: float | None = None if row is None else getattr(row, figure)
    return value


def _over_seeds(seeds: Sequence[int], of_seed: Callable[[int], float | None]) -> Cell | None:
    values = [value for seed in seeds if (value := of_seed(seed)) is not None]
    if not values:
        return None
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Cell(statistics.fmean(values), sd, len(values), len(seeds) - len(values))
