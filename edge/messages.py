"""What goes over the wire: one model per topic; docs/schemas/ is generated from them.

Names follow OPC 40100-1 (machine vision: results and states) where it has one. JSON is strict: no NaN,
no Infinity; every time is RFC 3339 in UTC, with microseconds and a `Z`. A field that has nothing to say
is there and null.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from edge.inspection import Outcome
from edge.labelling.health import RecentFramesHealth
from edge.promise_messages import PromiseHealth
from edge.scene.health import SceneHealth
from edge.score_messages import ScoreHealth
from edge.utc_time import UtcTime

__all__ = [
    "FREE_RUNNING",
    "Availability",
    "AvailabilityState",
    "BrokerHealth",
    "CameraHealth",
    "Health",
    "InspectionCounts",
    "MachineState",
    "MachineStateName",
    "Message",
    "PictureInfo",
    "PictureKind",
    "ProcessingTimes",
    "RegionInfo",
    "StepTimes",
    "TriggerKind",
    "UtcTime",
    "Verdict",
    "WorkHealth",
]


_NonNegative = Annotated[float, Field(ge=0)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_serialization_defaults_required=True,
        # Not of values: parts and requests have ids that never come again, and 16,384 of them would be kept.
        cache_strings="keys",
    )


class Message(_Part):
    """What all topics share: strict, frozen, and a `schema_version` that a breaking change raises."""

    retained: ClassVar[bool]
    qos: ClassVar[Literal[0, 1]]

    schema_version: Literal[1] = 1

    def to_json(self) -> bytes:
        """UTF-8 JSON, without spaces."""
        return self.model_dump_json().encode()


class AvailabilityState(str, Enum):
    """Whether the rig's daemon is connected to the broker."""

    ONLINE = "online"
    OFFLINE = "offline"


class Availability(Message):
    """Birth and will of a rig: whether its daemon is connected, and why not.

    `reason`: `started` and `reconnected` when online; `stopped` (on purpose) and `connection_lost` (the
    broker says so in the rig's name) when offline. `creation_time` of `connection_lost` is that of the
    connection, not of its loss: the broker keeps the message from then on.
    """

    retained = True
    qos = 1

    state: AvailabilityState
    reason: Literal["started", "reconnected", "stopped", "connection_lost"]
    creation_time: UtcTime
    boot_id: str
    epoch: int = Field(ge=0)
    software_version: str


class TriggerKind(str, Enum):
    """What asked for an inspection."""

    EVERY_FRAME = "every_frame"
    INTERVAL = "interval"
    PART_PRESENT = "part_present"
    COMMAND = "command"
    GPIO = "gpio"


FREE_RUNNING = frozenset({TriggerKind.EVERY_FRAME, TriggerKind.INTERVAL})
"""What asks whether or not another part is there: the frames may show one part many times."""


class RegionInfo(_Part):
    """A connected area in which the anomaly map lies above the threshold, or that for review; pixels are the
    frame's.
    """

    bbox_px: tuple[int, int, int, int] = Field(description="x, y, width, height")
    centroid_px: tuple[float, float] = Field(description="x, y")
    area_px: int = Field(ge=0)
    area_mm2: _NonNegative
    peak: float


class ProcessingTimes(_Part):
    """How long the inspection took (OPC 40100-1: ProcessingTimes), in milliseconds.

    `acquisition_duration_ms`: from when the daemon asked for the frame until it had it;
    `processing_duration_ms`: `preprocess_ms` + `inference_ms` + `postprocess_ms`; `latency_ms`: from the
    frame's arrival until the verdict was made, waiting included.
    """

    start_time: UtcTime
    end_time: UtcTime
    acquisition_duration_ms: _NonNegative
    processing_duration_ms: _NonNegative
    preprocess_ms: _NonNegative
    inference_ms: _NonNegative
    postprocess_ms: _NonNegative
    latency_ms: _NonNegative | None


