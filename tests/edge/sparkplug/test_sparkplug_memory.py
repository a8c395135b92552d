"""What outlives a connection: the number of births, verdicts not heard, and the values of the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.messages import Health
from edge.schemas import TOPICS
from edge.sparkplug.birth_count import BirthCount
from edge.sparkplug.history import History
from edge.sparkplug.host import host_state_of
from edge.sparkplug.metrics import HEALTH, RECIPE, STATE, VERDICT
from edge.sparkplug.payload import DataType, Metric, Write
from edge.sparkplug.tags import Tags


class TestBirthCount:
    def test_goes_on_after_a_restart_and_begins_anew_after_255(self, tmp_path: Path) -> None:
        first = BirthCount(tmp_path)
        assert [first.next() for _ in range(255)] == list(range(255))
        second = BirthCount(tmp_path)
        assert [second.next(), second.next()] == [255, 0]
        assert BirthCount(tmp_path).next() == 1

    @pytest.mark.parametrize("text", ["", "seven", "\xff", "1 2"])
    def test_a_damaged_file_begins_anew(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "sparkplug_bdseq").write_text(text, encoding="latin-1")
        assert BirthCount(tmp_path).next() == 0
        assert BirthCount(tmp_path).next() == 1

    def test_a_disk_that_refuses_does_not_stop_the_rig(self, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("a file where the folder should be", encoding="ascii")
        count = BirthCount(tmp_path / "state")
        assert [count.next(), count.next()] == [0, 1]


def verdict(number: int) -> tuple[Metric, ...]:
    return (Metric(DataType.INT64, number, number, alias=1),)


def numbers(verdicts: Sequence[Sequence[Metric]]) -> list[object]:
    assert all(metric.historical for each in verdicts for metric in each)
    return [each[0].value for each in verdicts]


class TestHistory:
    def test_the_newest_is_no_history_and_the_oldest_go_first(self) -> None:
        history = History(3, unsure_s=10.0)
        for number in range(6):
            history.add(verdict(number), sent=False)
        told, left_out = history.take()
        assert (numbers(told), left_out) == ([2, 3, 4], 2)
        assert history.take() == ([], 0)

    def test_what_was_sent_of_late_is_told_again_and_what_was_told_before_that_not(self) -> None:
        now_s = 0.0
        history = History(100, unsure_s=10.0, clock_s=lambda: now_s)
        for number in range(20):
            now_s = float(number)
            history.add(verdict(number), sent=True)
        history.doubt()
        history.add(verdict(20), sent=False)
        assert numbers(history.take()[0]) == list(range(9, 20))
        history.doubt()  # the connection was gone again at once
        assert numbers(history.take()[0]) == list(range(9, 20))

    def test_none_is_kept_where_none_is_wanted(self) -> None:
        history = History(0, unsure_s=10.0)
        history.add(verdict(1), sent=True)
        history.doubt()
        history.add(verdict(2), sent=False)
        history.add(verdict(3), sent=False)
        assert history.take() == ([], 1)

    @given(st.lists(st.booleans(), max_size=30), st.integers(0, 5))
    def test_in_order_no_more_than_allowed(self, sent: list[bool], at_most: int) -> None:
        history = History(at_most, unsure_s=10.0, clock_s=lambda: 0.0)
        for number, was_sent in enumerate(sent):
            if not was_sent and (not number or sent[number - 1]):
                history.doubt()
            history.add(verdict(number), sent=was_sent)
        told = numbers(history.take()[0])
        assert len(told) <= at_most


class TestTags:
    def test_only_what_has_changed_is_said(self) -> None:
        [health] = [entry.example for entry in TOPICS if isinstance(entry.example, Health)]
        tags = Tags()
        assert len(tags.set_changed(HEALTH, health, 1)) == len(HEALTH)
        assert tags.set_changed(HEALTH, health, 2) == ()
        hotter = health.model_copy(update={"soc_temperature_c": 91.5})
        [metric] = tags.set_changed(HEALTH, hotter, 3)
        assert (metric.value, metric.timestamp_ms) == (91.5, 3)
        by_name = {metric.name: metric for metric in tags.birth(9)}
        assert by_name["System/Temperature"].value == 91.5
        assert by_name["Counts/Passed"].timestamp_ms == 1
        assert (by_name["Inspection/Score"].value, by_name["Inspection/Score"].timestamp_ms) == (None, 9)

    def test_names_and_aliases_are_each_their_own(self) -> None:
        told = Tags().birth(0)
        names = [metric.name.lower() for metric in told if metric.name]
        assert len({*names}) == len(told) == sum(map(len, (VERDICT, HEALTH, STATE, RECIPE)))
        assert len({metric.alias for metric in told}) == len(told)
        assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789 /") for name in names)

    @given(st.none() | st.text(), st.none() | st.integers(0, 2**64))
    def test_a_host_s_metric_is_found_or_not(self, name: str | None, alias: int | None) -> None:
        found = Tags().name_of(Write(name, alias, True))
        assert found is None or found in {metric.name for metric in Tags().birth(0)}


@given(st.binary(max_size=100))
def test_a_state_is_read_or_refused(payload: bytes) -> None:
    assert host_state_of(payload) is None


def test_states_of_a_host() -> None:
    state = host_state_of(b'{"online": true, "timestamp": 1668114759262, "more": [1]}')
    assert state is not None
    assert (state.online, state.timestamp) == (True, 1668114759262)
    refused = (
        b"ONLINE",
        b"{}",
        b'{"online": 1, "timestamp": 1}',
        b'{"online": true, "timestamp": -1}',
        b'{"online": true, "timestamp": "1"}',
        b"[" * 4000,
        b'{"online": true}' + b" " * 5000,
    )
    assert [host_state_of(payload) for payload in refused] == [None] * len(refused)
