"""A rig that lives until it is killed: `python -m tests.edge.sparkplug.sparkplug_worker PORT FOLDER`."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import Future
from pathlib import Path

from edge.config import BrokerConfig
from edge.order_messages import Answer
from edge.sparkplug.config import SparkplugConfig
from edge.sparkplug.node import SparkplugNode
from tests.edge.sparkplug.scada import RIG


def nobody(command: str, payload: bytes) -> Future[Answer]:
    raise AssertionError(command)


if __name__ == "__main__":
    broker = BrokerConfig(port=int(sys.argv[1]))
    node = SparkplugNode(SparkplugConfig(), broker, RIG, Path(sys.argv[2]))
    node.start(nobody)
    threading.Event().wait()
