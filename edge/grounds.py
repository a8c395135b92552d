"""What a trigger has found of the frames that it let through, for who looks at them next."""

from __future__ import annotations

import threading
from collections import deque

from edge.frame import Frame
from edge.preprocessing import Ground

__all__ = ["Grounds"]

_KEPT = 4
"""More frames rarely wait at once, and each takes megabytes; what is not kept is found anew."""


class Grounds:
    """The grounds of the last few frames, each to be taken once; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: deque[tuple[Frame, Ground]] = deque(maxlen=_KEPT)

    def keep(self, frame: Frame, ground: Ground) -> None:
        """Remember the ground of a frame."""
        with self._lock:
            self._found.append((frame, ground))

    def take(self, frame: Frame) -> Ground | None:
        """The ground of this very frame, which is then forgotten; None where it is not known."""
        with self._lock:
            for place, (known, ground) in enumerate(self._found):
                if known is frame:
                    del self._found[place]
                    return ground
        return None
