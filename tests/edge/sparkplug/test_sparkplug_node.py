"""The rig as an edge node, over a real broker: the rules of Sparkplug 3.0 that a host relies on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge.broker import LocalBroker, find_mosquitto
from edge.clock import utc_now
from edge.config import BrokerConfig
from edge.messages import MachineState, MachineStateName
from edge.order_messages import Answer, RecipeState
from edge.sparkplug.commands import metrics_for
from edge.sparkplug.config import SparkplugConfig
from edge.sparkplug.node import SparkplugNode
from edge.testing import CuttableProxy, sample_verdict
from tests.edge.sparkplug.scada import NCMD, RIG, Scada, Told, foreign, running_recipe

pytestmark = pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)


class Desk:
    """Where a host's commands end: each is noted, and answered."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, object]]] = []

    def ask(self, command: str, payload: bytes) -> Future[Answer]:
        order = json.loads(payload)
        self.asked.append((command, order))
        future: Future[Answer] = Future()
        refused = order.get("part_serial") == "bad"
        future.set_result(
            Answer(
                command=command,
                request_id=order["request_id"],
                issued_by=order["issued_by"],
                status="refused" if refused else "accepted",
                reason="not_by_command" if refused else None,
                detail="set kind: command" if refused else None,
                result_id=None if refused else "r-1",
                recipe=None,
                applied=(),
                needs_restart=(),
                creation_time=utc_now(),
                epoch=1,
                boot_id="boot",
            )
        )
        return future


@contextmanager
def rig(
    broker: BrokerConfig, state_dir: Path | None = None, desk: Desk | None = None, **options: object
) -> Iterator[SparkplugNode]:
    config = SparkplugConfig.model_validate(options)
    offered = () if desk is None else metrics_for(triggerable=True, several_recipes=True)
    node = SparkplugNode(config, broker, RIG, state_dir, offered)
    with node.attached((desk or Desk()).ask):
        yield node


@pytest.fixture
def broker() -> Iterator[LocalBroker]:
    with LocalBroker("mosquitto") as running:
        yield running


@pytest.fixture
def scada(broker: LocalBroker) -> Iterator[Scada]:
    with Scada(broker) as host:
        yield host


def kinds(said: list[Told]) -> list[str]:
    return [each.kind for each in said]


def ended(said: list[Told]) -> int:
    """How many births have had their death."""
    return sum((one, other) == ("NBIRTH", "NDEATH") for one, other in pairwise(kinds(said)))


def results(said: list[Told]) -> list[tuple[str, bool]]:
    """The verdicts' numbers, and whether they were told as history."""
    return [
        (each.values["Inspection/Sequence"], each.historical)
        for each in said
        if "Inspection/Sequence" in each.values
    ]


@pytest.mark.parametrize("protocol", ["auto", "5", "3.1.1"])
def test_birth_data_and_death(broker: LocalBroker, scada: Scada, tmp_path: Path, protocol: str) -> None:
    config = broker.client_config().model_copy(update={"protocol": protocol})
    with rig(config, tmp_path) as node:
        scada.wait_for("NBIRTH")
        for number in range(300):
            node.on_verdict(sample_verdict(number, regions=number % 3))
        scada.wait_for("NDATA", 300)
    said = scada.wait(lambda told: told[-1].kind == "NDEATH")
    assert kinds(said) == ["NBIRTH", *["NDATA"] * 300, "NDEATH"]
    birth, *data, death = said
    # Section 5.4: QoS and retain; 6.4.x: seq from 0, wrapping after 255, none in a death.
    assert {(each.message.qos, each.message.retained) for each in (birth, *data)} == {(0, False)}
    assert (death.message.qos, death.message.retained) == (1, False)
    assert [each.seq for each in (birth, *data)] == [number % 256 for number in range(301)]
    assert (death.seq, death.values) == (None, {"bdSeq": birth.values["bdSeq"]})
    assert birth.values["bdSeq"] == 0
    assert birth.values["Node Control/Rebirth"] is False
    assert all(each.aliases_only for each in data)
    assert results(data) == [(number, False) for number in range(300)]
    assert data[1].values["Inspection/Outcome"] == "fail"
    assert data[1].values["Inspection/Pass"] is False
    assert data[2].values["Inspection/Defect Count"] == 2


