"""A real outbox whose folder goes with it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig

__all__ = ["ScratchOutbox"]


_AS_EVER = OutboxConfig()


class ScratchOutbox(Outbox):
    """An outbox in a temporary folder, which is removed when it is closed."""

    def __init__(self, config: OutboxConfig = _AS_EVER) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="edge-outbox-"))
        super().__init__(self.scratch, config)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.scratch, ignore_errors=True)
