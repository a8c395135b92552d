"""The rig's metrics: their names, types and units, and what of a verdict, the health or the state each says.

docs/sparkplug.md shows them; tests/edge/sparkplug/test_sparkplug_docs.py holds the page to this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge.inspection import Outcome
from edge.messages import Health, MachineState, Verdict
from edge.order_messages import RecipeState
from edge.sparkplug.payload import DataType, Value

__all__ = ["BD_SEQ", "HEALTH", "REBIRTH", "RECIPE", "STATE", "VERDICT", "Described", "Read"]

BD_SEQ = "bdSeq"
REBIRTH = "Node Control/Rebirth"

INT, DOUBLE, BOOL, STRING = DataType.INT64, DataType.DOUBLE, DataType.BOOLEAN, DataType.STRING

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Described:
    """A metric as the birth describes it, and in a sentence what it says; `unit` as Ignition's `engUnit`."""

    name: str
    datatype: DataType
    says: str
    unit: str | None = None
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Read(Generic[_T]):
    """A metric, and how its value is read from what the daemon tells."""

    metric: Described
    value: Callable[[_T], Value]


def _read(
    name: str, datatype: DataType, says: str, value: Callable[[_T], Value], unit: str | None = None
) -> Read[_T]:
    return Read(Described(name, datatype, says, unit), value)


def _of_scene(health: Health) -> str | None:
    warnings = () if health.scene is None else health.scene.warnings
    return "; ".join(warning.detail for warning in warnings) or None


def _of_outbox(health: Health) -> str | None:
    return None if health.outbox is None else "; ".join(health.outbox.alarms) or None


VERDICT: tuple[Read[Verdict], ...] = (
    _read(
        "Inspection/Outcome",
        STRING,
        "`pass`, `fail`, `review`, `no_decision` or `error`",
        lambda v: v.outcome.value,
    ),
    _read(
        "Inspection/Pass",
        BOOL,
        "true for `pass` alone: what could not be judged is no good part",
        lambda v: v.outcome is Outcome.PASS,
    ),
    _read(
        "Inspection/Reason", STRING, "why there is no decision, or an error, in one word", lambda v: v.reason
    ),
    _read("Inspection/Score", DOUBLE, "the anomaly score; above the threshold it fails", lambda v: v.score),
    _read("Inspection/Threshold", DOUBLE, "the threshold that it was held against", lambda v: v.threshold),
    _read(
        "Inspection/Threshold Provisional",
        BOOL,
        "whether that threshold holds no guarantee yet",
        lambda v: v.threshold_provisional,
    ),
    _read(
        "Inspection/Result ID",
        STRING,
        "the verdict's own, as `result_id` over MQTT, and in the outbox",
        lambda v: v.result_id,
    ),
    _read("Inspection/Part ID", STRING, "the part's, where whoever triggered said it", lambda v: v.part_id),
    _read(
        "Inspection/Product", STRING, "what the model was trained for (`recipe_id`)", lambda v: v.recipe_id
    ),
    _read("Inspection/Defect Count", INT, "areas above the threshold", lambda v: v.regions_total),
    _read(
        "Inspection/Latency",
        DOUBLE,
        "from the frame's arrival until the verdict",
        lambda v: v.processing_times.latency_ms,
        "ms",
    ),
    _read(
        "Inspection/Sequence",
        INT,
        "counts the verdicts of this start of the daemon, from 0",
        lambda v: v.seq,
    ),
    _read(
        "Inspection/Calibration ID",
        STRING,
        "the calibration that the threshold comes from",
        lambda v: v.calibration_id,
    ),
    _read(
        "Inspection/Calibration Version",
        INT,
        "its number among this model's on this rig",
        lambda v: v.calibration_version,
    ),
    _read("Inspection/Simulated", BOOL, "whether no live camera saw the part", lambda v: v.is_simulated),
)
"""Said with each verdict, all of them, at the verdict's time."""

