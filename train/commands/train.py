"""edge-train: from good parts to a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError
from rich.console import Console

from edge.commands.common import ended_by_errors
from edge.errors import ConfigError
from edge.strict_yaml import load_strict_yaml
from train.choosing import Candidates, choose
from train.commands.choice_table import show_choice
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
from train.commands.default_command import DefaultCommandGroup
from train.commands.inspect_data import inspect_data
from train.commands.loop_options import (
    Accelerator,
    Cache,
    CacheGb,
    CheckpointSteps,
    Devices,
    NoCache,
    Precision,
    Resume,
    cache_of,
    workers_of,
)
from train.commands.option_errors import said
from train.commands.progress import Bars
from train.config import TrainConfig
from train.datasets import open_dataset
from train.training import CHECKPOINT_STEPS, train_run

__all__ = ["main"]

MethodName = Literal["msd", "memory-bank", "fusion"]


class _TrainUnlessNamed(DefaultCommandGroup):
    default = "train"


app = typer.Typer(
    cls=_TrainUnlessNamed,
    help="Train a model, or look at the data first; train need not be named.\n\n"
    "Example: [bold]edge-train --data captures/gland --out runs/gland[/bold]",
    add_completion=False,
    rich_markup_mode="rich",
)


def parse_scales(text: str) -> tuple[int, ...]:
    """`1,2,4` → (1, 2, 4)."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a list of whole numbers such as 1,2,4") from error


@app.command(name="train")
def train(
    *,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the run; must not hold one yet.", show_default=False)],
    layout: Layout = "captures",
    category: Category = None,
    config: Annotated[Path | None, typer.Option(help="YAML of a training configuration.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Overrides the configuration's seed.")
    ] = None,
    method: Annotated[
        MethodName | None, typer.Option(help="Overrides the configuration's; by default msd.")
    ] = None,
    scales: Annotated[str | None, typer.Option(help="Overrides the scales of msd; 1 alone is AST.")] = None,
    cross_folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Train on all good parts; score each by a model of so many folds that was trained without "
            "it, for the threshold. For few parts.",
        ),
    ] = None,
    choose_from: Annotated[
        Path | None,
        typer.Option("--choose", help="YAML of candidates: train each, rank them on held-out good parts."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
    layout_file: LayoutFile = None,
    light: Light = LIGHT,
    test_lots: TestLots = None,
    depth_range: DepthRange = None,
    depth_scale: DepthScale = 1.0,
    accelerator: Accelerator = "cpu",
    devices: Devices = None,
    precision: Precision = "32-true",
    resume: Resume = False,
    checkpoint_steps: CheckpointSteps = CHECKPOINT_STEPS,
    cache: Cache = None,
    cache_gb: CacheGb = 50.0,
    no_cache: NoCache = False,
) -> None:
    """Train on good parts: what they look like is what a method learns.

    Example: [bold]edge-train --data captures/gland --out runs/gland[/bold]
    """
    with ended_by_errors():
        chosen = TrainConfig() if config is None else load_strict_yaml(config, TrainConfig)
        chosen = _overridden(chosen, seed, method, scales, cross_folds)
        if choose_from is not None and chosen.cross_folds is not None:
            raise ConfigError(
                "--choose ranks on good parts held out, and cross_folds holds none out; leave one"
            )
        with workers_of(accelerator, devices, precision) as workers:
            options = dataset_options(
                layout_file=layout_file,
                light=light,
                test_lots=test_lots,
                depth_range=depth_range,
                depth_scale=depth_scale,
            )
            dataset = open_dataset(data, layout, category, chosen.held_out_share, options)
            features = cache_of(cache, cache_gb, none=no_cache)
            if choose_from is not None:
                choice = choose(
                    dataset,
                    chosen,
                    load_strict_yaml(choose_from, Candidates),
                    out,
                    cache=features,
                    progress=Bars(),
                    workers=workers,
                    resume=resume,
                    checkpoint_steps=checkpoint_steps,
                )
                if workers.is_first:
                    show_choice(choice, out, as_json=as_json)
                return
            info = train_run(
                dataset,
                chosen,
                out,
                cache=features,
                progress=Bars(),
                note={},
                workers=workers,
                resume=resume,
                checkpoint_steps=checkpoint_steps,
            )
    if not workers.is_first:
        return
    if as_json:
        typer.echo(json.dumps({"run": str(out), **info.model_dump(mode="json")}))
    else:
        window = info.preprocessing.framing.window_px
        Console().print(
            f"{out}: trained on {info.provenance['train_parts']} good parts, "
            + (
                f"{info.provenance['validation_parts']} held out for the threshold"
                if info.config.cross_folds is None
                else f"the threshold by {info.config.cross_folds} folds of them"
            )
            + (f", window {window} px" if window else "")
        )
        Console().print(f"next: edge-export --run {out} --out bundles/{info.product}", highlight=False)


app.command(name="inspect-data")(inspect_data)


def _overridden(
    config: TrainConfig,
    seed: int | None,
    method: MethodName | None,
    scales: str | None,
    cross_folds: int | None,
) -> TrainConfig:
    values = config.model_dump()
    if method is not None and method != config.method.name:
        values["method"] = {"name": method}
    if seed is not None:
        values["seed"] = seed
    if cross_folds is not None:
        values["cross_folds"] = cross_folds
    if scales is not None:
        if values["method"]["name"] != "msd":
            raise ConfigError(f"--scales are those of msd; the method here is {values['method']['name']}")
        values["method"].setdefault("distillation", {})["scales"] = parse_scales(scales)
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"--seed, --method, --scales, --cross-folds: {said(error)}") from error


def main() -> None:
    """Entry point of `edge-train`."""
    app()
