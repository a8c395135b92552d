"""One run of the demo: start broker, subscriber and daemon, watch, and see that they end."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge.broker import BrokerKind, LocalBroker, free_port
from edge.camera.truth import read_truth_mask
from edge.demo.child_daemon import ChildDaemon
from edge.demo.gathering import Evidence, Gathering, PartResult
from edge.demo.rig import DemoRig
from edge.demo.sheet import Tile, contact_sheet, draw_evidence
from edge.demo.summary import PartLine, Summary, count, delivered_once, latencies_ms
from edge.errors import BrokerUnreachable, EdgeError
from edge.sealed import write_atomically
from edge.testing.listener import Heard, Listener

__all__ = ["DaemonFailure", "Demo", "Watcher"]

_SILENCE_S = 120.0
"""A daemon that works says at least how it feels every five seconds, and a verdict now and then."""
_LATE_PICTURES_S = 3.0
_SLICE_S = 0.1


@dataclass(frozen=True, slots=True)
class DaemonFailure:
    """The daemon ended by itself, with an error: its exit code, and the end of its log."""

    exit_code: int
    log_tail: str


class Watcher(Protocol):
    """Shows what happens."""

    def started(self, broker: str, address: str, page: str) -> None:
        """The broker runs, and the daemon is starting, which will serve its page at that address."""

    def verdict(self, result: PartResult) -> None:
        """A verdict was received."""


class Demo:
    """One run; `run` may be called once, `stop` from a signal handler.

    `show_page` is given the address of the daemon's page once there is something to see on it.
    """

    def __init__(
        self,
        rig: DemoRig,
        watcher: Watcher,
        broker: BrokerKind = "auto",
        *,
        show_page: Callable[[str], object] = lambda page: None,
    ) -> None:
        self._show_page = show_page
        self._page = ""
        self._rig = rig
        self._watcher = watcher
        self._broker_kind = broker
        self._heard: queue.SimpleQueue[tuple[Heard, int]] = queue.SimpleQueue()
        self._gathering = Gathering(rig.truth)
        self._tiles: dict[str, Tile] = {}
        self._overlays: dict[str, str] = {}
        self._stopping = False
        self._first_s: float | None = None

    def stop(self) -> None:
        """End the daemon after the part in hand; `run` then returns what came so far."""
        self._stopping = True

    def run(self) -> Summary | DaemonFailure:
        """Inspect all parts, or until `stop`.

        Raises `BrokerError` where there is no broker, or the daemon falls silent; `EdgeError` where the
        pictures can't be written.
        """
        started_s = time.monotonic()
        with LocalBroker(self._broker_kind) as broker:
            # 3.1.1 is what each broker speaks; the daemon speaks MQTT 5 where it can.
            with Listener(
                broker.host,
                broker.port,
                topics=self._rig.topics,
                five=False,
                on_message=lambda heard: self._heard.put((heard, time.monotonic_ns())),
                keep=False,
            ):
                page_port = free_port()
                config = self._rig.write_yaml(broker.host, broker.port, page_port)
                self._page = f"http://127.0.0.1:{page_port}/"
                self._watcher.started(broker.kind, f"{broker.host}:{broker.port}", self._page)
                with ChildDaemon(config) as daemon:
                    exit_code = self._watch(daemon, started_s)
                    if exit_code != 0:
                        return DaemonFailure(exit_code, daemon.log_tail())
                    made = daemon.verdicts()
                    self._catch_up(made)
            return self._summary(broker, started_s, made)

    def _watch(self, daemon: ChildDaemon, started_s: float) -> int:
        """Take what comes until the daemon has ended; gives its exit code."""
        heard_s, asked_to_stop = time.monotonic(), False
        while (exit_code := daemon.exit_code) is None:
            if self._stopping and not asked_to_stop:
                daemon.stop()
                asked_to_stop = True
            before = len(self._gathering.results)
            self._take_next(_SLICE_S)
            if len(self._gathering.results) > before:
                heard_s = time.monotonic()
                if self._first_s is None:
                    self._first_s = heard_s - started_s
                    self._show_page(self._page)
            if time.monotonic() - heard_s > _SILENCE_S:
                raise BrokerUnreachable(
                    f"no verdict for {_SILENCE_S:g} s after {len(self._gathering.results)}; the daemon's log "
                    f"ends with: {daemon.log_tail()}"
                )
        return exit_code

    def _catch_up(self, made: int | None) -> None:
        """What is still on its way: the broker has it all, for the daemon waited for acknowledgements."""
        quiet_since_s = time.monotonic()
        while time.monotonic() - quiet_since_s < _LATE_PICTURES_S:
            if self._take_next(_SLICE_S):
                quiet_since_s = time.monotonic()
            elif len(self._gathering.results) == made and not self._gathering.without_pictures:
                return

    def _take_next(self, timeout_s: float) -> bool:
        """Take one message, if one comes in time; says whether one did."""
        try:
            heard, received_ns = self._heard.get(timeout=timeout_s)
        except queue.Empty:
            return False
        taken = self._gathering.take(heard, received_ns)
        if isinstance(taken, PartResult):
            self._watcher.verdict(taken)
            taken = self._gathering.complete(taken.verdict.result_id)
        if isinstance(taken, Evidence):
            self._keep(taken)
        return True

    def _keep(self, evidence: Evidence) -> None:
        result = evidence.result
        mask = read_truth_mask(self._rig.truth, result.truth) if result.truth else None
        overlay, tile = draw_evidence(evidence, mask)
        name = f"overlays/{result.part_id}.{result.truth_text}.{result.verdict.outcome.value}.jpg"
        self._write(name, overlay)
        self._tiles[result.verdict.result_id] = tile
        self._overlays[result.verdict.result_id] = name

    def _write(self, name: str, data: bytes) -> Path:
        path = self._rig.folder / name
        try:
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, data)
        except OSError as error:
            raise EdgeError(f"{path}: can't be written ({error.strerror}); free some space") from error
        return path

    def _summary(self, broker: LocalBroker, started_s: float, made: int | None) -> Summary:
        results, rig = self._gathering.results, self._rig
        median_ms, largest_ms = latencies_ms(results)
        sheet = (
            self._write("contact-sheet.png", contact_sheet(list(self._tiles.values())))
            if self._tiles
            else None
        )
        summary = Summary(
            **dict(count(results)),
            product=rig.bundle.product,
            seed=rig.seed,
            train_seed=rig.train_seed,
            model_sha256=rig.bundle.model_sha256,
            broker=broker.kind,
            interrupted=self._stopping,
            parts=rig.parts,
            verdicts=len(results),
            duplicates=self._gathering.duplicates,
            heatmaps=sum(r.verdict.score is not None and r.verdict.result_id in self._tiles for r in results),
            delivered_once=delivered_once(
                results, self._gathering.duplicates, made=made, shown=None if self._stopping else rig.parts
            ),
            latency_p50_ms=median_ms,
            latency_max_ms=largest_ms,
            seconds_to_first_verdict=self._first_s,
            seconds=time.monotonic() - started_s,
            folder=rig.folder,
            contact_sheet=sheet,
            lines=tuple(self._line(result) for result in results),
        )
        self._write("summary.json", (summary.model_dump_json(indent=2) + "\n").encode())
        return summary

    def _line(self, result: PartResult) -> PartLine:
        verdict = result.verdict
        return PartLine(
            part_id=result.part_id,
            truth=result.truth_text,
            outcome=verdict.outcome,
            reason=verdict.reason,
            score=verdict.score,
            threshold=verdict.threshold,
            latency_ms=result.latency_ms,
            agrees=result.agrees,
            overlay=self._overlays.get(verdict.result_id),
        )
