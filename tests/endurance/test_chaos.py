"""Kills, losses of power, a broker that dies, a cable that is cut, a full disk: and nothing is lost."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from edge.broker import find_mosquitto
from tests.endurance.chaos import WHOLE, chaos
from tests.endurance.counted import Counted, Line, lines_of, mistakes_of

log = logging.getLogger(__name__)


def line(number: int, epoch: int = 1, seq: int | None = None, outcome: str = "pass") -> Line:
    seq = number if seq is None else seq
    return Line(f"v{number}", f"p{number}", epoch, seq, outcome, None, f"sha of {number}")


HEARD = (*(line(n) for n in range(10)), line(3), *(line(n, 2, n - 10) for n in range(10, 20)))
"""Twenty verdicts of two starts, one of them heard twice."""


def flawless() -> Counted:
    return Counted(
        accepted={f"p{n}": f"v{n}" for n in range(19)},  # the last one's answer was lost
        kept={each.result_id: (int(each.part_id[1:]), each.epoch, each.seq) for each in HEARD},
        heard=HEARD,
        on_full_disk=(0, 0),
        left=0,
        exit_code=0,
        happened=Counter(),
        with_disk=True,
        starts=2,
        seconds=1.0,
    )


class TestMistakes:
    def test_there_are_none_in_a_flawless_one(self) -> None:
        assert mistakes_of(flawless()) == []
        assert flawless().repeats == 1

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"accepted": {"p20": "v20"}}, "1 accepted triggers have no verdict: v20"),
            ({"accepted": {"p1": "v2"}}, "accepted under another id: p1"),
            ({"heard": (*HEARD, replace(line(20, 2, 10), part_id="p3"))}, "parts with two verdicts: p3"),
            ({"heard": (*HEARD, replace(line(19, 2, 9), sha256="other"))}, "one id says two things: v19"),
            ({"heard": HEARD[:-1]}, "kept and never heard: v19"),
            ({"heard": (*HEARD, line(20, 2, 10))}, "heard and not kept: v20"),
            ({"heard": HEARD[1:]}, "numbers have gaps, or are there twice: epoch 1"),
            ({"heard": (*HEARD, line(20, 2, 5))}, "numbers have gaps, or are there twice: epoch 2"),
            ({"kept": {"v1": (0, 1, 1), "v0": (1, 1, 0)}}, "the order is not the ledger's"),
            ({"heard": (*HEARD[:-2], line(18, 2, 9), line(19, 2, 8))}, "parts are not in their order"),
            ({"left": 1}, "1 triggers in hand or verdicts never acknowledged are left"),
            ({"exit_code": -9}, "the daemon ended with -9"),
        ],
    )
    def test_each_is_told(self, changed: dict[str, object], said: str) -> None:
        assert any(said in mistake for mistake in mistakes_of(replace(flawless(), **changed)))  # type: ignore[arg-type]

    def test_what_a_full_disk_took_was_heard_and_that_is_enough(self) -> None:
        kept = {name: where for name, where in flawless().kept.items() if name != "v12"}
        assert mistakes_of(replace(flawless(), kept=kept)) == ["heard and not kept: v12"]
        assert mistakes_of(replace(flawless(), kept=kept, on_full_disk=(12, 14))) == []


def test_half_a_line_is_not_read(tmp_path: Path) -> None:
    whole = json.dumps(asdict(line(1)))
    (tmp_path / "heard").write_text(f"{whole}\n{whole[:40]}", encoding="utf-8")
    assert [each.result_id for each in lines_of(tmp_path / "heard")] == ["v1"]


def test_what_happens_follows_from_the_seed() -> None:
    events = WHOLE.schedule()
    assert events == WHOLE.schedule()
    assert events != replace(WHOLE, seed=8).schedule()
    counted = Counter(event.partition(":")[0] for event in events)
    assert counted["kill"] + events.count("kill: twice") == WHOLE.kills == 30
    assert (counted["broker"], counted["cable"], counted["disk"]) == (10, 20, 1)
    assert events.count("kill: power") == events.count("kill: disk hangs") == 5


@pytest.mark.slow
@pytest.mark.timeout(1800)  # four minutes, on two cores that have nothing else to do
@pytest.mark.skipif(
    find_mosquitto() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)
def test_whatever_happens_each_accepted_trigger_has_one_verdict_at_the_subscriber(tmp_path: Path) -> None:
    counted = chaos(tmp_path, WHOLE, lambda text: log.info("%s", text))
    log.info("%s", counted)
    assert mistakes_of(counted) == []
    assert len(counted.accepted) >= WHOLE.verdicts
    assert counted.starts > WHOLE.kills
    if not counted.with_disk:
        pytest.skip("all held; but to fill a disk, and to lose its power, needs root")