def test_another_implementation_reads_the_same(broker: LocalBroker, scada: Scada) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("the other implementation needs Python 3.11")
    verdict = sample_verdict(7, regions=2).model_copy(update={"part_id": "Gehäuse 4", "score": None})
    with rig(broker.client_config()) as node:
        scada.wait_for("NBIRTH")
        node.on_verdict(verdict)
        scada.wait_for("NDATA")
    said = scada.wait(lambda told: told[-1].kind == "NDEATH")
    birth, data, death = foreign([each.message.payload for each in said])
    created_ms = int(verdict.creation_time.timestamp() * 1000)

    metrics = {metric["name"]: metric for metric in birth["metrics"]}
    assert len(metrics) == len(birth["metrics"])
    assert (birth["seq"], metrics["bdSeq"]["value"], metrics["bdSeq"]["datatype"]) == (0, 0, 4)
    # 5.12: neither may have an alias that a host would have to know before it can ask for a birth.
    assert metrics["bdSeq"]["alias"] is metrics["Node Control/Rebirth"]["alias"] is None
    aliases = [metric["alias"] for metric in birth["metrics"][2:]]
    assert sorted(aliases) == list(range(1, len(aliases) + 1))
    assert all(metric["datatype"] in (4, 10, 11, 12) for metric in birth["metrics"])
    assert metrics["Inspection/Latency"]["properties"] == {"engUnit": "ms", "readOnly": True}
    assert metrics["Inspection/Score"]["kind"] == "null"

    names = {metric["alias"]: name for name, metric in metrics.items()}
    found = {names[metric["alias"]]: metric for metric in data["metrics"]}
    assert {metric["timestamp"] for metric in data["metrics"]} == {created_ms}
    assert found["Inspection/Part ID"]["value"] == "Gehäuse 4"
    assert found["Inspection/Score"]["kind"] == "null"
    assert (found["Inspection/Threshold"]["kind"], found["Inspection/Threshold"]["value"]) == (
        "double_value",
        1.0,
    )
    assert (found["Inspection/Defect Count"]["kind"], found["Inspection/Defect Count"]["value"]) == (
        "long_value",
        2,
    )
    assert [metric["name"] for metric in death["metrics"]] == ["bdSeq"]
    assert death["seq"] is None


def test_the_state_is_told_by_the_birth_and_when_it_changes(broker: LocalBroker, scada: Scada) -> None:
    state = MachineState(
        state=MachineStateName.ERROR,
        reason="camera_lost",
        detail="plug it in",
        creation_time=utc_now(),
        epoch=1,
        boot_id="boot",
    )
    node = SparkplugNode(SparkplugConfig(), broker.client_config(), RIG, None)
    node.on_machine_state(state)  # before the birth: the birth tells it
    with node.attached(Desk().ask):
        first = scada.wait_for("NBIRTH")[0]
        node.on_machine_state(state.model_copy(update={"reason": None, "state": MachineStateName.READY}))
        data = scada.wait_for("NDATA")[0]
    assert first.values["Machine/Reason"] == "camera_lost"
    assert (data.values["Machine/State"], data.values["Machine/Reason"]) == ("Ready", None)


def test_a_rebirth_is_all_anew_with_the_same_bdseq(broker: LocalBroker, scada: Scada) -> None:
    with rig(broker.client_config()) as node:
        scada.wait_for("NBIRTH")
        node.on_verdict(sample_verdict(1))
        node.on_verdict(sample_verdict(2))
        scada.wait_for("NDATA", 2)
        scada.write(Node_Control__Rebirth=False)
        scada.write(Node_Control__Rebirth=True, retain=False)
        scada.wait_for("NBIRTH", 2)
        node.on_verdict(sample_verdict(3))
        scada.wait_for("NDATA", 3)
    said = scada.wait(lambda told: told[-1].kind == "NDEATH")
    assert [(each.kind, each.seq) for each in said[:-1]] == [
        ("NBIRTH", 0),
        ("NDATA", 1),
        ("NDATA", 2),
        ("NBIRTH", 0),
        ("NDATA", 1),
    ]
    assert {each.values["bdSeq"] for each in said if each.kind != "NDATA"} == {0}
    assert said[3].values["Inspection/Sequence"] == 2


