"""Keeps frames, labels them and changes its mind without end; to be killed."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from edge.inspection import Outcome
from edge.labelling.config import CapturesConfig
from edge.labelling.filing import Filed
from edge.labelling.keeping import RecentFrames
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from tests.edge.labelling.parts import HEALTH, frame_of, said, verdict_of

LABELS = ("good", "scratch", "dent")


def work(folder: Path, first: int) -> None:
    told = threading.Semaphore(0)

    def tell(filed: Filed) -> None:
        sys.stdout.write(f"filed {filed.file or filed.detail}\n")
        sys.stdout.flush()
        told.release()

    recent = RecentFrames(
        folder / "recent",
        CapturesConfig(recent_parts=4),
        captures=folder / "captures",
        outbox=folder / "outbox",
        keep_free_bytes=0,
    )
    with Outbox(folder / "outbox", OutboxConfig(keep_free_mb=0)) as outbox, recent.at_work():
        for seq in range(first, first + 1000):
            verdict = verdict_of(seq, Outcome.FAIL)
            outbox.commit(verdict)
            recent.offer(frame_of(seq), verdict, lambda: HEALTH)
            for turn in range(3):
                result, position = said(outbox, seq, LABELS[(seq + turn) % 3])
                sys.stdout.write(f"labelled {result}\n")
                recent.file(result, position, tell)
                told.acquire()


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]))
