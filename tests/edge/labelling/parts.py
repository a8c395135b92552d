"""Parts that were judged, their verdicts in an outbox, and what people say of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edge.camera.source import SourceHealth
from edge.captures import CaptureInfo, CaptureNote
from edge.capturing.session import info_of
from edge.clock import utc_now
from edge.frame import Frame
from edge.inspection import Outcome
from edge.labelling.store import RecentStore
from edge.messages import TriggerKind, Verdict
from edge.outbox import Outbox
from edge.outbox_labels import PartLabel
from edge.testing import flat_frame, sample_verdict

__all__ = ["HEALTH", "NOON", "frame_of", "info_for", "keep", "note_for", "said", "store_in", "verdict_of"]

NOON = datetime(2030, 1, 31, 12, tzinfo=timezone.utc)
HEALTH = SourceHealth(frames=1, serial="1", options={"gain": 16.0})


def frame_of(seq: int, *, width_px: int = 64) -> Frame:
    """A frame of noise, its depth counted in steps of 0.1 mm as the camera does."""
    rng = np.random.default_rng(seq)
    frame = flat_frame(seq, width_px=width_px)
    z16 = rng.integers(2000, 4000, frame.depth_m.shape, dtype=np.uint16)
    z16[0] = rng.choice(np.array([0, 1, 65535], np.uint16), z16.shape[1])
    return replace(
        frame,
        rgb=rng.integers(0, 256, frame.rgb.shape, dtype=np.uint8),
        depth_m=z16.astype(np.float32) * np.float32(1e-4),
        captured_utc=NOON,
        part_id=f"P-{seq}",
    )


def verdict_of(
    seq: int, outcome: Outcome = Outcome.FAIL, *, trigger: TriggerKind = TriggerKind.COMMAND
) -> Verdict:
    changes = {
        "result_id": f"result-{seq}",
        "part_id": f"P-{seq}",
        "outcome": outcome,
        "trigger": trigger,
        "captured_time": NOON,
        "score": 1.5 if outcome is Outcome.FAIL else 0.5,
    }
    return sample_verdict(seq).model_copy(update=changes)


def note_for(verdict: Verdict) -> CaptureNote:
    return CaptureNote(
        captured_utc=NOON,
        part_serial=verdict.part_id,
        result_id=verdict.result_id,
        recipe=verdict.recipe_id,
        model_sha256=verdict.model_sha256,
        outcome=verdict.outcome,
        score=verdict.score,
    )


def info_for(frame: Frame, serial: str = "1") -> CaptureInfo:
    return info_of(frame, replace(HEALTH, serial=serial))


def store_in(
    folder: Path, *, parts_max: int = 8, max_bytes: int = 1 << 30, keep_free_bytes: int = 0
) -> RecentStore:
    store = RecentStore(folder, parts_max=parts_max, max_bytes=max_bytes, keep_free_bytes=keep_free_bytes)
    store.open()
    return store


def keep(store: RecentStore, seq: int, outcome: Outcome = Outcome.FAIL, *, serial: str = "1") -> list[str]:
    """Keep the frame of that part; gives the results whose frames went."""
    frame, verdict = frame_of(seq), verdict_of(seq, outcome)
    return store.keep((verdict.epoch, seq), frame, info_for(frame, serial), note_for(verdict))


def said(outbox: Outbox, seq: int, label: str, by: str = "anna", note: str | None = None) -> tuple[str, int]:
    """Label that part's result; its id, and the label's position."""
    result_id = f"result-{seq}"
    return result_id, outbox.label(PartLabel(result_id, by, label, note, utc_now()))
