"""The options by which every command of the workstation is told of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from train.datasets import DatasetOptions, Format

__all__ = [
    "LIGHT",
    "Category",
    "Data",
    "DepthRange",
    "DepthScale",
    "Layout",
    "LayoutFile",
    "Light",
    "TestLots",
    "dataset_options",
]

LIGHT = DatasetOptions().light
_PANEL = "How the data set is read"

Data = Annotated[Path, typer.Option(help="Folder of the data set.", show_default=False)]
Layout = Annotated[Format, typer.Option("--format", help="How the data set is laid out.")]
Category = Annotated[
    str | None, typer.Option(help="A folder in it: a category, a class, or a product of captures.")
]
LayoutFile = Annotated[
    Path | None,
    typer.Option(help="globs, pdreal: YAML that describes the folders.", rich_help_panel=_PANEL),
]
Light = Annotated[int, typer.Option(help="eyecandies: which of image_0 to image_5.", rich_help_panel=_PANEL)]
TestLots = Annotated[
    str | None,
    typer.Option(help="captures: which lots are the test split, such as 'test-*'.", rich_help_panel=_PANEL),
]
DepthRange = Annotated[
    tuple[float, float] | None,
    typer.Option(
        help="Where the median depth may lie: nearest and farthest, in metres.", rich_help_panel=_PANEL
    ),
]
DepthScale = Annotated[float, typer.Option(help="Every depth is multiplied by it.", rich_help_panel=_PANEL)]


def dataset_options(
    *,
    layout_file: Path | None,
    light: int,
    test_lots: str | None,
    depth_range: tuple[float, float] | None,
    depth_scale: float,
) -> DatasetOptions:
    """The options as the readers take them; raises `ConfigError`."""
    return DatasetOptions(
        light=light,
        layout_file=layout_file,
        test_lots=test_lots,
        depth_range_m=depth_range,
        depth_scale=depth_scale,
    )
