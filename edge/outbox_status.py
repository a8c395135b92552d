"""How an outbox is, looked at once."""

from __future__ import annotations

from pathlib import Path

from edge.outbox_database import Database
from edge.outbox_pictures import PictureStore
from edge.outbox_records import OutboxStatus, alarms_of
from edge.outbox_rows import count_waiting
from edge.outbox_space import free_bytes

__all__ = ["look"]


def look(
    folder: Path, database: Database, pictures: PictureStore, held_bytes: int, wanted_bytes: int
) -> OutboxStatus:
    """What is in it and what its folder's disk has; of the ballast so much is held, and so much wanted."""
    aside = tuple(sorted(path.name for path in folder.glob("outbox.damaged-*.db")))
    free = free_bytes(folder)
    number = database.number
    return OutboxStatus(
        unacknowledged=database.ask(count_waiting),
        triggers_in_hand=number("SELECT count(*) FROM trigger_in_hand"),
        verdict_bytes=database.used_bytes(),
        pictures=pictures.count,
        picture_bytes=pictures.size_bytes,
        pictures_evicted=pictures.evicted,
        pictures_refused=pictures.refused,
        ballast_bytes=held_bytes,
        disk_free_bytes=free,
        set_aside=aside,
        alarms=alarms_of(folder, aside, held_bytes, wanted_bytes, free),
    )