HEALTH: tuple[Read[Health], ...] = (
    _read("Counts/Passed", INT, "since the daemon's start", lambda h: h.inspections.passed),
    _read("Counts/Failed", INT, "since the daemon's start", lambda h: h.inspections.failed),
    _read("Counts/Review", INT, "since the daemon's start", lambda h: h.inspections.review),
    _read("Counts/No Decision", INT, "since the daemon's start", lambda h: h.inspections.no_decision),
    _read("Counts/Error", INT, "since the daemon's start", lambda h: h.inspections.error),
    _read(
        "Rate/Inspections Per Second",
        DOUBLE,
        "over the last `health.interval_s`",
        lambda h: h.inspections_per_s,
        "1/s",
    ),
    _read(
        "Rate/Latency Median", DOUBLE, "over the last `health.interval_s`", lambda h: h.latency_p50_ms, "ms"
    ),
    _read("Rate/Latency Max", DOUBLE, "over the last `health.interval_s`", lambda h: h.latency_max_ms, "ms"),
    _read("Camera/Connected", BOOL, "false while it is away", lambda h: h.camera.down_s is None),
    _read("Camera/Down Reason", STRING, "why it is away, in one word", lambda h: h.camera.down_reason),
    _read("Camera/Serial", STRING, "of the camera that is there", lambda h: h.camera.serial),
    _read("Camera/Temperature", DOUBLE, "where the camera says it", lambda h: h.camera.temperature_c, "°C"),
    _read("Camera/Reopened", INT, "how often it was lost and came back", lambda h: h.camera.reopened),
    _read("System/Temperature", DOUBLE, "the computer's hottest zone", lambda h: h.soc_temperature_c, "°C"),
    _read("System/Disk Free", INT, "where the outbox lies", lambda h: h.disk_free_bytes, "B"),
    _read("System/Clock Synchronised", BOOL, "whether the kernel says so", lambda h: h.clock_synced),
    _read(
        "Outbox/Waiting",
        INT,
        "verdicts that the broker has not acknowledged",
        lambda h: h.broker.verdicts_pending,
    ),
    _read("Outbox/Alarms", STRING, "what a person has to see to; null where nothing", _of_outbox),
    _read(
        "Warnings/Score Drift",
        BOOL,
        "scores are not what they were at set-up",
        lambda h: None if h.score is None else h.score.warning is not None,
    ),
    _read(
        "Warnings/Score Drift Detail",
        STRING,
        "the warning in a sentence; null where none",
        lambda h: None if h.score is None or h.score.warning is None else h.score.detail,
    ),
    _read(
        "Warnings/Scene",
        BOOL,
        "camera, light or lens are not what they were at set-up",
        lambda h: None if h.scene is None else bool(h.scene.warnings),
    ),
    _read("Warnings/Scene Detail", STRING, "the warnings in sentences; null where none", _of_scene),
    _read("Model/Product", STRING, "what the running model was trained for", lambda h: h.recipe_id),
    _read("Model/SHA256", STRING, "of the running model", lambda h: h.model_sha256),
    _read("Model/Calibration ID", STRING, "of the running model's calibration", lambda h: h.calibration_id),
    _read("Properties/Software Version", STRING, "of edge-inspect", lambda h: h.software_version),
)
"""Said every `health.interval_s`, those that have changed."""

STATE: tuple[Read[MachineState], ...] = (
    _read(
        "Machine/State",
        STRING,
        "`Preoperational`, `Ready`, `ContinuousExecution`, `Error`, `Halted`, … (OPC 40100-1)",
        lambda s: s.state.value,
    ),
    _read("Machine/Reason", STRING, "why, in one word", lambda s: s.reason),
    _read("Machine/Detail", STRING, "why, in a sentence", lambda s: s.detail),
)
"""Said when the state changes."""


def _refused(state: RecipeState) -> str | None:
    refused = state.refused
    return None if refused is None else f"{refused.name}: {refused.reason}: {refused.detail}"


RECIPE: tuple[Read[RecipeState], ...] = (
    _read("Recipe/Running", STRING, "the recipe by which parts are inspected", lambda s: s.running.name),
    _read("Recipe/Trigger", STRING, "what triggers it", lambda s: s.running.trigger),
    _read("Recipe/Threshold", DOUBLE, "the threshold in force", lambda s: s.running.threshold),
    _read(
        "Recipe/Review Threshold",
        DOUBLE,
        "scores above it, up to the threshold, are for review; null where none are",
        lambda s: s.running.review_threshold,
    ),
    _read(
        "Recipe/Calibration Version",
        INT,
        "counts this model's calibrations on this rig; 0 for none",
        lambda s: s.running.calibration_version or 0,
    ),
    _read("Recipe/Loading", STRING, "the one that is being loaded; null where none", lambda s: s.loading),
    _read("Recipe/Refused", STRING, "the latest that could not be taken, and why", _refused),
)
"""Said when one of them changes."""
