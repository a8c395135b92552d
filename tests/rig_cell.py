"""A rig at work over a real broker, somebody who tells it what to do, and all that is heard of both."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from edge.broker import LocalBroker
from edge.config import load_rig_config
from edge.daemon import Daemon, RunSummary
from edge.rig import run_rig
from edge.testing import Heard, Listener
from edge.topics import Topics
from tests.asker import Asker

__all__ = ["RESP", "TIMEOUT_S", "TOPICS", "Cell", "at_work", "write_rig"]

TOPICS = Topics("acme/d/a/l/c/inspection")
RESP = TOPICS.response("hmi")
TIMEOUT_S = 300.0


def write_rig(folder: Path, port: int, **sections: object) -> Path:
    recipes = {
        "plate": {"bundle": "plate"},
        "gland": {"bundle": "gland", "trigger": {"kind": "command", "timeout_s": 60}},
        "nut": {"bundle": "nut"},
    }
    data = {
        "rig": {"enterprise": "acme", "site": "d", "area": "a", "line": "l", "cell": "c"},
        "camera": {"source": "simulated", "product": "plate", "interval_s": 0.2},
        "runtime": {"backend": "onnx", "threads": 1},
        "broker": {"port": port},
        "pictures": {"heatmap": False, "image": False, "map": False},
        "daemon": {"state_dir": "state", "max_frame_age_s": 60},
        "recipes": recipes,
        "recipe": "plate",
    }
    (folder / "rig.yaml").write_text(yaml.safe_dump(data | sections), encoding="utf-8")
    return folder / "rig.yaml"


class Cell:
    """A rig at work, somebody who tells it what to do, and all that is heard of both."""

    def __init__(self, listener: Listener, asker: Asker) -> None:
        self.listener = listener
        self._asker = asker

    def ask(self, command: str, **fields: object) -> Any:
        """The answer to a command."""
        number = self.say(command, **fields)
        return self.wait("resp/hmi", lambda heard: heard["request_id"] == number)

    def say(self, command: str, **fields: object) -> str:
        """Give a command, wait for nothing but the broker; gives its request_id."""
        number = str(uuid.uuid4())
        said = {"request_id": number, "issued_by": "hmi", "reply_to": RESP} | fields
        self._asker.ask(f"{TOPICS.root}/cmd/{command}", said)
        return number

    def wait(self, ending: str, wanted: Callable[[Any], bool]) -> Any:
        """The first message like that."""

        def found(heard: list[Heard]) -> list[Any]:
            return [data for data in (message.json() for message in heard) if wanted(data)]

        return found(self.listener.wait_for(ending, lambda heard: bool(found(heard)), TIMEOUT_S))[0]


@contextmanager
def at_work(broker: LocalBroker, path: Path) -> Iterator[Cell]:
    daemons: Future[Daemon] = Future()
    with ThreadPoolExecutor(1) as pool, Listener(broker.host, broker.port) as listener:
        ended: Future[RunSummary] = pool.submit(
            run_rig, load_rig_config(path), path=path, on_ready=daemons.set_result
        )
        asker = Asker(broker)
        try:
            cell = Cell(listener, asker)
            cell.wait("state/machine", lambda state: state["state"] in ("ContinuousExecution", "Ready"))
            cell.wait("state/recipe", lambda state: True)
            yield cell
        finally:
            asker.close()
            if not ended.done():
                daemons.result(TIMEOUT_S).stop()
        assert ended.result(TIMEOUT_S).delivery.error() is None
