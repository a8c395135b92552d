"""The outbox under SIGKILL, at moments that nobody chose: one trigger, one verdict, none lost, none twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from edge.outbox import Outbox
from edge.outbox_ledger import Ledger
from tests.edge.outbox_worker import SETTINGS, numbered, work

KILLS = 52
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.edge.outbox_worker"])


def everything_said(heard: Connection) -> list[tuple[str, str, str]]:
    """Up to where the kill cut it off."""
    said = []
    while True:
        try:
            said.append(heard.recv())
        except (EOFError, ConnectionError):
            return said


@pytest.mark.slow
def test_one_trigger_one_verdict_over_kills(tmp_path: Path) -> None:
    chosen = random.Random(20)
    said: list[tuple[str, str, str]] = []
    opened = 0
    for epoch in range(KILLS):
        heard, told = FORKS.Pipe(duplex=False)
        worker = FORKS.Process(target=work, args=(tmp_path, epoch, told))
        worker.start()
        told.close()
        pid = worker.pid
        assert pid is not None
        new = []
        if chosen.random() < 0.8:  # the others die while they open it, or clear up after the one before
            new += [heard.recv() for _ in range(chosen.randrange(1, 12))]
        time.sleep(chosen.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        worker.join()
        assert worker.exitcode == -signal.SIGKILL
        new += everything_said(heard)
        heard.close()
        opened += any(what == "open" for what, _, _ in new)
        said += new

    begun = {trigger for what, trigger, _ in said if what == "begun"}
    finished = {trigger: result for what, trigger, result in said if what in ("finished", "inherited")}
    with Outbox(tmp_path, SETTINGS) as outbox:
        assert outbox.status.set_aside == ()
        interrupted = {trigger.trigger_id for trigger in outbox.in_hand()}
        for seq, trigger in enumerate(sorted(interrupted)):
            outbox.finish(trigger, numbered(KILLS, seq))
        with Ledger(tmp_path) as ledger:
            kept = ledger.after(0, 1_000_000)
        waiting = {each.verdict.result_id for each in outbox.unacknowledged(1_000_000)}
    of_trigger = {each.trigger_id: each.result_id for each in kept}
    assert len(of_trigger) == len(kept)  # no trigger has two
    assert begun <= of_trigger.keys()  # each has one
    assert finished.items() <= of_trigger.items()  # and the one that was promised
    assert [json.loads(each.payload)["result_id"] for each in kept] == [each.result_id for each in kept]
    acknowledged = {result for what, _, result in said if what == "acknowledged"}
    assert not acknowledged & waiting
    # The kills came where they could do harm, or this shows nothing.
    assert opened > KILLS / 3
    assert len(begun) > KILLS
    assert sum(what == "inherited" for what, _, _ in said) > 3
