"""A publisher that keeps what it was given."""

from __future__ import annotations

from collections.abc import Callable

from edge.errors import BrokerError
from edge.messages import BrokerHealth, Health, MachineState, Verdict
from edge.publisher import FlushReport, Picture

__all__ = ["RecordingPublisher"]


class RecordingPublisher:
    """A `Publisher` that acknowledges each verdict for which `acknowledge` says so, and sends nothing."""

    def __init__(
        self,
        *,
        acknowledge: Callable[[Verdict], bool] = lambda verdict: True,
        start_error: BrokerError | None = None,
    ) -> None:
        self._acknowledge = acknowledge
        self._start_error = start_error
        self.verdicts: list[Verdict] = []
        self.pictures: list[tuple[Picture, Verdict]] = []
        self.healths: list[Health] = []
        self.machine_states: list[MachineState] = []
        self.closed = False

    def start(self) -> None:
        if self._start_error is not None:
            raise self._start_error

    def publish_verdict(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)

    def publish_picture(self, picture: Picture, verdict: Verdict) -> None:
        self.pictures.append((picture, verdict))

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
            verdicts_dropped=0,
            pictures_pending=0,
            pictures_dropped=0,
            pictures_connected=True,
            last_error=None,
        )

    def flush(self, timeout_s: float) -> FlushReport:
        pending = tuple(v.result_id for v in self.verdicts if not self._acknowledge(v))
        return FlushReport(
            acknowledged=len(self.verdicts) - len(pending), lost=0, reasons=(), pending=pending
        )

    def close(self, timeout_s: float = 5.0) -> None:
        self.closed = True
