"""A publisher that keeps what it was given."""

from __future__ import annotations

from collections.abc import Callable

from edge.errors import BrokerError
from edge.messages import BrokerHealth, Health, MachineState, PictureInfo, Verdict
from edge.outbox_records import StoredVerdict
from edge.publisher import Deliveries, Picture

__all__ = ["RecordingPublisher"]


class RecordingPublisher:
    """A `Publisher` that sends nothing, and acknowledges each verdict for which `acknowledge` says so, or
    refuses it if `refuse` does.
    """

    def __init__(
        self,
        *,
        acknowledge: Callable[[Verdict], bool] = lambda verdict: True,
        refuse: Callable[[Verdict], bool] = lambda verdict: False,
        start_error: BrokerError | None = None,
    ) -> None:
        self._acknowledge = acknowledge
        self._refuse = refuse
        self._start_error = start_error
        self.verdicts: list[Verdict] = []
        self.pictures: list[tuple[Picture, PictureInfo]] = []
        self.healths: list[Health] = []
        self.machine_states: list[MachineState] = []
        self.deliveries: Deliveries | None = None
        self.closed = False

    def start(self, deliveries: Deliveries) -> None:
        if self._start_error is not None:
            raise self._start_error
        self.deliveries = deliveries

    def publish_verdict(self, verdict: StoredVerdict, *, newest: bool) -> None:
        published = Verdict.model_validate_json(verdict.payload)
        self.verdicts.append(published)
        if self.deliveries is None:
            return
        if self._refuse(published):
            self.deliveries.delivered(verdict.position, "not authorised")
        elif self._acknowledge(published):
            self.deliveries.delivered(verdict.position, None)

    def publish_picture(self, picture: Picture, info: PictureInfo) -> None:
        self.pictures.append((picture, info))

    def publish_health(self, health: Health) -> None:
        self.healths.append(health)

    def publish_machine_state(self, state: MachineState) -> None:
        self.machine_states.append(state)

    def health(self) -> BrokerHealth:
        return BrokerHealth(
            protocol="5",
            reconnects=0,
            verdicts_pending=0,
            verdicts_refused=0,
            pictures_pending=0,
            pictures_dropped=0,
            pictures_connected=True,
            last_error=None,
        )

    def close(self, timeout_s: float = 5.0) -> None:
        self.closed = True
