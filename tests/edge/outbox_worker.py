"""What a daemon does with its outbox, in a process of its own that is killed in the midst of it."""

from __future__ import annotations

import itertools
from multiprocessing.connection import Connection
from pathlib import Path

from edge.clock import utc_now
from edge.messages import Verdict
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_records import TriggerInHand
from edge.testing import sample_verdict

SETTINGS = OutboxConfig(keep_free_mb=0)


def numbered(epoch: int, seq: int) -> Verdict:
    return sample_verdict(seq, regions=seq % 3).model_copy(
        update={"epoch": epoch, "result_id": f"{epoch}-{seq}"}
    )


def work(folder: Path, epoch: int, told: Connection) -> None:
    """Take triggers and finish them until killed; say what the outbox has promised, once it has."""
    with Outbox(folder, SETTINGS) as outbox:
        seq = 0
        for trigger in outbox.in_hand():  # of the one before
            outbox.finish(trigger.trigger_id, numbered(epoch, seq))
            told.send(("inherited", trigger.trigger_id, f"{epoch}-{seq}"))
            seq += 1
        told.send(("open", "", ""))
        while True:
            outbox.begin(TriggerInHand(f"t{epoch}-{seq}", "command", utc_now(), None, epoch))
            told.send(("begun", f"t{epoch}-{seq}", ""))
            outbox.finish(f"t{epoch}-{seq}", numbered(epoch, seq))
            told.send(("finished", f"t{epoch}-{seq}", f"{epoch}-{seq}"))
            seq += 1
            if seq % 4 == 0:
                sent = outbox.unacknowledged(3)
                outbox.acknowledge(sent)
                for each in sent:
                    told.send(("acknowledged", "", each.verdict.result_id))


def write(folder: Path, told: Connection, durable: bool) -> None:
    """Commit verdicts until the power fails; say which are on disk. Without `durable` that is not true."""
    with Outbox(folder, SETTINGS) as outbox:
        if not durable:
            database = outbox._database
            change = database.change
            database.read("PRAGMA wal_autocheckpoint = 0")  # it syncs
            object.__setattr__(database, "change", lambda what, *, durable: change(what, durable=False))
        for seq in itertools.count():
            told.send(outbox.commit(numbered(0, seq)).result_id)
