"""`python -m tests.endurance.subscriber PORT TOPIC FILE`: whoever counts what a rig has said, and for good.

A process of its own, over paho and nothing of ours, with a session that the broker keeps: a verdict is
acknowledged only after its line is on the disk. FILE gets one line of JSON per message, also for one that
comes again; `sha256` is that of its payload.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

_SESSION_S = 86_400
_FIELDS = ("result_id", "part_id", "epoch", "seq", "outcome", "reason")


def _main(port: int, topic: str, file: Path) -> None:
    client = paho.Client(
        CallbackAPIVersion.VERSION2, "the-mes", protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
    )
    client.reconnect_delay_set(1, 1)
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it bare
    properties.SessionExpiryInterval = _SESSION_S
    with file.open("ab", buffering=0) as lines:

        def on_message(_client: paho.Client, _user: Any, message: paho.MQTTMessage) -> None:
            said = json.loads(message.payload)
            line = {name: said[name] for name in _FIELDS}
            line["sha256"] = hashlib.sha256(message.payload).hexdigest()
            lines.write(json.dumps(line).encode() + b"\n")
            os.fsync(lines.fileno())
            client.ack(message.mid, message.qos)

        client.on_connect = lambda *_: client.subscribe(topic, qos=1)
        client.on_message = on_message
        client.connect("127.0.0.1", port, keepalive=5, clean_start=False, properties=properties)
        client.loop_forever()


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
