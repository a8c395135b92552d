"""`edge-build`: make the TensorRT engines of a bundle, on the device, before the rig needs them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from edge.archive import unpack_bundle
from edge.bundle import Bundle, StageSpec, load_bundle
from edge.commands.common import ended_by_errors, set_up_logging
from edge.config import RigConfig, TensorRTConfig, load_rig_config
from edge.errors import ConfigError
from edge.runtime.tensorrt.api import create_runtime, load_tensorrt
from edge.runtime.tensorrt.cuda import Gpu, this_gpu
from edge.runtime.tensorrt.gpu import GpuIdentity
from edge.runtime.tensorrt.progress import BuildStep
from edge.runtime.tensorrt.provider import EngineProvider

__all__ = ["BuildReport", "BuiltStage", "app", "main"]

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BuiltStage(_Result):
    """The engine of one stage. `cached`: it was there already; `build_s`: how long its build took."""

    bundle: Path
    stage: str
    onnx: str
    cached: bool
    build_s: float
    plan: Path
    plan_bytes: int


class BuildReport(_Result):
    """What `edge-build` has done."""

    tensorrt: str
    gpu: GpuIdentity
    engines_dir: Path
    stages: tuple[BuiltStage, ...]
    pruned: tuple[Path, ...]


@app.command()
def build(
    *,
    bundle: Annotated[
        list[Path] | None,
        typer.Option(
            help="A bundle's folder, or its .zip; again for each further one. Not given: that of --config."
        ),
    ] = None,
    into: Annotated[
        Path | None, typer.Option(help="The new folder that the bundle's .zip is unpacked into.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The rig's YAML, whose `runtime` section says how to build.")
    ] = None,
    engines: Annotated[
        Path | None, typer.Option(help="Where the engines go, in place of runtime.engines_dir.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build anew what is there already, too.")] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Then delete every engine that none of these bundles, nor --config's, uses here."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON on stdout; all else goes to stderr.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what TensorRT says.")] = False,
) -> None:
    """Build the TensorRT engines of one or more bundles, where they are not there already.

    Run it on the device: an engine runs on the GPU, and under the TensorRT, that it was built with. The
    daemon would build them itself at its start; this does it before, and shows how far it is. Ctrl-C gives
    up at the builder's next step; what is built until then stays.

    **Example:** `edge-build --config /etc/edge-inspect/rig.yaml --prune`

    **Example:** `edge-build --bundle plate.zip --into bundles/plate-2`

    **Exit codes:** 0 all engines are there, 2 wrong command line, 3 configuration, 5 bundle, 6 an engine
    can't be built (or there is no TensorRT, or no GPU), 11 calibration, 130 interrupted.
    """
    set_up_logging(verbose)
    with ended_by_errors():
        rig = None if config is None else load_rig_config(config)
        runtime = _runtime(rig, engines)
        trt, gpu = load_tensorrt(), this_gpu()  # before a .zip is unpacked
        bundles = _bundles(rig, bundle or [], into, prune)
        report = _build(trt, gpu, bundles, runtime, force=force, prune=prune)
    if as_json:
        sys.stdout.write(report.model_dump_json() + "\n")
    else:
        _print(report)


def _runtime(rig: RigConfig | None, engines: Path | None) -> TensorRTConfig:
    """How to build: as the rig says."""
    runtime = TensorRTConfig() if rig is None else rig.runtime
    if not isinstance(runtime, TensorRTConfig):
        raise ConfigError(
            f"--config: runtime.backend is {runtime.backend}, which needs no engines; set it to tensorrt, or "
            "leave out --config"
        )
    return runtime if engines is None else runtime.model_copy(update={"engines_dir": engines})


def _bundles(rig: RigConfig | None, given: Sequence[Path], into: Path | None, prune: bool) -> list[Bundle]:
    """What to build, each once; a rig that lists trusted keys takes no bundle but theirs.

    What is about to be pruned must not be the engines of the rig's own bundles, whatever else is named.
    """
    keys = None if rig is None else rig.read_trusted_keys()
    paths = list(given)
    if rig is not None and (prune or not paths):
        paths += rig.recipe_book().bundles
    if not paths:
        raise ConfigError("nothing to build: give --bundle, or --config")
    archives = [path for path in paths if path.suffix == ".zip" and not path.is_dir()]
    if (into is None) != (not archives) or len(archives) > 1:
        raise ConfigError(
            f"--into names the one new folder of one .zip; given are {len(archives)} .zip files and "
            f"{'no ' if into is None else ''}--into"
        )
    return [
        unpack_bundle(path, into, trusted_keys=keys)
        if into is not None and path in archives
        else load_bundle(path, keys)
        for path in dict.fromkeys(path.resolve() if path.is_dir() else path for path in paths)
    ]


def _build(
    trt: Any, gpu: Gpu, bundles: Sequence[Bundle], config: TensorRTConfig, *, force: bool, prune: bool
) -> BuildReport:
    with _Bars() as bars:
        provider = EngineProvider(trt, config, gpu.identity, progress=bars.step)
        keys = {key for bundle in bundles for key in provider.keys(bundle).values()}
        if force:
            for key in keys:
                provider.forget(key, "--force asks for a new one")
        stages = [
            _stage(trt, gpu, provider, bundle, stage)
            for bundle in bundles
            for stage in bundle.manifest.stages
        ]
    return BuildReport(
        tensorrt=str(trt.__version__),
        gpu=gpu.identity,
        engines_dir=provider.cache.folder,
        stages=tuple(stages),
        pruned=provider.cache.prune(keys) if prune else (),
    )


def _stage(trt: Any, gpu: Gpu, provider: EngineProvider, bundle: Bundle, stage: StageSpec) -> BuiltStage:
    """One engine, and that this TensorRT takes it."""
    dla_core = provider.key(bundle, stage).options.dla_core

    def takes(plan: bytes) -> bool:
        """On the GPU's thread, where the engine is freed again."""
        runtime = create_runtime(trt)
        if dla_core is not None:
            runtime.DLA_core = dla_core
        return runtime.deserialize_cuda_engine(plan) is not None

    made = provider.engine(bundle, stage, lambda plan: gpu.call(lambda: takes(plan)) or None)
    return BuiltStage(
        bundle=bundle.path,
        stage=stage.name,
        onnx=stage.file,
        cached=made.cached,
        build_s=made.record.build_s,
        plan=made.path,
        plan_bytes=made.record.plan_bytes,
    )


