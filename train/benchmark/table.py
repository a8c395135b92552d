"""The tables of a benchmark: what stands in them, and as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from train.benchmark.plan import Plan
from train.benchmark.published import Published
from train.benchmark.rows import (
    FIGURES,
    Cell,
    Row,
    category_cell,
    mean_cell,
    of_parts,
    type_cell,
    types_of,
)

__all__ = ["Table", "markdown", "tables"]

_PUBLISHED_FIGURES = ("i_auroc", "aupro_30", "aupro_1")


@dataclass(frozen=True, slots=True)
class Table:
    """A title, the head of each column, and lines of a name with a text for each column."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...]
    note: str = ""
    strong: tuple[str, ...] = ()
    """Names of lines that matter more."""


def tables(plan: Plan, rows: Sequence[Row], published: Published | None) -> tuple[Table, ...]:
    """Means first; each figure by category, then by type, per number of parts; the published; the cost."""
    made = [_summary(plan, there, parts, published) for parts, there in of_parts(plan, rows).items()]
    for parts, there in of_parts(plan, rows).items():
        said = _parts_said(parts, there)
        for figure, name in FIGURES.items():
            made.append(
                _by_category(plan, there, figure, f"{name}{said}", published if parts is None else None)
            )
        for figure in ("i_auroc", "aupro_30"):
            table = _by_type(plan, there, figure, f"{FIGURES[figure]} by type of anomaly{said}")
            if table.lines:
                made.append(table)
    if published is not None:
        made.append(_published(published))
    made.append(_cost(plan, rows))
    return tuple(made)


def _summary(plan: Plan, rows: Sequence[Row], parts: int | None, published: Published | None) -> Table:
    """Methods as lines, each with the means over all categories."""
    lines = []
    for method in plan.methods:
        cells = (mean_cell(rows, plan.seeds, method, plan.categories, figure) for figure in FIGURES)
        lines.append((method, tuple(map(_text, cells))))
        beside = published.beside(method) if published is not None and parts is None else None
        if beside is not None:
            values = (getattr(beside, figure, None) for figure in FIGURES)
            lines.append((f"{beside.method}, published", tuple(map(_plain, values))))
    count = len(plan.categories)
    of = plan.categories[0] if count == 1 else f"Mean over {count} categories"
    # Told apart from the published lines, where there are any.
    strong = plan.methods if len(lines) > len(plan.methods) else ()
    return Table(f"{of}{_parts_said(parts, rows)}", tuple(FIGURES.values()), tuple(lines), strong=strong)


def _cost(plan: Plan, rows: Sequence[Row]) -> Table:
    lines = []
    for parts, there in of_parts(plan, rows).items():
        for method in plan.methods:
            own = [row for row in there if row.method == method]
            if own:
                seconds = [row.train_seconds for row in own if row.train_seconds is not None]
                steps = ", ".join(f"{phase} {count}" for phase, count in own[0].steps.items())
                lines.append(
                    (
                        method if parts is None else f"{method}, {parts} parts",
                        (
                            f"{statistics.fmean(seconds):.1f}" if seconds else "–",
                            f"{statistics.fmean(row.evaluate_seconds for row in own):.1f}",
                            steps or "–",
                        ),
                    )
                )
    note = (
        "Means over categories and seeds, of jobs as they ran beside each other (training: of those "
        "that were not interrupted); steps of the first job."
    )
    return Table("Cost", ("training, s", "evaluation, s", "steps"), tuple(lines), note)


def markdown(title: str, found: Sequence[Table], notes: Sequence[str]) -> str:
    """All tables as GitHub's Markdown."""
    blocks = [f"# {title}", *notes]
    for table in found:
        head = ["", *table.columns]
        lines = [_line(head), _line(["---", *["---:"] * len(table.columns)])]
        lines += [
            _line([f"**{name}**" if name in table.strong else name, *texts]) for name, texts in table.lines
        ]
        blocks += [f"## {table.title}", *([table.note] if table.note else []), "\n".join(lines)]
    return "\n\n".join(blocks) + "\n"


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def _text(cell: Cell | None) -> str:
    return "–" if cell is None else cell.text


def _parts_said(parts: int | None, rows: Sequence[Row]) -> str:
    if parts is not None:
        return f", {parts} good parts"
    counts = sorted({row.parts for row in rows})
    if not counts:
        return ", all good parts"
    return f", all {counts[0] if len(counts) == 1 else f'{counts[0]} to {counts[-1]}'} good parts"


def _by_category(
    plan: Plan, rows: Sequence[Row], figure: str, title: str, published: Published | None
) -> Table:
    lines = [
        (category, tuple(_text(category_cell(rows, plan.seeds, m, category, figure)) for m in plan.methods))
        for category in plan.categories
    ]
    if len(plan.categories) > 1:
        means = (mean_cell(rows, plan.seeds, m, plan.categories, figure) for m in plan.methods)
        lines.append(("mean", tuple(map(_text, means))))
    if published is not None and figure in _PUBLISHED_FIGURES:
        texts = tuple(published.text_beside(method, figure) for method in plan.methods)
        if any(text != "–" for text in texts):
            lines.append((f"published, mean of {published.categories}", texts))
    return Table(title, plan.methods, tuple(lines), strong=("mean",))


def _by_type(plan: Plan, rows: Sequence[Row], figure: str, title: str) -> Table:
    lines = tuple(
        (
            f"{kind} ({count})",
            tuple(_text(type_cell(rows, plan.seeds, method, kind, figure)) for method in plan.methods),
        )
        for kind, count in types_of(rows).items()
    )
    return Table(
        title,
        plan.methods,
        lines,
        "The good parts and those with the type, per category; the mean over the categories that have it "
        "(how many: in brackets).",
    )


def _published(published: Published) -> Table:
    columns = tuple(FIGURES[figure] for figure in _PUBLISHED_FIGURES)
    lines = tuple(
        (
            f"{row.method} [{row.source}]",
            tuple(_plain(getattr(row, figure)) for figure in _PUBLISHED_FIGURES),
        )
        for row in published.rows
    )
    return Table(
        f"Published: {published.name}", columns, lines, f"Means over {published.categories} categories."
    )


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
