"""What a run of the daemon came to."""

from __future__ import annotations

from dataclasses import dataclass

from edge.inspection import Outcome
from edge.publisher import DeliveryReport

__all__ = ["RunSummary"]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run came to: verdicts by outcome, and what the broker said to them."""

    outcomes: dict[Outcome, int]
    delivery: DeliveryReport

    @property
    def verdicts(self) -> int:
        return sum(self.outcomes.values())
