"""A label makes a capture of a frame that was kept, or moves the one that it made before."""

from __future__ import annotations

import json
import logging
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge.captures import CAPTURE_FILE, CaptureInfo, CaptureLabel, CaptureNote, read_capture_info
from edge.capturing.folder import CaptureFolder
from edge.capturing.lots import lot_of, lots_of, product_folder
from edge.capturing.room import DISK_FULL, check_room, disk_reason
from edge.disk import sync_folder
from edge.errors import CaptureError, EdgeError, OutboxError
from edge.labelling.store import RecentStore
from edge.outbox_labels import StoredLabel, part_label
from edge.outbox_ledger import Ledger
from edge.reasons import reason_of
from edge.sealed import write_atomically
from edge.utc_time import utc_from_text

__all__ = ["Filed", "LabelledParts"]

_log = logging.getLogger(__name__)

_KIND = "labelled"
_AT_IT = "filing"
"""Beside the frames: names the lot that is written to, so that the next start tidies what a crash left."""

_FILED = "filed"
"""Beside the frames: up to which label all are filed, so that the next start goes on behind it."""

_DONE = frozenset({None, "frame_gone", "result_unknown"})
_PIECE = 1000


@dataclass(frozen=True, slots=True)
class Filed:
    """The image that a label's capture is; or why there is none, in one stable word and a sentence."""

    file: Path | None = None
    reason: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class _There:
    """A capture that an earlier label made."""

    lot: Path
    rgb_path: Path
    note: CaptureNote


class LabelledParts:
    """Captures in `captures`/`<product>`/`<date>-labelled`/`<label>`, of what lies in `store`.

    What people said is read from the outbox in the folder `outbox`, so that what is filed is what stands
    there. A part is there once. What an error or a crash kept from being filed is filed after the next start.
    One thread uses it, that of the store.
    """

    def __init__(self, store: RecentStore, captures: Path, outbox: Path, *, keep_free_bytes: int) -> None:
        self._store = store
        self._captures = captures
        self._outbox = outbox
        self._keep_free_bytes = keep_free_bytes
        self._marker = store.folder / _AT_IT
        self._filed = store.folder / _FILED
        self._held = False

    def file(self, result_id: str, position: int) -> Filed:
        """Have the capture of this result where its labels say, of which that at `position` is new.

        In the order of positions. Raises nothing, but says what went wrong.
        """
        filed = self._tried(result_id)
        self._held = self._held or filed.reason not in _DONE
        if not self._held:
            try:
                self._filed_up_to(position)
            except OSError as error:
                _log.warning("label %d will be looked at again at the next start: %s", position, error)
        return filed

    def _tried(self, result_id: str) -> Filed:
        try:
            with Ledger(self._outbox) as ledger:
                labels = ledger.labels_of(result_id)
                verdict = ledger.find(result_id)
            if not labels:
                return Filed(reason="result_unknown", detail=f"no label of {result_id} is kept")
            captured = None if verdict is None else _captured(verdict.payload)
            filed = self._file(result_id, labels, captured)
        except OutboxError as error:
            return Filed(reason=reason_of(error), detail=str(error))
        except (OSError, EdgeError) as error:
            reason = disk_reason(error, "capture_error")
            mending = "free some space, and label it again" if reason == DISK_FULL else "then label it again"
            return Filed(reason=reason, detail=f"{error}; {mending}")
        if filed.file is not None:
            self._forget(result_id)
        return filed

    def recover(self) -> None:
        """After a start: tidy what a crash left, and file what was labelled and is not filed yet."""
        try:
            if self._marker.exists():
                lot = Path(self._marker.read_text(encoding="utf-8"))
                if (lot / CAPTURE_FILE).exists():
                    folder = CaptureFolder(lot)
                    folder.open(read_capture_info(lot))
                    folder.close()
                self._marker.unlink()
            for left in self._store.folder.glob(".fil*.tmp"):
                left.unlink()
            with Ledger(self._outbox) as ledger:
                if not self._filed.exists():
                    self._filed_up_to(ledger.last_label())
                position = int(self._filed.read_text(encoding="ascii"))
                while labels := ledger.labels_since(position, _PIECE):
                    for label in labels:
                        self._file_late(label)
                    position = labels[-1].position
        except (OSError, EdgeError, ValueError) as error:
            _log.error("labels of before the start are not looked after: %s", error)

    def _file_late(self, label: StoredLabel) -> None:
        if label.replaced:
            return
        filed = self.file(label.result_id, label.position)
        if filed.reason not in _DONE:
            _log.error("the label of %s made no capture: %s", label.result_id, filed.detail)

    def _filed_up_to(self, position: int) -> None:
        write_atomically(self._filed, str(position).encode())

    def _file(self, result_id: str, labels: list[StoredLabel], captured: datetime | None) -> Filed:
        label, said = part_label(labels), tuple(_said(one) for one in labels)
        product = product_folder(self._captures, labels[-1].recipe_id)
        there = None if captured is None else self._find(product, captured, result_id)
        if there is not None:
            note = there.note.model_copy(update={"labels": said})
            return Filed(self._relabel(there, label, note))
        if self._store.find(result_id) is None:
            return Filed(reason="frame_gone")
        self._captures.mkdir(parents=True, exist_ok=True)
        check_room(self._captures, self._keep_free_bytes)
        frame, info, note = self._store.read(result_id)
        lot = lot_of(product, note.captured_utc, _KIND, info)
        with self._opened(lot, info) as folder:
            kept = folder.keep(label, frame, info, note.model_copy(update={"labels": said}))
        self._done()
        return Filed(kept.rgb_path)

    def _relabel(self, there: _There, label: str, note: CaptureNote) -> Path:
        with self._opened(there.lot, read_capture_info(there.lot)) as folder:
            path = folder.relabel(there.rgb_path, label, note).rgb_path
        self._done()
        return path

    def _find(self, product: Path, captured: datetime, result_id: str) -> _There | None:
        """Of that day's lots, for a day's labels are few enough to look through."""
        for lot in lots_of(product, captured, _KIND):
            for path in sorted(lot.glob("[!.]*/[!.]*.note.json")):
                data = path.read_bytes()
                rgb_path = path.with_name(f"{path.name.split('.')[0]}.rgb.png")
                if result_id.encode() not in data or not rgb_path.exists():
                    continue
                try:
                    note = CaptureNote.model_validate_json(data)
                except ValueError as error:
                    raise CaptureError(f"{path}: is no note of a capture ({error}); mend it") from error
                if note.result_id == result_id:
                    return _There(lot, rgb_path, note)
        return None

    def _opened(self, lot: Path, info: CaptureInfo) -> closing[CaptureFolder]:
        self._marker.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._marker, str(lot.resolve()).encode())
        sync_folder(self._marker.parent)
        folder = CaptureFolder(lot)
        folder.open(info)
        return closing(folder)

    def _done(self) -> None:
        """Only after success: what an error left is tidied at the lot's next use, or at the next start."""
        self._marker.unlink(missing_ok=True)

    def _forget(self, result_id: str) -> None:
        try:
            self._store.remove(result_id)
        except OSError as error:
            _log.error("the frame of %s can't be removed, though it is a capture now: %s", result_id, error)


def _said(label: StoredLabel) -> CaptureLabel:
    return CaptureLabel(
        label=label.label, labelled_by=label.issued_by, labelled_utc=label.labelled, note=label.note
    )


def _captured(payload: bytes) -> datetime | None:
    """When the frame of a verdict was captured."""
    text = json.loads(payload)["captured_time"]
    return None if text is None else utc_from_text(text)
