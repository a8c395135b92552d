"""The options of edge-train that say on what and how it runs, and not what comes out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from train.feature_cache import FeatureCache
from train.loop.workers import Hardware, Workers
from train.training import use_cpu_well

__all__ = [
    "Accelerator",
    "Cache",
    "CacheGb",
    "CheckpointSteps",
    "Devices",
    "NoCache",
    "Precision",
    "Resume",
    "cache_of",
    "default_cache",
    "workers_of",
]

AcceleratorName = Literal["cpu", "cuda", "auto"]
PrecisionName = Literal["32-true", "bf16-mixed", "16-mixed"]
_PANEL = "How it runs"

Accelerator = Annotated[
    AcceleratorName,
    typer.Option(help="auto: the GPUs, where there are any.", rich_help_panel=_PANEL),
]
Devices = Annotated[
    int | None,
    typer.Option(
        min=1, help="Processes, each with its device; by default 1, or torchrun's.", rich_help_panel=_PANEL
    ),
]
Precision = Annotated[
    PrecisionName, typer.Option(help="Of the networks' products in training.", rich_help_panel=_PANEL)
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with an unfinished run in --out.", rich_help_panel=_PANEL)
]
CheckpointSteps = Annotated[
    int, typer.Option(min=1, help="Steps between two checkpoints.", rich_help_panel=_PANEL)
]
Cache = Annotated[Path | None, typer.Option(help="Folder of the feature cache.", rich_help_panel=_PANEL)]
CacheGb = Annotated[
    float,
    typer.Option(
        min=0.1, help="What the cache may hold; what was not used longest goes.", rich_help_panel=_PANEL
    ),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Keep no features between runs.", rich_help_panel=_PANEL)
]


def default_cache() -> Path:
    """Where features are kept between runs: below XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "edge-inspect" / "features"


def cache_of(folder: Path | None, limit_gb: float, *, none: bool) -> FeatureCache:
    """The feature cache that the options ask for."""
    return FeatureCache(None if none else folder or default_cache(), round(limit_gb * 1e9))


def workers_of(accelerator: AcceleratorName, devices: int | None, precision: PrecisionName) -> Workers:
    """Start the workers, and share this machine's cores among them; raises `ConfigError`."""
    workers = Workers(Hardware(accelerator=accelerator, devices=devices, precision=precision))
    use_cpu_well(max(1, len(os.sched_getaffinity(0)) // workers.on_this_machine))
    if workers.is_first and (workers.count > 1 or workers.accelerator != "cpu"):
        Console(stderr=True).print(f"{workers.count} × {workers.accelerator}, {workers.precision}")
    return workers
