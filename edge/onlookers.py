"""Who else is told what the rig does, beside the broker's topics: a SCADA host, a page in a browser."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from edge.messages import Health, MachineState, PictureInfo, Verdict
from edge.publisher import Picture

__all__ = ["Onlooker", "Onlookers"]


class Onlooker(Protocol):
    """Is told as it happens, whatever the broker does meanwhile; from the thread on which it happens.

    None of its methods waits for anything or raises: the rig does not go on before they return.
    """

    def on_verdict(self, verdict: Verdict) -> None:
        """A part has its verdict, and the verdict is kept (or, with the reason `not_kept`, is not)."""

    def on_picture(self, picture: Picture, info: PictureInfo) -> None:
        """A picture of the verdict that was told before."""

    def on_health(self, health: Health) -> None:
        """The rig's health, every `health.interval_s`, from the health thread."""

    def on_machine_state(self, state: MachineState) -> None:
        """What the rig does from now on."""


class Onlookers:
    """Several onlookers, as one; each is told in turn."""

    def __init__(self, onlookers: Iterable[Onlooker] = ()) -> None:
        self._onlookers = tuple(onlookers)

    def on_verdict(self, verdict: Verdict) -> None:
        for onlooker in self._onlookers:
            onlooker.on_verdict(verdict)

    def on_picture(self, picture: Picture, info: PictureInfo) -> None:
        for onlooker in self._onlookers:
            onlooker.on_picture(picture, info)

    def on_health(self, health: Health) -> None:
        for onlooker in self._onlookers:
            onlooker.on_health(health)

    def on_machine_state(self, state: MachineState) -> None:
        for onlooker in self._onlookers:
            onlooker.on_machine_state(state)
