"""What a rig can be told over MQTT, and what it answers; docs/schemas/ is generated from these models.

A command is told apart by its topic, `cmd/{command}`; what all of them say stands in `Order`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import Self

from edge.messages import Message, UtcTime
from edge.region_rules import RegionRules

__all__ = [
    "ORDERS",
    "Answer",
    "CalibrationOrder",
    "CaptureOrder",
    "LabelOrder",
    "Order",
    "RecalibratingOrder",
    "RecipeOrder",
    "RecipeRefusal",
    "RecipeState",
    "ReloadOrder",
    "ReplayOrder",
    "RollbackOrder",
    "RunningRecipe",
    "ThresholdOrder",
    "TriggerOrder",
]

_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]+$"

_Word = Annotated[str, Field(min_length=1, max_length=128, pattern=_PRINTABLE)]
_Label = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
_Note = Annotated[str, Field(min_length=1, max_length=500, pattern=_PRINTABLE)]
_Number = Annotated[int, Field(ge=0, lt=2**63)]
_Topic = Annotated[str, Field(min_length=1, max_length=512, pattern=_PRINTABLE)]


class Order(Message):
    """What every command says.

    `request_id` is the asker's own, new for each request (a UUID, a counter that never goes back): a second
    message with the same `issued_by` and `request_id` is not executed again. `issued_by` names the person or
    program, for the log. `reply_to` is the topic of the answer, `…/inspection/resp/{client}`; MQTT 5's
    response topic may say it instead. `issued_utc` is when it was sent, in UTC (`2030-01-31T12:00:00Z`).
    """

    # Strict: 1 is no text, "1" no number, and no number a time.
    model_config = ConfigDict(strict=True, json_schema_serialization_defaults_required=False)

    retained = False
    qos = 1
    command: ClassVar[str]
    changes: ClassVar[bool] = True
    """It is carried out once, over restarts, too: the audit log has it before it is begun."""
    decides: ClassVar[bool] = True
    """It changes how parts are judged: it is not carried out where the audit log can't be written."""
    max_bytes: ClassVar[int] = 16 * 1024
    """A hundred times what a command needs."""

    request_id: _Word
    issued_by: _Word
    reply_to: _Topic | None = None
    issued_utc: UtcTime | None = None


class TriggerOrder(Order):
    """Inspect the part that lies under the camera now; `part_serial` becomes the verdict's `part_id`.

    Only for a recipe whose trigger is `command`.
    """

    command = "trigger"
    changes = False  # its trigger is in the outbox
    decides = False

    part_serial: _Word | None = None


class RecipeOrder(Order):
    """Go over to another recipe of the rig's YAML, by its name there; the one that runs is looked at anew."""

    command = "recipe"

    recipe: _Word


class ReloadOrder(Order):
    """Read the rig's YAML again, and take over what needs no restart."""

    command = "reload"


