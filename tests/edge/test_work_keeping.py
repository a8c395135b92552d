"""A verdict that could not be kept is owed, and kept once it can be: once."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.clock import utc_now
from edge.errors import OutboxFull
from edge.messages import Verdict
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_records import StoredVerdict, TriggerInHand
from edge.reject import Rejector, State
from edge.testing import sample_verdict
from edge.work.keeping import Keeping


class Refusing(Outbox):
    """Raises as often as it is told to; `before` it has written, or only afterwards."""

    refusals = 0
    before = True

    def finish(self, trigger_id: str, verdict: Verdict) -> StoredVerdict:
        refuses, self.refusals = self.refusals > 0, max(0, self.refusals - 1)
        if refuses and self.before:
            raise OutboxFull("no room")
        stored = super().finish(trigger_id, verdict)
        if refuses:
            raise OutboxFull("no room, it seems")
        return stored


@pytest.mark.parametrize("before", [True, False])
def test_what_is_owed_is_kept_once_and_the_output_leaves_its_safe_state(tmp_path: Path, before: bool) -> None:
    with Refusing(tmp_path, OutboxConfig()) as outbox, Rejector("none", None, no_decision=True) as rejector:
        keeping = Keeping(outbox, rejector)
        keeping.at_work()
        verdict = sample_verdict()
        keeping.begin(TriggerInHand(verdict.result_id, "command", utc_now(), None, verdict.epoch))
        outbox.refusals, outbox.before = 1, before
        with pytest.raises(OutboxFull) as caught:
            keeping.keep(verdict.result_id, verdict)
        keeping.not_kept(verdict.result_id, verdict, caught.value)
        assert rejector.status.state is State.SAFE
        assert keeping.tend()
        assert rejector.status.state is State.READY
        assert not keeping.tend()  # nothing is owed any more
        assert outbox.in_hand() == ()
        assert [queued.verdict.result_id for queued in outbox.unacknowledged(10)] == [verdict.result_id]