class _Bars:
    """A bar for each engine that is built, on stderr."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[phase]}", style="dim"),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, step: BuildStep) -> None:
        """Move the bar of the engine that is at work; a build that begins anew has a new one."""
        task = self._tasks.get(step.onnx)
        if task is None:
            task = self._progress.add_task(step.onnx, total=1.0, phase="")
            self._tasks[step.onnx] = task
        self._progress.update(task, completed=step.fraction, phase=step.phase)
        if step.fraction >= 1.0:
            del self._tasks[step.onnx]


def _print(report: BuildReport) -> None:
    console = Console(soft_wrap=True, highlight=False)
    table = Table(title=f"TensorRT {report.tensorrt} on {report.gpu.name} (SM {report.gpu.sm})")
    for column in ("bundle", "stage", "graph", "engine"):
        table.add_column(column)
    table.add_column("MiB", justify="right")
    table.add_column("built in s", justify="right")
    for stage in report.stages:
        table.add_row(
            stage.bundle.name,
            stage.stage,
            stage.onnx,
            "was there" if stage.cached else "built",
            f"{stage.plan_bytes / (1 << 20):.1f}",
            f"{stage.build_s:.1f}",
        )
    console.print(table)
    console.print(f"engines are in {report.engines_dir}", markup=False)
    for path in report.pruned:
        console.print(f"removed {path}", markup=False)


def main() -> None:
    """The console entry."""
    app()


if __name__ == "__main__":
    main()