class Verdict(Message):
    """What was found out about one part; each has an id of its own, published at least once.

    `result_id` is what a consumer removes duplicates by; (`epoch`, `seq`) is what it sees gaps and order
    by: `epoch` grows with each start of the daemon, `seq` counts its verdicts from 0. `score` >
    `threshold` means `fail`; what else lies above `review_threshold`, where there is one, is `review`: a
    person is to look at it. `reason` is one stable word, `detail` a sentence for people. `regions` holds
    the worst, worst first; `regions_total` says how many there were. `threshold_provisional` marks a
    threshold that holds no guarantee yet; `calibration_version` counts the calibrations of this model on
    this rig.
    """

    retained = False
    qos = 1

    # OPC 40100-1, ResultDataType
    result_id: str = Field(min_length=1)
    part_id: str | None
    recipe_id: str = Field(description="the product that the model bundle was trained for")
    job_id: str | None
    trigger: TriggerKind | None = None
    request_id: str | None = Field(
        default=None, description="what the command that asked for it called itself"
    )
    is_simulated: bool = Field(description="true unless a live camera saw the part")
    creation_time: UtcTime
    processing_times: ProcessingTimes

    outcome: Outcome
    reason: str | None
    detail: str | None
    score: float | None
    threshold: float | None
    threshold_provisional: bool | None
    calibration_id: str | None
    calibration_version: int | None = None
    review_threshold: float | None = None
    regions: tuple[RegionInfo, ...]
    regions_total: int = Field(ge=0)

    method: str
    model_sha256: _Sha256
    camera_serial: str
    frame_seq: int | None = Field(description="the frame's number since the camera was opened")

    epoch: int = Field(ge=0)
    seq: int = Field(ge=0)
    boot_id: str
    clock_synced: bool | None = Field(description="null where the system does not say")
    captured_time: UtcTime | None
    captured_monotonic_ns: int | None = Field(description="clock of this boot; compare within one boot_id")
    software_version: str


class PictureKind(str, Enum):
    """A picture's topic below the rig's root."""

    HEATMAP = "heatmap"
    IMAGE = "image/rgb"
    MAP = "map"


class PictureInfo(Message):
    """The JSON twin of a picture (topic + `/info`): which verdict it belongs to and how to read it.

    `low` and `high`: the values of the anomaly map at the two ends of the colour map, for a heatmap;
    null for a photo and for raw values. `sha256` is of the payload's bytes, so that a
    consumer can tell whether picture and twin are a pair.
    """

    retained = True
    qos = 0

    kind: PictureKind
    result_id: str
    epoch: int = Field(ge=0)
    seq: int = Field(ge=0)
    encoding: Literal["image/jpeg", "float16-le"]
    width_px: int = Field(ge=1)
    height_px: int = Field(ge=1)
    low: float | None
    high: float | None
    colour_map: str | None
    size_bytes: int = Field(ge=0)
    sha256: _Sha256


class CameraHealth(_Part):
    """The camera, as far as it says.

    `metadata`: whether its frames carry its own count; without it `gaps` can't be seen. `attempts` to open
    it again, `resets` of its hardware, and frames that were stale, garbage, or of an impossible time, are
    counted since the start; `down_s` and `down_reason` say how long it has been away, and why.
    """

    name: str
    serial: str | None
    firmware: str | None
    usb: str | None
    temperature_c: float | None
    frames: int
    gaps: int | None
    reopened: int = Field(description="how often it was lost and came back")
    last_frame_age_s: float | None
    details: dict[str, str]
    metadata: bool | None = None
    attempts: int | None = None
    resets: int | None = None
    stale_frames: int | None = None
    garbage_frames: int | None = None
    time_jumps: int | None = None
    down_s: float | None = None
    down_reason: str | None = None


class BrokerHealth(_Part):
    """The way to the broker, as this message finds it.

    `verdicts_pending` are in the outbox and not acknowledged; `verdicts_refused` counts how often the broker
    refused one since the start: it is sent again.
    """

    protocol: Literal["5", "3.1.1"] | None
    reconnects: int
    verdicts_pending: int
    verdicts_refused: int
    pictures_pending: int
    pictures_dropped: int
    pictures_connected: bool
    last_error: str | None