def test_killed_it_dies_by_its_will_and_is_born_with_the_next_bdseq(
    broker: LocalBroker, scada: Scada, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.edge.sparkplug.sparkplug_worker", str(broker.port), str(tmp_path)]
    for life in range(2):
        with subprocess.Popen(command) as process:
            try:
                birth = scada.wait_for("NBIRTH", life + 1)[-1]
            finally:
                process.send_signal(signal.SIGKILL)
        death = scada.wait_for("NDEATH", life + 1)[-1]
        assert birth.values["bdSeq"] == death.values["bdSeq"] == life
        assert (death.message.qos, death.message.retained) == (1, False)
    with rig(broker.client_config(), tmp_path):
        assert scada.wait_for("NBIRTH", 3)[-1].values["bdSeq"] == 2


def test_what_was_found_before_the_birth_comes_as_history_up_to_a_limit(
    broker: LocalBroker, scada: Scada
) -> None:
    node = SparkplugNode(SparkplugConfig(history=4), broker.client_config(), RIG, None)
    for number in range(10):
        node.on_verdict(sample_verdict(number))
    with node.attached(Desk().ask):
        scada.wait_for("NDATA", 4)
        node.on_verdict(sample_verdict(10))
        said = scada.wait_for("NBIRTH") + scada.wait_for("NDATA", 5)
    assert results(said) == [(9, False), (5, True), (6, True), (7, True), (8, True), (10, False)]
    assert [each.seq for each in said] == list(range(6))


def test_no_verdict_is_lost_with_a_connection(broker: LocalBroker, scada: Scada, tmp_path: Path) -> None:
    with CuttableProxy(broker.port) as proxy:
        config = broker.client_config().model_copy(update={"port": proxy.port})
        with rig(config, tmp_path) as node:
            scada.wait_for("NBIRTH")
            for number in range(5):
                node.on_verdict(sample_verdict(number))
            scada.wait_for("NDATA", 5)
            proxy.cut()
            for number in range(5, 10):
                node.on_verdict(sample_verdict(number))  # whether or not the loss was noticed by then
            second = scada.wait_for("NBIRTH", 2)[1]
            node.on_verdict(sample_verdict(10))
            said = scada.wait(lambda told: results(told)[-1:] == [(10, False)])
    after = said[said.index(second) :]
    assert {number for number, _ in results(after)} == set(range(11))
    # What is no history is told in its order.
    live = [number for number, historical in results(after) if not historical]
    assert live == sorted(live)
    assert [each.seq for each in after] == list(range(len(after)))
    death = next(each for each in said if each.kind == "NDEATH")
    assert (death.values["bdSeq"], second.values["bdSeq"]) == (0, 1)


def test_a_restart_of_the_broker_is_a_new_birth(tmp_path: Path) -> None:
    with LocalBroker("mosquitto") as broker:
        port = broker.port
        node = SparkplugNode(SparkplugConfig(), broker.client_config(), RIG, tmp_path)
        with Scada(broker) as scada:
            node.start(Desk().ask)
            scada.wait_for("NBIRTH")
            node.on_verdict(sample_verdict(0))
            scada.wait_for("NDATA")
    node.on_verdict(sample_verdict(1))
    node.on_verdict(sample_verdict(2))
    try:
        with LocalBroker("mosquitto", port=port) as broker, Scada(broker) as scada:
            # It may have been born before this host was there to hear it: hosts ask then.
            while not scada.heard():
                scada.write(Node_Control__Rebirth=True)
            birth = scada.wait_for("NBIRTH")[0]
            assert birth.values["Inspection/Sequence"] == 2
            assert birth.values["bdSeq"] >= 1
            node.close()
            assert scada.wait_for("NDEATH")[0].values["bdSeq"] == birth.values["bdSeq"]
    finally:
        node.close()


class TestPrimaryHost:
    def test_it_is_born_when_the_host_is_online_and_dies_with_it(
        self, broker: LocalBroker, scada: Scada, tmp_path: Path
    ) -> None:
        with rig(broker.client_config(), tmp_path, primary_host_id="scada-1") as node:
            node.on_verdict(sample_verdict(0))
            node.on_verdict(sample_verdict(1))
            scada.publish("spBv1.0/STATE/scada-1", b"ONLINE")  # what Sparkplug 2.2 had
            scada.publish("spBv1.0/STATE/scada-1", b'{"online": 1, "timestamp": 1}')
            scada.publish("spBv1.0/STATE/scada-2", b'{"online": true, "timestamp": 1}')
            scada.write(Node_Control__Rebirth=True)  # of a rig that is not born: nothing to say
            scada.say(False, 1000)
            scada.say(True, 999)  # from before the last one
            scada.say(True, 1001)
            scada.wait_for("NDATA")
            scada.say(False, 1000)  # the will of a host that is back already
            node.on_verdict(sample_verdict(2))
            scada.wait_for("NDATA", 2)
            scada.say(False, 1001)
            scada.wait_for("NDEATH")
            node.on_verdict(sample_verdict(3))
            node.on_verdict(sample_verdict(4))
            scada.say(True, 2000)
            scada.wait_for("NBIRTH", 2)
            node.on_verdict(sample_verdict(5))
            said = scada.wait(lambda told: results(told)[-1:] == [(5, False)])
        first, *rest = said
        assert kinds(said)[:4] == ["NBIRTH", "NDATA", "NDATA", "NDEATH"]
        assert results(said[:3]) == [(1, False), (0, True), (2, False)]
        again = rest[3]
        assert again.kind == "NBIRTH"
        # What was said shortly before the host was gone may not have reached it: it is told once more.
        assert results(rest[3:]) == [(4, False), (0, True), (1, True), (2, True), (3, True), (5, False)]
        assert [each.seq for each in rest[3:]] == list(range(6))
        assert first.values["bdSeq"] == rest[2].values["bdSeq"] < again.values["bdSeq"]

    def test_it_that_is_there_first_is_heard_when_the_rig_comes(
        self, broker: LocalBroker, scada: Scada
    ) -> None:
        scada.say(True, 1000)
        with rig(broker.client_config(), primary_host_id="scada-1"):
            scada.wait_for("NBIRTH")

    def test_without_it_the_rig_stops_all_the_same(self, broker: LocalBroker, scada: Scada) -> None:
        node = SparkplugNode(SparkplugConfig(primary_host_id="scada-1"), broker.client_config(), RIG, None)
        node.start(Desk().ask)
        node.close()
        node.close()
        assert "NBIRTH" not in kinds(scada.heard())

    def test_it_stops_while_it_begins_anew(self, broker: LocalBroker, scada: Scada) -> None:
        for number in range(5):
            scada.say(True, 10 * number)
            with rig(broker.client_config(), primary_host_id="scada-1"):
                scada.wait_for("NBIRTH", number + 1)
                scada.say(False, 10 * number + 1)
                if number % 2:
                    scada.wait(lambda told, births=number + 1: ended(told) == births)
            said = scada.wait(lambda told, births=number + 1: ended(told) == births)
        # One that stops when it is connected again, and not born yet, says a death more.
        assert kinds(said).count("NBIRTH") == 5
        for birth, death in pairwise(said):
            if birth.kind == "NBIRTH":
                assert (death.kind, death.values["bdSeq"]) == ("NDEATH", birth.values["bdSeq"])


class TestCommands:
    def test_a_trigger_takes_the_part_that_was_written_before(
        self, broker: LocalBroker, scada: Scada
    ) -> None:
        desk = Desk()
        with rig(broker.client_config(), desk=desk):
            birth = scada.wait_for("NBIRTH")[0]
            assert birth.values["Command/Trigger"] is None
            scada.write(Command__Part_ID="A-7")
            scada.write(Command__Trigger=True)
            scada.wait(lambda told: told[-1].values.get("Command/Answer") == "trigger accepted: r-1")
            scada.write(Command__Trigger=True, Command__Part_ID="bad")
            refused = "trigger refused: not_by_command: set kind: command"
            said = scada.wait(lambda told: told[-1].values.get("Command/Answer") == refused)
            scada.write(Command__Trigger=False)
            scada.write(Command__Trigger=True)
            scada.wait(lambda told: len(told) > len(said))
        assert [(command, order["part_serial"]) for command, order in desk.asked] == [
            ("trigger", "A-7"),
            ("trigger", "bad"),
            ("trigger", None),
        ]
        assert {order["issued_by"] for _, order in desk.asked} == {"sparkplug"}
        assert len({order["request_id"] for _, order in desk.asked}) == 3
        parts = [each.values["Command/Part ID"] for each in said if "Command/Part ID" in each.values]
        assert parts == [None, "A-7", None, "bad", None]

    def test_a_threshold_is_set_for_what_the_host_was_told_last(
        self, broker: LocalBroker, scada: Scada
    ) -> None:
        desk = Desk()
        with rig(broker.client_config(), desk=desk) as node:
            scada.wait_for("NBIRTH")
            scada.write(Command__Threshold=0.5)
            scada.wait(lambda told: len(desk.asked) == 1 and "Command/Answer" in told[-1].values)
            node.on_recipe(recipe_state("plate", version=3, review=0.25))
            node.on_recipe(recipe_state("gland", version=7, review=None))
            scada.write(Command__Threshold=0.75)
            said = scada.wait(lambda told: len([t for t in told if "Command/Answer" in t.values]) == 3)
        unknown, known = (order for _, order in desk.asked)
        assert (unknown["expected_version"], unknown["threshold"], unknown.get("recipe")) == (0, 0.5, None)
        assert (known["expected_version"], known["threshold"], known["recipe"]) == (7, 0.75, "gland")
        reviews = [each.values.get("Recipe/Review Threshold", "-") for each in said]
        assert [review for review in reviews if review != "-"] == [None, 0.25, None]

    def test_by_alias_too(self, broker: LocalBroker, scada: Scada) -> None:
        desk = Desk()
        with rig(broker.client_config(), desk=desk):
            birth = scada.wait_for("NBIRTH")[0]
            metrics = foreign_aliases(birth)
            scada.write(by_alias=metrics, Command__Trigger=True)
            scada.wait_for("NDATA")
        assert [command for command, _ in desk.asked] == ["trigger"]

    def test_a_rig_that_no_command_triggers_offers_none(self, broker: LocalBroker, scada: Scada) -> None:
        with rig(broker.client_config()) as node:
            birth = scada.wait_for("NBIRTH")[0]
            scada.write(Command__Trigger=True)
            scada.write(Inspection__Threshold="0.1")
            node.on_verdict(sample_verdict(1))
            scada.wait_for("NDATA")
        assert not any(name.startswith("Command/") for name in birth.values)

    def test_retained_commands_are_from_before(self, broker: LocalBroker, scada: Scada) -> None:
        scada.write(Command__Trigger=True, retain=True)
        desk = Desk()
        with rig(broker.client_config(), desk=desk):
            scada.wait_for("NBIRTH")
            scada.write(Command__Part_ID="A-1")  # comes after what was retained
            scada.wait_for("NDATA")
        assert desk.asked == []

    def test_whatever_comes_it_goes_on(self, broker: LocalBroker, scada: Scada) -> None:
        birth = b"\x12\x18\n\x14Node Control/Rebirth\x70\x01"
        with rig(broker.client_config(), desk=Desk()) as node:
            scada.wait_for("NBIRTH")

            @settings(
                max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
            )
            @given(payload=st.binary(max_size=60) | st.binary(max_size=20).map(lambda tail: birth + tail))
            @example(b"")
            @example(b"\xff" * 40)
            @example(birth.replace(b"\x70\x01", b"\x7a\x04true"))
            @example(b"\x12\x03\x10\xff\x01")
            @example(b"\x12\x13\n\x0eCommand/Recipe\x7a\x01\xff")
            @example(b"\x12\x1a\n\x0fCommand/Part ID\x61\x00\x00\x00\x00\x00\x00\xf8\x7f")
            def throw(payload: bytes) -> None:
                scada.publish(NCMD, payload)

            throw()
            node.on_verdict(sample_verdict(99))
            said = scada.wait(lambda told: results(told)[-1:] == [(99, False)])
        seqs = [each.seq for each in said]
        starts = [index for index, each in enumerate(said) if each.kind == "NBIRTH"]
        for start, end in zip(starts, [*starts[1:], len(said)], strict=True):
            assert seqs[start:end] == list(range(end - start))


def recipe_state(name: str, *, version: int, review: float | None) -> RecipeState:
    return RecipeState(
        running=running_recipe(name, version=version, review=review),
        loading=None,
        refused=None,
        next_name=None,
        next_at=None,
        names=("gland", "plate"),
        creation_time=utc_now(),
        epoch=1,
        boot_id="boot",
    )


def foreign_aliases(birth: Told) -> dict[str, int]:
    metrics = foreign([birth.message.payload])[0]["metrics"]
    return {metric["name"]: metric["alias"] for metric in metrics if metric["alias"] is not None}
