"""`edge-inspect`: judge the parts of a folder or a recording, without a broker."""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from edge.bundle import Bundle, load_bundle
from edge.camera.config import RECORDINGS, FolderCamera, RecordingCamera
from edge.camera.factory import source_from_config
from edge.camera.source import FrameSource
from edge.commands.common import OUTCOME_STYLES, ended_by_errors
from edge.commands.part_report import PartReport, ReportFolder, report_folder
from edge.config import OnnxConfig, RuntimeConfig, TensorRTConfig
from edge.errors import CameraError, ConfigError
from edge.frame import Frame
from edge.inspection import Outcome
from edge.inspector import Inspector
from edge.runtime import check_backend, runner_for
from edge.runtime.tensorrt.progress import BuildProgress, BuildStep
from edge.signature import public_key_from
from edge.terminal import counting_bars
from edge.trial import try_stages

__all__ = ["app", "main"]

PART_FAILED = 20
PART_UNDECIDED = 21
PART_TO_REVIEW = 25


app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


class Split(str, Enum):
    """The parts of MVTec 3D-AD."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Backend(str, Enum):
    """What runs the stages."""

    ONNX = "onnx"
    TENSORRT = "tensorrt"


_RUNTIMES: dict[Backend, RuntimeConfig] = {
    Backend.ONNX: OnnxConfig(),
    Backend.TENSORRT: TensorRTConfig(),
}


@app.command()
def inspect(
    *,
    bundle: Annotated[Path, typer.Argument(help="The model bundle's folder.")],
    source: Annotated[
        Path,
        typer.Argument(help="A folder of captures, a category of MVTec 3D-AD, or a recording (.db3, .bag)."),
    ],
    split: Annotated[Split | None, typer.Option(help="Of MVTec 3D-AD alone; test if not given.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Inspect no more than so many parts.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A new folder for overlays (.jpg), anomaly maps (.npy) and inspections.jsonl."),
    ] = None,
    backend: Annotated[
        Backend,
        typer.Option(help="What runs the stages; tensorrt builds the engines that `edge-build` has not."),
    ] = Backend.ONNX,
    trusted_key: Annotated[
        list[str] | None,
        typer.Option(help="Take only a bundle that this public key signed (a file or base64); repeatable."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per part and line on stdout, and nothing else.")
    ] = False,
) -> None:
    """Inspect the parts of a folder or a recording and say what is found; needs no broker.

    What is written to `--out` is there whole, once the last part is inspected, or not at all; a folder
    that holds something is never written into.

    **Example:** `edge-inspect bundles/plate recordings/monday.db3 --out monday`

    **Exit codes:** 0 all parts passed, 20 a part failed, 21 a part got no decision or an error (also where
    others failed: nobody has judged that part yet), 25 a part is to be reviewed, 2 wrong command line,
    3 an option, 4 the source, 5 bundle, 6 a stage can't run, 11 calibration.
    """
    reports: list[PartReport] = []
    with ended_by_errors():
        camera = _source_of(source, split)
        keys = [public_key_from(text) for text in trusted_key] if trusted_key else None
        loaded, runtime = load_bundle(bundle, keys), _RUNTIMES[backend]
        check_backend(loaded, runtime)
        if backend is Backend.ONNX:
            try_stages(loaded)  # a damaged graph can end the process that loads it
        for report in _inspect_all(loaded, runtime, camera, limit=limit, out=out):
            reports.append(report)
            if as_json:
                sys.stdout.write(report.model_dump_json() + "\n")
                sys.stdout.flush()
    if not as_json:
        _print_table(reports, out)
    raise typer.Exit(_exit_code(report.outcome for report in reports))


def _source_of(path: Path, split: Split | None) -> FrameSource:
    if path.suffix in RECORDINGS and not path.is_dir():
        if split is not None:
            raise ConfigError(f"--split {split.value}: {path} is a recording, which has none; leave it out")
        return source_from_config(RecordingCamera(path=path))
    if path.is_dir():
        return source_from_config(
            FolderCamera.model_validate({"path": path, "split": split.value if split else None})
        )
    raise CameraError(
        f"{path}: is neither a folder nor a recording ({' or '.join(RECORDINGS)}); check the path"
    )


def _inspect_all(
    bundle: Bundle, runtime: RuntimeConfig, camera: FrameSource, *, limit: int | None, out: Path | None
) -> Iterator[PartReport]:
    calibration = bundle.calibration
    with (
        report_folder(out) if out else nullcontext() as folder,
        counting_bars() as progress,
        runner_for(bundle, runtime, progress=_build_bars(progress)) as runner,
        camera,
    ):
        inspector = Inspector(bundle, runner)
        task = progress.add_task(camera.name, total=_expected(camera, limit))
        for frame in _frames(camera, limit):
            inspection = inspector.inspect(frame)
            report = PartReport.of(inspection, provisional=calibration.provisional if calibration else None)
            if isinstance(folder, ReportFolder):
                report = folder.add(report, inspection)
            progress.advance(task)
            yield report
        if progress.tasks[task].completed == 0:
            raise CameraError(f"{camera.name}: gave no frame, so nothing was inspected; is it the right one?")


def _frames(camera: FrameSource, limit: int | None) -> Iterator[Frame]:
    return islice(iter(camera), limit)


def _expected(camera: FrameSource, limit: int | None) -> int | None:
    """How many parts there will be, where the source says."""
    said = camera.health().details.get("of_frames")
    total = int(said) if said is not None else None
    if limit is None or total is None:
        return total if limit is None else limit
    return min(limit, total)


def _build_bars(progress: Progress) -> BuildProgress:
    """A bar in percent for each engine while it is built."""
    tasks: dict[str, TaskID] = {}

    def show(step: BuildStep) -> None:
        if step.onnx not in tasks:
            tasks[step.onnx] = progress.add_task(f"engine of {step.onnx} (%)", total=100)
        progress.update(tasks[step.onnx], completed=round(100 * step.fraction), visible=step.fraction < 1)

    return show


def _print_table(reports: list[PartReport], out: Path | None) -> None:
    table = Table()
    table.add_column("part", overflow="fold")
    table.add_column("outcome")
    for name in ("score", "threshold", "ms"):
        table.add_column(name, justify="right")
    for report in reports:
        style = OUTCOME_STYLES[report.outcome]
        said = report.outcome.value + (f": {report.reason}" if report.reason else "")
        table.add_row(
            Text(report.part),
            Text(said, style),
            _number(report.score),
            _number(report.threshold),
            f"{report.total_ms:.0f}",
        )
    console = Console(highlight=False)
    console.print(table)
    counts = Counter(report.outcome for report in reports)
    console.print(
        f"{len(reports)} parts: "
        + ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome])
        + f"; {statistics.median(report.total_ms for report in reports):.0f} ms each (median)"
    )
    for detail in dict.fromkeys(report.detail for report in reports if report.detail):
        console.print(detail, markup=False, soft_wrap=True)
    if any(report.threshold_provisional for report in reports):
        console.print("The threshold is provisional: without a guarantee for the parts of tomorrow.")
    if out is not None:
        console.print(f"Overlays and anomaly maps: {out}", markup=False, soft_wrap=True)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _exit_code(outcomes: Iterable[Outcome]) -> int:
    """0, 20, 21 or 25; a part that nobody has judged is worse than one that is known to be bad."""
    found = set(outcomes)
    if found & {Outcome.NO_DECISION, Outcome.ERROR}:
        return PART_UNDECIDED
    if Outcome.FAIL in found:
        return PART_FAILED
    return PART_TO_REVIEW if Outcome.REVIEW in found else 0


def main() -> None:
    """The console entry."""
    app()


if __name__ == "__main__":
    main()
