"""Which stage runs on which stream, and what it waits for: the bundle's wiring as queues and events."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edge.bundle import StageSpec

__all__ = ["Step", "plan_steps"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to queue: the upload of the tensor `name`, or the stage `name`.

    It goes on stream `lane`, after the steps of that lane that were queued before, and waits for the steps
    `waits` (numbers in the plan, each on another lane). `awaited`: a later step waits for this one, so an
    event must mark it.
    """

    kind: Literal["upload", "stage"]
    name: str
    lane: int
    waits: tuple[int, ...] = ()
    awaited: bool = False


def plan_steps(stages: Sequence[StageSpec], uploads: Collection[str], lanes: int) -> tuple[Step, ...]:
    """The steps of one run, in the order in which to queue them.

    A stage follows on the lane of a stage that it takes from, where that lane has not gone on with another
    one; else it has a lane of its own while there is one of at most `lanes`. A tensor of `uploads` goes up
    right before the first stage that takes it, so that the host fills the next one while the device works.

    Every step comes after all that made its inputs, by the order of its lane and by the waits; no wait is
    listed that the others imply.
    """
    plan = _Plan(lanes)
    made_by: dict[str, int] = {}
    for stage in stages:
        taken = list(dict.fromkeys(stage.inputs.values()))
        above = {made_by[tensor] for tensor in taken if tensor in made_by and tensor not in uploads}
        lane = plan.lane_after(above)
        for tensor in taken:
            if tensor in uploads and tensor not in made_by:
                made_by[tensor] = plan.add("upload", tensor, lane, ())
        number = plan.add("stage", stage.name, lane, {made_by[tensor] for tensor in taken})
        made_by.update(dict.fromkeys(stage.outputs.values(), number))
    awaited = {number for step in plan.steps for number in step.waits}
    return tuple(replace(step, awaited=number in awaited) for number, step in enumerate(plan.steps))


class _Plan:
    """Steps so far. `known[lane][other]` is the last step of `other` that lane's next one comes after."""

    def __init__(self, lanes: int) -> None:
        self.steps: list[Step] = []
        self._known = [[-1] * lanes for _ in range(lanes)]
        self._known_at: list[tuple[int, ...]] = []

    def lane_after(self, above: Collection[int]) -> int:
        tails = [known[lane] for lane, known in enumerate(self._known)]
        following = [lane for lane, tail in enumerate(tails) if tail in above]
        if following:
            return max(following, key=lambda lane: tails[lane])
        unused = [lane for lane, tail in enumerate(tails) if tail < 0]
        if unused:
            return unused[0]
        # All are taken. One whose last step comes before this one anyway holds nothing up.
        before = {known for number in above for known in self._known_at[number]}
        idle = [lane for lane, tail in enumerate(tails) if tail in before]
        return min(idle or range(len(tails)), key=lambda lane: tails[lane])

    def add(self, kind: Literal["upload", "stage"], name: str, lane: int, above: Collection[int]) -> int:
        known, waits = self._known[lane], []
        for number in sorted(above, reverse=True):  # the latest first: it may imply the others
            if known[self.steps[number].lane] < number:
                waits.append(number)
                known[:] = map(max, known, self._known_at[number])
        number = len(self.steps)
        known[lane] = number
        self._known_at.append(tuple(known))
        self.steps.append(Step(kind, name, lane, tuple(sorted(waits))))
        return number
