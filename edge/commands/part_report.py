"""What `edge-inspect` says about one part, and the folder in which it keeps the evidence."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from typing_extensions import Self

from edge.errors import ConfigError, EdgeError
from edge.heatmap import overlay_jpeg
from edge.inspection import Inspection, Outcome, Region

__all__ = ["PartReport", "ReportFolder", "report_folder"]

_LINES = "inspections.jsonl"


class PartReport(BaseModel):
    """One part's line of `--json` and of inspections.jsonl; pixels are the frame's.

    `part` is the part's name where the source knows it, else the frame's number. `overlay` and `map` name
    the files with the evidence, relative to the folder; None where there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    part: str
    frame_seq: int
    outcome: Outcome
    reason: str | None
    detail: str | None
    score: float | None
    threshold: float | None
    threshold_provisional: bool | None
    review_threshold: float | None
    regions: tuple[Region, ...]
    window_px: tuple[int, int, int, int] | None
    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float
    total_ms: float
    overlay: str | None = None
    map: str | None = None

    @classmethod
    def of(cls, inspection: Inspection, *, provisional: bool | None) -> Self:
        """The report of an inspection; `provisional` says whether its threshold is."""
        frame, durations = inspection.frame, inspection.durations
        return cls(
            part=frame.part_id or f"frame-{frame.seq:06d}",
            frame_seq=frame.seq,
            outcome=inspection.outcome,
            reason=inspection.reason,
            detail=inspection.detail,
            score=inspection.score,
            threshold=inspection.threshold,
            threshold_provisional=provisional,
            review_threshold=inspection.review_threshold,
            regions=inspection.regions,
            window_px=inspection.window_px,
            preprocess_ms=durations.preprocess_ms,
            inference_ms=durations.inference_ms,
            postprocess_ms=durations.postprocess_ms,
            total_ms=durations.total_ms,
        )


class ReportFolder:
    """Overlays (.jpg), anomaly maps (.npy, float32 (H, W)) and inspections.jsonl in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("overlays", "maps"):
            (folder / name).mkdir()

    def add(self, report: PartReport, inspection: Inspection) -> PartReport:
        """Write what belongs to one part; gives its report with the files' names. Raises `EdgeError`."""
        stem = f"{report.frame_seq:06d}-{re.sub(r'[^0-9A-Za-z_.-]+', '-', report.part)}"
        overlay = f"overlays/{stem}.jpg"
        anomaly_map = None if inspection.anomaly_map is None else f"maps/{stem}.npy"
        named = report.model_copy(update={"overlay": overlay, "map": anomaly_map})
        with _told(self._folder):
            (self._folder / overlay).write_bytes(overlay_jpeg(inspection))
            if anomaly_map is not None and inspection.anomaly_map is not None:
                np.save(self._folder / anomaly_map, inspection.anomaly_map)
            with (self._folder / _LINES).open("a", encoding="utf-8") as file:
                file.write(named.model_dump_json() + "\n")
        return named


@contextmanager
def report_folder(target: Path) -> Iterator[ReportFolder]:
    """A folder that appears under its name when the context ends well, and not at all otherwise.

    Raises `ConfigError` where something stands at `target` already, `EdgeError` where it can't be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"--out {target}: holds something already; name a new folder")
    with _told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.")
    with temporary:
        draft = Path(temporary.name) / target.name
        with _told(target):
            draft.mkdir()
            folder = ReportFolder(draft)
        yield folder
        with _told(target):
            draft.rename(target)


@contextmanager
def _told(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EdgeError(
            f"--out {target}: can't be written ({error.strerror}); nothing is kept there. Free some space, "
            "or name another folder"
        ) from error
