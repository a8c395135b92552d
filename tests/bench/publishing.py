"""What telling of a part costs beside inspecting it: bytes on the wire, and processor time.

A real broker, and the daemon's own publisher. Its connections' threads work in this process, so their time is
in the figures; the broker's is not.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from edge.broker import LocalBroker
from edge.bundle import Bundle
from edge.clock import new_session, utc_now
from edge.config import BrokerConfig, PicturesConfig
from edge.frame import Frame
from edge.inspection import Inspection
from edge.inspector import Inspector
from edge.messages import Verdict
from edge.mqtt import MqttPublisher
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.pictures import pictures_of
from edge.publisher import picture_info
from edge.runtime import Runner
from edge.testing import CuttableProxy
from edge.topics import RigIdentity
from edge.verdict import Circumstances, Provenance, verdict_from_inspection
from tests.bench.timing import Interval, in_turn, ratio_of

__all__ = ["PublishingTimes", "publishing_times"]

_PARTS = 10
"""Of one turn of what is short."""

_PATIENCE_S = 60.0
_LOOK_S = 0.002
_QUIET_S = 0.5
_RIG = RigIdentity(enterprise="bench", site="here", area="desk", line="bench", cell="bench")


class PublishingTimes(BaseModel):
    """A verdict and the default pictures (heatmap, photo and map, of the frame's size) over MQTT.

    `payload_bytes`: what each is; `wire_bytes_per_part`: all that goes to the broker over TCP for one part,
    also the verdict a second time as the rig's last one, and each picture's JSON. The ratios are of processor
    time, of all threads, over that of the inspection: of encoding the pictures, of the verdict (made, its
    commit to the outbox, sent and acknowledged), of sending the pictures, and of all three.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    payload_bytes: dict[str, int]
    wire_bytes_per_part: int
    encoding_to_inspection: Interval
    verdict_to_inspection: Interval
    sending_to_inspection: Interval
    telling_to_inspection: Interval


def publishing_times(bundle: Bundle, runner: Runner, frame: Frame, *, rounds: int) -> PublishingTimes:
    """Measure it with this bundle and frame: bytes through a relay that counts, then times without it."""
    inspector = Inspector(bundle, runner)
    inspection = inspector.inspect(frame)
    with tempfile.TemporaryDirectory() as folder, LocalBroker() as broker:
        with CuttableProxy(broker.port) as counted, _Teller(inspection, counted.port, Path(folder)) as teller:
            teller.tell()
            before = _settled(counted)
            for _ in range(_PARTS):
                teller.tell()
            wire_bytes = (_settled(counted) - before) // _PARTS
            sizes = teller.payload_bytes()
        with _Teller(inspection, broker.port, Path(folder)) as teller:
            works: Mapping[str, Callable[[], object]] = {
                "inspection": lambda: inspector.inspect(frame),
                "encoding": teller.encode,
                "verdict": teller.tell_verdict,
                "sending": teller.send_pictures,
            }
            parts = {name: 1 if name == "inspection" else _PARTS for name in works}
            turns = {name: _so_often(work, parts[name]) for name, work in works.items()}
            took = in_turn(turns, rounds=rounds, burst=1, clock_ns=time.process_time_ns)
            times = {name: took[name] / parts[name] for name in works}
    telling = times["encoding"] + times["verdict"] + times["sending"]
    return PublishingTimes(
        payload_bytes=sizes,
        wire_bytes_per_part=wire_bytes,
        encoding_to_inspection=ratio_of(times["encoding"], times["inspection"]),
        verdict_to_inspection=ratio_of(times["verdict"], times["inspection"]),
        sending_to_inspection=ratio_of(times["sending"], times["inspection"]),
        telling_to_inspection=ratio_of(telling, times["inspection"]),
    )


def _settled(counted: CuttableProxy) -> int:
    """How many bytes have gone through once no more come."""
    before = -1
    while before != counted.sent_bytes:
        before = counted.sent_bytes
        time.sleep(_QUIET_S)
    return before


def _so_often(work: Callable[[], object], parts: int) -> Callable[[], None]:
    def turn() -> None:
        for _ in range(parts):
            work()

    return turn


class _Teller:
    """Does for one inspection, again and again, what the daemon's publishing thread does."""

    def __init__(self, inspection: Inspection, port: int, folder: Path) -> None:
        self._inspection = inspection
        self._numbers = itertools.count()
        self._session = new_session(None)
        self._outbox = Outbox(folder / "outbox", OutboxConfig())
        self._publisher = MqttPublisher(BrokerConfig(port=port), _RIG, self._session)
        self._acknowledged = threading.Event()
        self._verdict = self._next_verdict()
        self._pictures = pictures_of(inspection, PicturesConfig())

    def __enter__(self) -> _Teller:
        self._publisher.start(self)
        self._wait_for_pictures()
        return self

    def __exit__(self, *_: object) -> None:
        self._publisher.close()
        self._outbox.close()

    # what the publisher tells

    def delivered(self, position: int, refusal: str | None) -> None:
        if refusal is not None:
            raise RuntimeError(f"the bench's own broker refused verdict {position}: {refusal}")
        self._acknowledged.set()

    def forgotten(self) -> None:
        """A new broker knows nobody."""

    def returned(self) -> None:
        """Nothing is lost here."""

    # the works

    def encode(self) -> None:
        self._pictures = pictures_of(self._inspection, PicturesConfig())

    def tell_verdict(self) -> None:
        self._verdict = self._next_verdict()
        self._acknowledged.clear()
        self._publisher.publish_verdict(self._outbox.commit(self._verdict), newest=True)
        if not self._acknowledged.wait(_PATIENCE_S):
            raise RuntimeError(f"no acknowledgement in {_PATIENCE_S:g} s")
        self._outbox.acknowledge(self._outbox.unacknowledged(1))

    def send_pictures(self) -> None:
        for picture in self._pictures:
            self._publisher.publish_picture(picture, picture_info(picture, self._verdict))
        self._wait_for_pictures()

    def tell(self) -> None:
        self.encode()
        self.tell_verdict()
        self.send_pictures()

    def payload_bytes(self) -> dict[str, int]:
        sizes = {picture.kind.value: len(picture.data) for picture in self._pictures}
        return {"verdict": len(self._verdict.to_json()), **sizes}

    def _wait_for_pictures(self) -> None:
        """Until all have left, or may leave."""
        until_s = time.monotonic() + _PATIENCE_S
        while (health := self._publisher.health()).pictures_pending or not health.pictures_connected:
            if time.monotonic() > until_s:
                raise RuntimeError(f"pictures wait for more than {_PATIENCE_S:g} s")
            time.sleep(_LOOK_S)

    def _next_verdict(self) -> Verdict:
        now = utc_now()
        return verdict_from_inspection(
            self._inspection,
            Circumstances(
                provenance=Provenance(
                    session=self._session,
                    product="bench",
                    method="msd",
                    model_sha256="0" * 64,
                    calibration_id=None,
                    threshold_provisional=False,
                    job_id=None,
                    is_simulated=True,
                ),
                camera_serial="bench",
                seq=next(self._numbers),
                start=now,
                end=now,
                acquisition_ms=1.0,
                latency_ms=1.0,
                clock_synced=True,
            ),
        )
