"""The benchmark as one page of HTML that needs nothing but itself."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import yaml
from markupsafe import Markup

from train.benchmark.plan import Plan
from train.benchmark.rows import FIGURES, Row, mean_cell, of_parts
from train.benchmark.table import Table
from train.report.figures import Spread, few_parts_figure
from train.report.page import render

__all__ = ["page"]


def page(
    title: str, plan: Plan, rows: Sequence[Row], tables: Sequence[Table], failed: Sequence[tuple[str, str]]
) -> str:
    """The page; `failed` are jobs with their errors, as text."""
    drawings = (
        [] if len(plan.parts) < 2 else [_curve(plan, rows, figure) for figure in ("i_auroc", "aupro_30")]
    )
    configurations = {
        job.method: yaml.safe_dump(
            job.config.model_dump(mode="json", exclude={"seed"}), sort_keys=False, allow_unicode=True
        )
        for job in plan.jobs
    }
    source = plan.jobs[0].source
    return render(
        "benchmark.html.j2",
        title=f"Benchmark: {title}",
        name=title,
        layout=source.layout,
        plan=plan,
        done=len(rows),
        drawings=[drawing for drawing in drawings if drawing is not None],
        summaries=tables[: len(plan.parts)],
        tables=tables[len(plan.parts) :],
        failed=failed,
        configurations=configurations,
    )


def _curve(plan: Plan, rows: Sequence[Row], figure: str) -> Markup | None:
    """Mean over categories, ± 1 sd over seeds, over the number of good parts (all: their mean)."""
    series: dict[str, tuple[Spread, ...]] = {}
    for method in plan.methods:
        points = []
        for parts, there in of_parts(plan, rows).items():
            cell = mean_cell(there, plan.seeds, method, plan.categories, figure)
            if cell is not None:
                count = parts or round(statistics.fmean(row.parts for row in there))
                points.append(Spread(count, cell.mean, cell.sd))
        if points:
            series[method] = tuple(points)
    return few_parts_figure(series, FIGURES[figure]) if series else None
