"""What the watch makes of messages: rows of rigs, whatever is sent."""

from __future__ import annotations

import html
import io
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from rich.console import Console

from edge.errors import ConfigError
from edge.schemas import TOPICS
from edge.watching.fleet import Fleet, topics_below
from edge.watching.reading import printable
from edge.watching.report import RigRow
from edge.watching.rig_view import READ
from edge.watching.table import rig_table
from tests.edge.watching.draw import drawing
from tests.edge.watching.rigs import ROOT, example, fleet_at_noon, hear, plant_of_rigs

DOCS = Path(__file__).parents[3] / "docs"
ANY_JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def only(fleet: Fleet, now_s: float = 0.0) -> RigRow:
    (row,) = fleet.rows(now_s)
    return row


def shown(fleet: Fleet, now_s: float = 0.0) -> str:
    console = Console(width=220, file=io.StringIO(), force_terminal=True)
    console.print(rig_table(fleet.rows(now_s), "title"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class TestRows:
    def test_a_rig_that_says_all(self) -> None:
        fleet = fleet_at_noon()
        for topic in READ:
            hear(fleet, topic, example(topic), at_s=100)
        row = only(fleet, 103.0)
        assert (row.root, row.presence, row.machine_state) == (ROOT, "online", "ContinuousExecution")
        assert (row.recipe, row.recipe_loading) == ("plate", "gland")
        assert row.last_verdict is not None
        assert (row.last_verdict.outcome, row.last_verdict.score, row.last_verdict.age_s) == (
            "fail",
            1.73,
            3.0,
        )
        counts = json.loads(example("health"))["inspections"]
        assert row.yield_share == counts["passed"] / sum(counts.values())
        assert (row.warnings, row.malformed, row.needs_a_look) == ((), 0, False)

    def test_what_needs_a_look(self) -> None:
        rows = {row.root.split("/")[4]: row for row in plant_of_rigs(10_000.0).rows(10_000.0)}
        assert not rows.pop("cell-1").needs_a_look
        assert all(row.needs_a_look for row in rows.values())
        assert rows["cell-2"].warnings == ("light_low", "scores_drifted_up")
        assert rows["cell-3"].warnings == ("camera_lost",)
        assert (rows["cell-4"].presence, rows["cell-4"].presence_reason) == ("offline", "connection_lost")
        assert (rows["cell-5"].presence, rows["cell-5"].warnings) == ("stale", ("clock_not_synced",))
        assert rows["cell-6"].malformed == 3

    def test_a_broken_promise_needs_a_look(self) -> None:
        fleet = fleet_at_noon()
        for topic in READ:
            hear(fleet, topic, example(topic), at_s=100)
        hear(fleet, "health", example("health", promise={"warning": "promise_broken"}), at_s=101)
        row = only(fleet, 103.0)
        assert (row.warnings, row.needs_a_look) == (("promise_broken",), True)

    def test_health_that_stays_away_is_stale_after_three_intervals(self) -> None:
        fleet = fleet_at_noon()
        hear(fleet, "availability", example("availability"), at_s=0)
        for at_s in range(0, 600, 60):
            hear(fleet, "health", example("health"), at_s=at_s)
        assert only(fleet, 540 + 179).presence == "online"
        assert only(fleet, 540 + 181).presence == "stale"

    def test_health_that_the_broker_had_kept_has_its_own_age(self) -> None:
        fleet = fleet_at_noon()
        hear(fleet, "availability", example("availability"), retained=True)
        hear(fleet, "health", example("health"), retained=True)
        assert only(fleet).presence == "online"
        assert only(fleet).health_age_s == 0.75
        hear(fleet, "health", example("health", creation_time="2030-01-31T11:00:00.000000Z"), retained=True)
        assert only(fleet).presence == "stale"

    def test_a_burst_does_not_make_a_rig_stale(self) -> None:
        fleet = fleet_at_noon()
        hear(fleet, "availability", example("availability"), retained=True)
        hear(fleet, "health", example("health"), retained=True, at_s=10.0)
        for at_s in (10.01, 10.02, 10.03):
            hear(fleet, "health", example("health"), at_s=at_s)
        assert only(fleet, 12.9).presence == "online"

    def test_a_verdict_that_is_sent_again_is_not_the_last(self) -> None:
        fleet = fleet_at_noon()
        for epoch, seq in ((1, 5), (1, 4), (2, 0), (1, 9)):
            hear(fleet, "verdict", example("verdict", epoch=epoch, seq=seq, result_id=f"{epoch}-{seq}"))
        last = only(fleet).last_verdict
        assert last is not None
        assert last.result_id == "2-0"

    def test_what_a_newer_rig_says_is_shown(self) -> None:
        fleet = fleet_at_noon()
        hear(fleet, "verdict", example("verdict", outcome="rethink", something_new={"a": [1]}))
        hear(fleet, "health", example("health", inspections={"rethought": 4}, new_section={}))
        row = only(fleet)
        assert row.last_verdict is not None
        assert (row.last_verdict.outcome, row.counts["rethought"], row.malformed) == ("rethink", 4, 0)
        assert "4 rethought" in shown(fleet)

    def test_a_topic_that_was_cleared_says_nothing_more(self) -> None:
        fleet = fleet_at_noon()
        hear(fleet, "availability", example("availability"))
        hear(fleet, "availability", b"")
        assert (only(fleet).presence, only(fleet).malformed) == ("unknown", 0)

    def test_rigs_beyond_a_thousand_are_counted(self) -> None:
        fleet = fleet_at_noon()
        for number in range(1003):
            hear(fleet, "availability", b"{}", root=f"a/b/c/d/{number}/inspection")
        assert (len(fleet.rows(0.0)), fleet.left_out) == (1000, 3)


class TestWhatIsNotBelieved:
    @given(
        topic=st.sampled_from(sorted(READ)),
        payload=st.binary() | ANY_JSON.map(lambda v: json.dumps(v).encode()),
    )
    def test_any_payload_gives_a_row(self, topic: str, payload: bytes) -> None:
        fleet = fleet_at_noon()
        hear(fleet, topic, payload)
        row = only(fleet)
        RigRow.model_validate_json(row.model_dump_json())
        assert row.malformed == (1 if payload else 0)
        shown(fleet)

    @given(topic=st.sampled_from(sorted(READ)), data=st.data())
    def test_any_value_in_place_of_a_true_one_does(self, topic: str, data: st.DataObject) -> None:
        message = json.loads(example(topic))
        key = data.draw(st.sampled_from(sorted(message)))
        fleet = fleet_at_noon()
        hear(fleet, topic, json.dumps(message | {key: data.draw(ANY_JSON)}).encode())
        RigRow.model_validate_json(only(fleet).model_dump_json())
        shown(fleet)

    @given(st.text())
    def test_no_text_does_anything_to_the_terminal(self, text: str) -> None:
        fleet = fleet_at_noon()
        evil = f"\x1b]0;title\x07\x1b[2J\u202e{text}\r\n"
        hear(fleet, "verdict", example("verdict", outcome=evil, reason=evil))
        hear(fleet, "state/machine", example("state/machine", reason=evil))
        hear(fleet, "health", example("health", recipe_id=evil, camera={"name": evil}))
        plain = shown(fleet)
        assert "\x1b[2J" not in plain
        assert "\x1b]0" not in plain
        assert not {"\u202e", "\r", "\x07"} & set(plain)

    def test_markup_is_text(self) -> None:
        fleet = fleet_at_noon()
        hear(fleet, "state/machine", example("state/machine", state="[red]x[/red]", reason=None))
        assert "[red]x[/red]" in shown(fleet)

    def test_printable_writes_out_what_can_not_be_seen(self) -> None:
        assert printable("a\x1b\u202eß\n") == "a\\x1b\\u202eß\\n"
        assert len(printable("x" * 10_000)) == 200

    def test_other_topics_are_none_of_ours(self) -> None:
        fleet = fleet_at_noon()
        for topic in ("", "a", "a/b/c/d/e/f/verdict", "a/b/c/d/e/inspection/heatmap", "$SYS/broker/uptime"):
            hear(fleet, "", b"x", root=topic.removesuffix("/"))
        assert fleet.rows(0.0) == ()

    def test_what_is_too_large_is_not_read(self) -> None:
        fleet = fleet_at_noon()
        hear(fleet, "verdict", b" " * 300_000 + example("verdict"))
        assert (only(fleet).malformed, only(fleet).last_verdict) == (1, None)


@pytest.mark.parametrize(
    ("place", "root"),
    [
        ("#", "+/+/+/+/+"),
        ("acme/dresden/#", "acme/dresden/+/+/+"),
        ("+/+/+/line-3", "+/+/+/line-3/+"),
        (ROOT, "acme/dresden/assembly/line-3/cell-2"),
    ],
)
def test_a_place_is_where_rigs_are(place: str, root: str) -> None:
    assert set(topics_below(place)) == {f"{root}/inspection/{topic}" for topic in READ}


@pytest.mark.parametrize("place", ["a/b/c/d/e/f", "a/#/b", "a+/b", "", "a//b"])
def test_what_is_no_place_is_told(place: str) -> None:
    with pytest.raises(ConfigError, match=r"acme/dresden/#"):
        topics_below(place)


def fields(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Each field that a model reads, with the section that it is in."""
    found: set[str] = set()
    for name, info in model.model_fields.items():
        found.add(prefix + name)
        inner = [
            part for part in (info.annotation, *getattr(info.annotation, "__args__", ())) if part is not None
        ]
        for part in inner:
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= fields(part, f"{prefix}{name}.")
    return found


@pytest.mark.parametrize("topic", sorted(READ))
def test_what_is_read_is_what_a_rig_says(topic: str) -> None:
    """A field that is renamed in the messages fails here."""
    examples = {entry.topic: entry.example for entry in TOPICS}
    message = type(examples[topic.replace("state/last_verdict", "verdict")])
    assert issubclass(message, BaseModel)
    assert fields(READ[topic]) <= fields(message)


def test_rows_are_those_of_the_schema() -> None:
    schema = json.loads((DOCS / "schemas" / "watch.schema.json").read_text(encoding="utf-8"))
    check = jsonschema.Draft202012Validator({**schema["$defs"]["RigRow"], "$defs": schema["$defs"]})
    for row in plant_of_rigs(0.0).rows(0.0):
        check.validate(json.loads(row.model_dump_json()))


def test_the_picture_in_the_documentation_is_of_this_table() -> None:
    drawn = (DOCS / "images" / "watch.svg").read_text(encoding="utf-8")
    words = {word for word in text_of(drawing()) if word.isalnum()}
    assert len(words) > 20
    assert words <= text_of(drawn), "run `python -m tests.edge.watching.draw docs/images/watch.svg`"


def text_of(svg: str) -> set[str]:
    """The words of a drawing, whatever its rich made of the rest."""
    text = html.unescape(" ".join(re.findall(r">([^<]+)<", svg)))
    return set(text.replace("\xa0", " ").split())
