"""`cmd/capture`: the next frame is kept as a capture, whole or not at all, while the rig inspects."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from edge.camera.source import SourceHealth
from edge.captures import CaptureInfo, CaptureNote
from edge.capturing.folder import CaptureFolder
from edge.capturing.lots import lot_of, product_folder
from edge.capturing.room import DISK_FULL, check_room, disk_reason
from edge.capturing.session import info_of
from edge.errors import EdgeError
from edge.frame import Frame
from edge.order_messages import CaptureOrder
from edge.orders import Handler, Letter, Reply, Respond, handler

__all__ = ["Eye", "capture_handler"]

_TIMEOUT_S = 10.0
_AT_ONCE = 4


class Eye(Protocol):
    """What is asked of the daemon."""

    def next_frame(self, after_ns: int, timeout_s: float) -> Future[Frame | None]:
        """The first that arrives after that."""

    def camera_health(self) -> SourceHealth:
        """What the camera says of itself."""

    @property
    def product(self) -> str:
        """What is inspected now."""


def capture_handler(
    eye: Eye, folder: Path, later: Callable[[Callable[[], None]], None], *, keep_free_bytes: int
) -> Handler[Any]:
    """That of `capture`: into `folder`/`<product>`/`<date>-rig`, unless less than `keep_free_bytes` is free.

    `later` has another thread write (`Clerk.do`).
    """
    open_now = threading.Semaphore(_AT_ONCE)

    def on_capture(order: CaptureOrder, letter: Letter, respond: Respond) -> None:
        if not open_now.acquire(blocking=False):
            respond(
                Reply(
                    "refused", "capture_busy", f"{_AT_ONCE} captures are being taken; wait for their answers"
                )
            )
            return
        product = eye.product

        def write(frame: Frame | None) -> None:
            open_now.release()
            respond(_kept(frame, order, product))

        eye.next_frame(letter.received_ns, _TIMEOUT_S).add_done_callback(
            lambda came: later(lambda: write(came.result()))
        )

    def _kept(frame: Frame | None, order: CaptureOrder, product: str) -> Reply:
        if frame is None:
            text = f"no frame that can be kept came within {_TIMEOUT_S:g} s; see to the camera"
            return Reply("refused", "no_frame", text)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            check_room(folder, keep_free_bytes)
            info = info_of(frame, eye.camera_health())
            lot = lot_of(product_folder(folder, product), frame.captured_utc, "rig", info)
            return Reply("done", file=str(_write(lot, frame, info, order)))
        except (OSError, EdgeError) as error:
            reason = disk_reason(error, "capture_error")
            return Reply(
                "refused", reason, f"{error}; free some space" if reason == DISK_FULL else str(error)
            )

    return handler(CaptureOrder, on_capture)


def _write(path: Path, frame: Frame, info: CaptureInfo, order: CaptureOrder) -> Path:
    lot = CaptureFolder(path)
    lot.open(info)
    try:
        note = CaptureNote(captured_utc=frame.captured_utc, note=order.note, asked_by=order.issued_by)
        return lot.keep(order.label, frame, info, note).rgb_path
    finally:
        lot.close()
