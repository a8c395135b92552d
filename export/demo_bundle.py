"""`make demo-bundle`: simulate parts, train on them, export: the bundle that the demo ships with."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.commands.common import ended_by_errors
from edge.errors import ExportError
from edge.simulation import RigScene
from edge.simulation.dataset import write_lot
from edge.strict_yaml import load_strict_yaml
from export.bundle import export_bundle
from train.commands.progress import Bars
from train.config import TrainConfig
from train.datasets import open_dataset
from train.training import train_run, use_cpu_well
from train.views import FeatureCache

__all__ = ["DEMO_BUNDLE", "DEMO_PRODUCT", "TRAIN_SEEDS", "main"]

DEMO_PRODUCT = "plate"
TRAIN_SEEDS = tuple(range(1001, 1011))
"""One simulated rig each: its own tilt, lamp and tray, as on ten days."""

PARTS_PER_RIG = 25
DEMO_BUNDLE = Path(__file__).resolve().parents[1] / "edge" / "demo" / "bundle"
CONFIG = Path(__file__).resolve().parents[1] / "train" / "configs" / "demo.yaml"


def main(
    run: Annotated[
        Path | None,
        typer.Option(help="Keep the run in this new folder, to export it in other precisions, too."),
    ] = None,
) -> None:
    """Make the bundle anew and put it in the place of the old one.

    With SOURCE_DATE_EPOCH set (the Makefile does) the same platform makes the same bytes.
    """
    console = Console(stderr=True)
    with ended_by_errors(), tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        kept = work / "run" if run is None else run
        if kept.exists():
            raise ExportError(f"{kept}: exists already; name a new folder for the run")
        captures = work / DEMO_PRODUCT
        with Bars().task("simulated parts", len(TRAIN_SEEDS)) as advance:
            for seed in TRAIN_SEEDS:
                write_lot(
                    RigScene(DEMO_PRODUCT, seed, defective_share=0.0), captures / f"rig-{seed}", PARTS_PER_RIG
                )
                advance(1)
        config = load_strict_yaml(CONFIG, TrainConfig)
        use_cpu_well(threads=2)
        note: dict[str, str | int] = {"train_seed": ",".join(str(seed) for seed in TRAIN_SEEDS)}
        data = open_dataset(captures, "captures", None, config.held_out_share)
        train_run(data, config, kept, cache=FeatureCache(None), progress=Bars(), note=note)
        export_bundle(kept, work / "bundle", progress=Bars())
        if DEMO_BUNDLE.exists():
            shutil.rmtree(DEMO_BUNDLE)
        shutil.copytree(work / "bundle", DEMO_BUNDLE)
    size_mb = sum(path.stat().st_size for path in DEMO_BUNDLE.rglob("*") if path.is_file()) / 1e6
    console.print(f"{DEMO_BUNDLE}: {size_mb:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
