"""What a benchmark found out: one model, of which the table and the JSON are made."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict
from rich.table import Table

from edge.messages import StepTimes
from tests.bench.daemon import DaemonTimes
from tests.bench.memory import Memory
from tests.bench.page import PageTimes
from tests.bench.publishing import PublishingTimes
from tests.bench.timing import Interval

__all__ = ["BARS", "BundleTimes", "InspectionTimes", "Machine", "Result", "tables"]

BARS: Mapping[str, float] = {"chained_to_fused": 1.05, "runner_to_bare": 1.03, "cycle_to_model": 1.10}
"""The most that a ratio may be."""


class _Found(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(_Found):
    """Where it was measured; `load_average` is that of the last minute, `cores` those of this process."""

    processor: str
    cores: int
    load_average: float
    python: str
    onnxruntime: str


class BundleTimes(_Found):
    """A bundle's model, without anything around it.

    Ratios: the stages one after the other over one graph made of them, both called barely; `Runner.run`
    over such calls of its own sessions; such calls with each output allocated in advance over those
    without; int8 heads over float32, the heads alone and the whole chain (None where nothing of them can be
    int8).
    """

    chained_to_fused: Interval
    runner_to_bare: Interval
    bound_to_bare: Interval
    int8_heads_to_fp32: Interval | None
    int8_chain_to_fp32: Interval | None
    runner_ms: Interval
    chained_ms: Interval
    fused_ms: Interval
    stages_ms: dict[str, Interval]


class InspectionTimes(_Found):
    """A whole inspection with the first bundle, and each of its steps alone."""

    inspection_ms: Interval
    preprocessing_ms: Interval
    model_ms: Interval
    heatmap_ms: Interval
    overlay_ms: Interval
    steps_ms: dict[str, Interval]


class Result(_Found):
    """One run of the benchmark; every ratio compares what was timed in turn in the same rounds."""

    machine: Machine
    rounds: int
    burst: int
    bars: dict[str, float]
    bundles: dict[str, BundleTimes]
    inspection: InspectionTimes
    publishing: PublishingTimes
    daemon: DaemonTimes
    page: PageTimes | None
    memory: Memory


def tables(result: Result) -> list[Table]:
    """The result as tables for people: ratios with their bars, times, triggers, memory."""
    machine = result.machine
    title = (
        f"{machine.processor}, {machine.cores} cores, load {machine.load_average:.1f}, "
        f"ONNX Runtime {machine.onnxruntime}, {result.rounds} rounds"
    )
    ratios = _table(title, "ratio", "bar")
    times = _table("milliseconds", "median")
    for bundle, found in result.bundles.items():
        for name in (
            "chained_to_fused",
            "runner_to_bare",
            "bound_to_bare",
            "int8_heads_to_fp32",
            "int8_chain_to_fp32",
        ):
            interval = getattr(found, name)
            bar = result.bars.get(name)
            ratios.add_row(f"{bundle}: {_words(name)}", *_cells(interval, 3), _judged(interval, bar))
        for name in ("runner_ms", "chained_ms", "fused_ms"):
            times.add_row(f"{bundle}: {_words(name)}", *_cells(getattr(found, name), 2))
        for name, interval in found.stages_ms.items():
            times.add_row(f"{bundle}: stage {name}", *_cells(interval, 2))
    daemon = result.daemon
    for name in ("cycle_to_model", "cpu_cycle_to_model", "cpu_cycle_to_inspection"):
        interval = getattr(daemon, name)
        ratios.add_row(
            f"daemon: {_words(name)}", *_cells(interval, 3), _judged(interval, result.bars.get(name))
        )
    times.add_row("daemon: cpu cycle", *_cells(daemon.cpu_cycle_ms, 2))
    for name in ("encoding", "verdict", "sending", "telling"):
        interval = getattr(result.publishing, f"{name}_to_inspection")
        ratios.add_row(f"processor time: {name} ÷ inspection", *_cells(interval, 3), "")
    inspection = result.inspection
    for name in ("inspection_ms", "preprocessing_ms", "model_ms", "heatmap_ms", "overlay_ms"):
        times.add_row(_words(name), *_cells(getattr(inspection, name), 2))
    for name, interval in inspection.steps_ms.items():
        times.add_row(f"  {_words(name)}", *_cells(interval, 2))
    triggers = Table("trigger → verdict on the disk", title=f"{daemon.triggers} triggers by command")
    for column in ("p50 ms", "p99 ms"):
        triggers.add_column(column, justify="right")
    for name, step in daemon.trigger_ms.items():
        triggers.add_row(name, *_step_cells(step))
    if result.page is not None:
        triggers.add_row("verdict → browser", *_step_cells(result.page.verdict_age_ms))
        triggers.add_row("picture and heatmap → browser", *_step_cells(result.page.picture_age_ms))
    memory = Table("resident memory", title=f"{result.memory.inspections} inspections")
    memory.add_column("MB", justify="right")
    for label, value in (
        ("before the model is loaded", result.memory.before_mb),
        ("warm", result.memory.warm_mb),
        ("at the end", result.memory.end_mb),
        ("highest", result.memory.peak_mb),
    ):
        memory.add_row(label, f"{value:.0f}")
    return [ratios, times, triggers, _sent(result.publishing), memory]


def _sent(publishing: PublishingTimes) -> Table:
    sent = Table("over MQTT", title="one part and its default pictures")
    sent.add_column("bytes", justify="right")
    for name, size in publishing.payload_bytes.items():
        sent.add_row(name, str(size))
    sent.add_row("all of it, on the wire", str(publishing.wire_bytes_per_part))
    return sent


def _table(title: str, *columns: str) -> Table:
    table = Table("what", title=title)
    for column in (columns[0], "95 % interval", *columns[1:]):
        table.add_column(column, justify="right")
    return table


def _step_cells(step: StepTimes) -> tuple[str, str]:
    return f"{step.p50_ms:.2f}", f"{step.p99_ms:.2f}"


def _words(name: str) -> str:
    return name.removesuffix("_ms").replace("_to_", " ÷ ").replace("_", " ")


def _cells(interval: Interval | None, digits: int) -> tuple[str, str]:
    if interval is None:
        return "–", "nothing of it can be int8"
    return f"{interval.median:.{digits}f}", f"{interval.low:.{digits}f} … {interval.high:.{digits}f}"


def _judged(interval: Interval | None, bar: float | None) -> str:
    """Whether the bar is held, by the whole interval and not by the luck of its median."""
    if bar is None or interval is None:
        return ""
    if interval.high <= bar:
        return f"≤ {bar:g} held"
    return f"≤ {bar:g} missed" if interval.low > bar else f"≤ {bar:g} not decided"
