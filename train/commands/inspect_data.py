"""edge-train inspect-data: what a reader finds in a folder, before anything is trained on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from edge.commands.common import ended_by_errors
from edge.errors import DatasetError
from train.commands.data_options import (
    LIGHT,
    Category,
    Data,
    DepthRange,
    DepthScale,
    Layout,
    LayoutFile,
    Light,
    TestLots,
    dataset_options,
)
from train.commands.progress import Bars
from train.datasets import DatasetOptions, Format, check_unit, list_categories, read_dataset
from train.datasets.contact_sheet import write_contact_sheet
from train.datasets.survey import Looked, Survey, parts_to_read, survey

__all__ = ["app", "inspect_data"]

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

HELD_OUT_SHARE = 0.2


@app.command(name="inspect-data")
def inspect_data(
    *,
    data: Data,
    layout: Layout = "captures",
    category: Category = None,
    layout_file: LayoutFile = None,
    light: Light = LIGHT,
    test_lots: TestLots = None,
    depth_range: DepthRange = None,
    depth_scale: DepthScale = 1.0,
    parts: Annotated[
        int, typer.Option(min=0, help="How many parts of each split and kind are read; 0: all.")
    ] = 5,
    picture: Annotated[
        Path | None, typer.Option(help="Write a picture here (PNG): parts as RGB, depth and mask.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Show what is found in a data set: parts, sizes, depth in metres, a picture, and what is wrong.

    Without --category all categories are looked at, and the picture's name gets that of each. Ends with 8
    where there is a problem.

    Example: [bold]edge-train inspect-data --data pdreal --format pdreal --picture pdreal.png[/bold]
    """
    with ended_by_errors():
        options = dataset_options(
            layout_file=layout_file,
            light=light,
            test_lots=test_lots,
            depth_range=depth_range,
            depth_scale=depth_scale,
        )
        names = _categories(data, layout, category, options)
        surveys = []
        for name in names:
            found, looked = _survey(data, layout, name, options, parts)
            surveys.append(found)
            if picture is not None:
                path = picture if len(names) == 1 else picture.with_stem(f"{picture.stem}-{name}")
                write_contact_sheet(path, looked, f"{found.name} ({layout})")
            if not as_json:
                _show(found)
    if as_json:
        typer.echo(json.dumps({"format": layout, "categories": [s.model_dump(mode="json") for s in surveys]}))
    if any(found.problems for found in surveys):
        raise typer.Exit(DatasetError.exit_code)


def _categories(
    data: Path, layout: Format, category: str | None, options: DatasetOptions
) -> tuple[str | None, ...]:
    """What to look at; the folder itself where it holds no categories."""
    if category is not None:
        return (category,)
    if not data.is_dir():
        raise DatasetError(f"{data}: no such folder")
    try:
        return list_categories(data, layout, options)
    except DatasetError:
        return (None,)


def _survey(
    data: Path, layout: Format, category: str | None, options: DatasetOptions, per_group: int
) -> tuple[Survey, tuple[Looked, ...]]:
    dataset = read_dataset(data, layout, category, HELD_OUT_SHARE, options)
    with Bars().task(f"parts of {dataset.name}", parts_to_read(dataset, per_group)) as advance:
        found, looked = survey(dataset, data if category is None else data / category, per_group, advance)
    try:
        check_unit(dataset, data, layout, options)
    except DatasetError as error:
        if str(error) not in found.problems:
            found = found.model_copy(update={"problems": (str(error), *found.problems)})
    return found, looked


def _show(found: Survey) -> None:
    console = Console()
    parts = ", ".join(f"{count} {split}" for split, count in found.parts.items())
    table = Table(title=f"{found.name}: {parts}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("split", "kind"):
        table.add_column(column, overflow="fold")
    for column in ("parts", "read", "depth min–median–max", "no depth", "defect"):
        table.add_column(column, justify="right", no_wrap=True)
    for group in found.groups:
        depths = (group.depth_min_m, group.depth_median_m, group.depth_max_m)
        table.add_row(
            group.split,
            group.label,
            str(group.parts),
            str(group.looked_at),
            "  ".join("–" if depth is None else f"{depth:.3f}" for depth in depths) + " m",
            *(
                "–" if share is None else f"{share:.2%}"
                for share in (group.invalid_share, group.defect_share)
            ),
        )
    console.print(table)
    sizes = ", ".join(f"{size} ({count})" for size, count in found.sizes.items())
    units = " to ".join(f"{unit:.4g}" for unit in dict.fromkeys(found.depth_unit_m or ()))
    console.print(f"sizes: {sizes or 'none'}; depth unit: {units} m", highlight=False)
    for style, word, lines in (("yellow", "note", found.notes), ("bold red", "problem", found.problems)):
        for line in lines:
            console.print(f"{word}:", style=style, end=" ")
            console.print(line, markup=False, highlight=False, soft_wrap=True)
