"""What a recipe changes: the model, what asks it, and what its verdicts say of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.calibration import PromisedRate
from edge.event_trigger import EventTrigger
from edge.frame import Frame
from edge.inspection import Inspection
from edge.inspector import PreparedPart
from edge.publisher import Picture
from edge.trigger import Trigger
from edge.verdict import Provenance

__all__ = ["FrameInspector", "Model", "PictureMaker"]


class FrameInspector(Protocol):
    """Says what it finds in a frame, in two steps on two threads (`edge.inspector.Inspector`)."""

    def prepare(self, frame: Frame) -> PreparedPart:
        """All that needs no runner; raises `FrameError` where it can't."""

    def judge(self, part: PreparedPart) -> Inspection:
        """The rest, on the thread that owns the runner; raises `RunnerError` where it can't."""


PictureMaker = Callable[[Inspection], Sequence[Picture]]


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A bundle made ready to inspect with; each job keeps the one that it was asked of.

    `close` frees the runner. It is called once, on the inspection thread, after the last job of this model.
    `good_scores` are those that its calibration was found on, where it says; `promise` what it promises.
    """

    inspector: FrameInspector
    trigger: Trigger | EventTrigger
    pictures: PictureMaker
    provenance: Provenance
    close: Callable[[], None]
    good_scores: tuple[float, ...] | None = None
    promise: PromisedRate | None = None
