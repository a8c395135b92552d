"""An example of each command, for the documentation and the tests of its schema."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from edge.order_messages import (
    CalibrationOrder,
    CaptureOrder,
    LabelOrder,
    RecipeOrder,
    ReloadOrder,
    ReplayOrder,
    RollbackOrder,
    ThresholdOrder,
    TriggerOrder,
)

__all__ = [
    "ASKED",
    "CALIBRATION",
    "CAPTURE",
    "EPOCH",
    "LABEL",
    "NOON",
    "RELOAD",
    "REPLAY",
    "RESULT",
    "ROLLBACK",
    "SWITCH",
    "THRESHOLD",
    "TRIGGER",
]

NOON = datetime(2030, 1, 31, 12, 0, 0, 250_000, tzinfo=timezone.utc)
EPOCH = 1_896_091_200_000
RESULT = "0b9f1c9e-6d0a-4f4e-9a5f-3c1d2b7e8f60"

ASKED: Mapping[str, Any] = {
    "request_id": "6a1f0a52-1d0e-4b3c-8a68-0d3a1f1f7c11",
    "issued_by": "hmi-3",
    "reply_to": "acme/dresden/assembly/line-3/cell-2/inspection/resp/hmi-3",
    "issued_utc": NOON,
}
TRIGGER = TriggerOrder(**ASKED, part_serial="A-000123")
SWITCH = RecipeOrder(**ASKED, recipe="gland")
RELOAD = ReloadOrder(**ASKED)
THRESHOLD = ThresholdOrder(
    **ASKED,
    expected_version=3,
    recipe="plate",
    threshold=1.1,
    review_threshold=0.9,
    note="too many rejects since the new lamp",
)
CALIBRATION = CalibrationOrder(
    **ASKED, expected_version=3, calibration="# sha256 of all that follows: 6f0c…\nschema_version: 2\n…"
)
ROLLBACK = RollbackOrder(**ASKED, expected_version=4, to_version=3)

REPLAY = ReplayOrder(**ASKED, from_epoch=EPOCH, from_seq=0, to_epoch=EPOCH, to_seq=41)
CAPTURE = CaptureOrder(**ASKED, label="scratch", note="left edge")
LABEL = LabelOrder(**ASKED, result_id=RESULT, label="good")