class ReplayOrder(Order):
    """Send verdicts again, the oldest first, `limit` of them at most, behind all that is new.

    From `from_epoch`, `from_seq` to `to_epoch`, `to_seq`, or from `from_time` to `to_time`, when they were
    made; both ends included, and without the second up to the newest.
    """

    command = "replay"
    decides = False

    from_epoch: _Number | None = None
    from_seq: _Number | None = None
    to_epoch: _Number | None = None
    to_seq: _Number | None = None
    from_time: UtcTime | None = None
    to_time: UtcTime | None = None
    limit: int = Field(default=1000, ge=1, le=10_000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("from", "to"):
            given = [getattr(self, f"{name}_{part}") is not None for part in ("epoch", "seq")]
            if any(given) and not all(given):
                raise ValueError(f"{name}_epoch and {name}_seq go together; give both or neither")
        numbers, times = (self.from_epoch, self.to_epoch), (self.from_time, self.to_time)
        if (self.from_epoch is None) == (self.from_time is None):
            raise ValueError("give from_epoch and from_seq, or from_time; one of the two")
        other = numbers if self.from_epoch is None else times
        if any(value is not None for value in other):
            raise ValueError("both ends are numbers (epoch, seq), or both are times")
        return self


class CaptureOrder(Order):
    """Keep the next frame as a capture of that label: `good`, or a defect's name."""

    command = "capture"
    decides = False

    label: _Label
    note: _Note | None = None


class LabelOrder(Order):
    """Say what became of the part of a verdict, `good` or a defect's name; a later one takes its place."""

    command = "label"
    decides = False

    result_id: _Word
    label: _Label
    note: _Note | None = None


class RecalibratingOrder(Order):
    """What the commands say that change the calibration of the model that runs.

    `expected_version` is the one in force, as `state/recipe` and the verdicts say it, 0 for none: where it
    is another by now, nothing is changed. With `recipe` only where that one runs.
    """

    expected_version: int = Field(ge=0)
    recipe: _Word | None = None


class ThresholdOrder(RecalibratingOrder):
    """Judge by another threshold, a person's own; region rules and good scores stay, promises don't.

    Scores in (`review_threshold`, `threshold`] are for review; without one no part is.
    """

    command = "threshold"

    threshold: float = Field(allow_inf_nan=False)
    review_threshold: float | None = Field(default=None, allow_inf_nan=False)
    note: str | None = Field(default=None, max_length=1000)


class CalibrationOrder(RecalibratingOrder):
    """Judge by a calibration that was found for this model: `calibration` is the text of its sealed file."""

    command = "calibration"
    # A sealed file has at most 128 KiB, and JSON makes two characters of each of its line ends.
    max_bytes = 160 * 1024

    calibration: str


class RollbackOrder(RecalibratingOrder):
    """Judge by an earlier version of the calibration again; it becomes a new version."""

    command = "rollback"

    to_version: int = Field(ge=1)


ORDERS: tuple[type[Order], ...] = (
    TriggerOrder,
    RecipeOrder,
    ReloadOrder,
    ReplayOrder,
    CaptureOrder,
    LabelOrder,
    ThresholdOrder,
    CalibrationOrder,
    RollbackOrder,
)
"""Every command that there is; each has a topic of its name below `cmd/`."""


class Answer(Message):
    """What became of one command; each gets one, on the topic that it asked for.

    `status`: `accepted` (a trigger: the verdict with the id `result_id` follows), `done`, or `refused`, then
    with a `reason`, one stable word, and a `detail` for people. `recipe` is the one that runs now, after
    `recipe` and `reload`; `applied` and `needs_restart` name keys of the YAML that a `reload` found
    changed; `count` is how many verdicts a `replay` sends again, `file` the image that a `capture` is,
    or that a `label` made one. A `label` without it is `done` with a `reason` why no capture was made.
    `calibration_version` is the one in force after a command that is about it, 0 for none.
    `request_id` and `issued_by` are null where the command could not be read.
    """

    retained = False
    qos = 1

    command: str
    request_id: str | None
    issued_by: str | None
    status: Literal["accepted", "done", "refused"]
    reason: str | None
    detail: str | None
    result_id: str | None
    recipe: str | None
    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]
    count: int | None = None
    file: str | None = None
    calibration_version: int | None = None
    creation_time: UtcTime
    epoch: int = Field(ge=0)
    boot_id: str


class RunningRecipe(Message):
    """The recipe by which parts are inspected, the model that it runs, and since when.

    `region_rules` are those of its calibration: they are part of the scores.
    """

    retained = True
    qos = 1

    name: str
    product: str
    method: str
    model_sha256: str
    calibration_id: str | None
    threshold: float | None
    calibration_version: int | None = None
    review_threshold: float | None = None
    region_rules: RegionRules | None = None
    trigger: str
    since: UtcTime


class RecipeRefusal(Message):
    """A recipe that could not be taken, why, and when."""

    retained = True
    qos = 1

    name: str
    reason: str
    detail: str
    at: UtcTime


class RecipeState(Message):
    """Which recipe runs, which is being loaded meanwhile, and what the schedule does next.

    `refused` is the latest recipe that could not be taken, until another one is. `next_name` and `next_at`
    are null without a schedule, and while the clock is not believed.
    """

    retained = True
    qos = 1

    running: RunningRecipe
    loading: str | None
    refused: RecipeRefusal | None
    next_name: str | None
    next_at: UtcTime | None
    names: tuple[str, ...]
    creation_time: UtcTime
    epoch: int = Field(ge=0)
    boot_id: str