class InspectionCounts(_Part):
    """Verdicts by outcome."""

    passed: int = Field(ge=0)
    failed: int = Field(ge=0)
    review: int = Field(default=0, ge=0)
    no_decision: int = Field(ge=0)
    error: int = Field(ge=0)


class StepTimes(_Part):
    """How long one step took over the last thousand parts, in milliseconds: median and 99th percentile."""

    p50_ms: _NonNegative
    p99_ms: _NonNegative


class WorkHealth(_Part):
    """How the daemon's threads get on.

    `queues`: what waits for each thread now. `beat_age_s`: how long ago each thread last got on.
    Since the start: `frames_dropped` were passed over for newer ones, `overruns` are triggers that came too
    fast and got an error at once, `intervals_late` had no frame. `steps`: `capture` (trigger to frame),
    `depth`, `inference` (with the score), `commit` (verdict kept, output driven, handed to the broker's
    connection), and `total` (trigger to the end of `commit`, waiting included).
    """

    queues: dict[str, int]
    beat_age_s: dict[str, float]
    frames_dropped: int = Field(ge=0)
    overruns: int = Field(ge=0)
    intervals_late: int = Field(ge=0)
    steps: dict[str, StepTimes]


class OutboxHealth(_Part):
    """What is kept on this machine; sizes are bytes.

    `alarms` holds a sentence for each thing that a person has to see to. `pictures_evicted` had to go before
    their time, `pictures_refused` found no room, both since the start.
    """

    unacknowledged: int = Field(ge=0)
    triggers_in_hand: int = Field(ge=0)
    verdict_bytes: int = Field(ge=0)
    pictures: int = Field(ge=0)
    picture_bytes: int = Field(ge=0)
    pictures_evicted: int = Field(ge=0)
    pictures_refused: int = Field(ge=0)
    ballast_bytes: int = Field(ge=0)
    alarms: tuple[str, ...]


class RejectHealth(_Part):
    """The reject output: what it was last told, and why it could not be driven the last time."""

    kind: Literal["none", "command", "gpio"]
    state: Literal["closed", "safe", "ready"]
    rejected: int = Field(ge=0)
    errors: int = Field(ge=0)
    error: str | None


class Health(Message):
    """How the rig feels, every few seconds; `creation_time` tells a retained one that has grown old.

    `inspections` counts since the daemon's start; `inspections_per_s` and the latencies (milliseconds,
    frame's arrival to verdict) are of the last interval, null where it had none.
    """

    retained = True
    qos = 0

    creation_time: UtcTime
    epoch: int = Field(ge=0)
    boot_id: str
    software_version: str
    uptime_s: _NonNegative
    recipe_id: str
    model_sha256: _Sha256
    calibration_id: str | None
    inspections: InspectionCounts
    inspections_per_s: _NonNegative
    latency_p50_ms: float | None
    latency_max_ms: float | None
    camera: CameraHealth
    broker: BrokerHealth
    work: WorkHealth | None = None
    scene: SceneHealth | None = None
    score: ScoreHealth | None = None
    promise: PromiseHealth | None = None
    recent_frames: RecentFramesHealth | None = None
    outbox: OutboxHealth | None = None
    reject: RejectHealth | None = None
    disk_free_bytes: int | None
    soc_temperature_c: float | None
    clock_synced: bool | None


class MachineStateName(str, Enum):
    """States of the vision state machine of OPC 40100-1."""

    PREOPERATIONAL = "Preoperational"
    READY = "Ready"
    SINGLE_EXECUTION = "SingleExecution"
    CONTINUOUS_EXECUTION = "ContinuousExecution"
    ERROR = "Error"
    HALTED = "Halted"


class MachineState(Message):
    """What the rig is doing (OPC 40100-1: VisionStateMachine).

    `Preoperational` while it starts, `ContinuousExecution` while it inspects on its own trigger, `Ready`
    while it waits for triggers from outside (a command, a GPIO line), `Error` with a `reason` while it
    can't, `Halted` once it has stopped.
    """

    retained = True
    qos = 1

    state: MachineStateName
    reason: str | None
    detail: str | None
    creation_time: UtcTime
    epoch: int = Field(ge=0)
    boot_id: str
