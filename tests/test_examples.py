"""The examples for other programs name what the rig sends: a field that is renamed fails here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.inspection import Outcome
from edge.schemas import TOPICS

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
TELEGRAF = (EXAMPLES / "telegraf" / "telegraf.conf").read_text(encoding="utf-8")
DASHBOARD = json.loads((EXAMPLES / "grafana" / "inspection.json").read_text(encoding="utf-8"))
FLOW = json.loads((EXAMPLES / "node-red" / "failed-parts.json").read_text(encoding="utf-8"))
LEVELS = {"enterprise", "site", "area", "line", "cell"}
JSON_TYPES = {"float": {"number", "integer"}, "int": {"integer"}, "string": {"string"}, "bool": {"boolean"}}


def schema(name: str) -> dict[str, Any]:
    text = (ROOT / "docs" / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def kinds(name: str, path: str) -> set[str]:
    """The JSON types that a value at a dotted path of a message may have; empty where there is none."""
    document = schema(name)
    nodes = [document]
    for key in path.split("."):
        nodes = [
            node["properties"][key] for node in flat(nodes, document) if key in node.get("properties", {})
        ]
    return {"string" if "enum" in node else node.get("type", "any") for node in flat(nodes, document)}


def flat(nodes: list[dict[str, Any]], document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for node in nodes:
        if "$ref" in node:
            found += flat([document["$defs"][node["$ref"].rpartition("/")[2]]], document)
        elif "anyOf" in node:
            found += flat(node["anyOf"], document)
        elif node.get("type") == "array":
            found += flat([node["items"]], document) if "items" in node else [node]
        else:
            found.append(node)
    return found


def measurements() -> dict[str, str]:
    """What telegraf.conf says of each measurement."""
    pieces = re.split(r'measurement_name = "(\w+)"', TELEGRAF)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def entries(name: str, kind: str) -> Iterator[dict[str, str]]:
    """The keys of each `tag` or `field` of a measurement."""
    for block in re.findall(rf"\.json_v2\.{kind}\]\]\n((?:\s+\w+ = .*\n)+)", measurements()[name]):
        yield {key: value.strip('"') for key, value in re.findall(r"(\w+) = (.+)", block)}


def columns(name: str) -> set[str]:
    return {entry.get("rename", entry["path"].rpartition(".")[2]) for entry in entries(name, "field")}


class TestTelegraf:
    def test_it_is_toml(self) -> None:
        tomllib = pytest.importorskip("tomllib")  # Python 3.11
        inputs = tomllib.loads(TELEGRAF)["inputs"]["mqtt_consumer"]
        assert [one["topics"][0].rpartition("/")[2] for one in inputs] == ["verdict", "health"]
        for one in inputs:
            (parsing,) = one["topic_parsing"]
            levels = parsing["tags"].split("/")
            assert set(levels) - {"_"} == LEVELS
            assert len(levels) == len(parsing["topic"].split("/"))

    @pytest.mark.parametrize("name", ["verdict", "health"])
    def test_every_path_is_one_of_the_message_and_of_its_type(self, name: str) -> None:
        fields = list(entries(name, "field"))
        assert len(fields) > 8
        for field in fields:
            found = kinds(name, field["path"])
            assert found - {"null"} == found & JSON_TYPES[field["type"]], (field, found)
            assert ("null" in found) == (field.get("optional") == "true"), field
        for tag in entries(name, "tag"):
            assert kinds(name, tag["path"]) == {"string"}, tag
        (time,) = re.findall(r'timestamp_path = "(\w+)"', measurements()[name])
        assert kinds(name, time) == {"string"}

    @pytest.mark.parametrize("name", ["verdict", "health"])
    def test_no_column_is_there_twice(self, name: str) -> None:
        assert len(columns(name)) == len(list(entries(name, "field")))


class TestGrafana:
    def test_panels_ask_for_what_telegraf_writes(self) -> None:
        asked = 0
        for panel in DASHBOARD["panels"]:
            for target in panel["targets"]:
                query = target["query"]
                (name,) = re.findall(r'_measurement == "(\w+)"', query)
                fields = set(re.findall(r'_field == "(\w+)"', query))
                assert fields <= columns(name), panel["title"]
                named = set(re.findall(r"\br\.(\w+)", query)) | set(re.findall(r'"(\w+)"[,\]]', query))
                tags = {entry["path"] for entry in entries(name, "tag")} | LEVELS
                assert named <= tags | {"_measurement", "_field", "_value", "_time", "line", "cell"}, named
                assert set(re.findall(r'outcome == "(\w+)"', query)) <= {outcome.value for outcome in Outcome}
                asked += len(fields)
        assert asked >= 20

    def test_every_outcome_has_a_colour(self) -> None:
        (panel,) = [panel for panel in DASHBOARD["panels"] if panel["title"] == "Outcomes"]
        coloured = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
        assert coloured == {outcome.value for outcome in Outcome}

    def test_it_is_a_dashboard(self) -> None:
        assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= set(DASHBOARD)
        ids = [panel["id"] for panel in DASHBOARD["panels"]]
        assert len(set(ids)) == len(ids)
        taken: set[tuple[int, int]] = set()
        for panel in DASHBOARD["panels"]:
            place = panel["gridPos"]
            assert 0 <= place["x"] <= place["x"] + place["w"] <= 24
            cells = {
                (place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])
            }
            assert not cells & taken, f"{panel['title']} lies over another"
            taken |= cells
            assert panel["datasource"]["uid"] == "${datasource}"
        variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
        assert set(re.findall(r"\$\{(\w+)", json.dumps(DASHBOARD))) == variables


class TestNodeRed:
    def test_every_wire_ends_at_a_node(self) -> None:
        ids = {node["id"] for node in FLOW}
        assert len(ids) == len(FLOW)
        for node in FLOW:
            assert {end for wires in node.get("wires", ()) for end in wires} <= ids
            for key in ("z", "broker", "tls"):
                if node["type"] != "mqtt-broker" or key == "tls":
                    assert node.get(key, node["id"]) in ids

    def test_topics_and_fields_are_those_of_the_rig(self) -> None:
        topics = {entry.topic for entry in TOPICS}
        heard = {
            node["topic"].removeprefix("+/+/+/+/+/inspection/") for node in FLOW if node["type"] == "mqtt in"
        }
        assert heard == {"verdict", "heatmap"}
        assert heard <= topics
        code = "\n".join(node["func"] for node in FLOW if node["type"] == "function")
        named = set(re.findall(r"\bverdict\.(\w+)", code)) | {
            f"regions.{field}" for field in re.findall(r"\bregion\.(\w+)", code)
        }
        assert len(named) >= 8
        assert {path for path in named if not kinds("verdict", path)} == set()

    def test_what_is_let_through_is_an_outcome(self) -> None:
        (switch,) = [node for node in FLOW if node["type"] == "switch"]
        assert switch["property"] == "payload.outcome"
        assert [rule["v"] for rule in switch["rules"]] == [Outcome.FAIL.value]


def test_a_path_that_does_not_exist_is_found() -> None:
    assert kinds("verdict", "processing_times.latency_ms") == {"number", "null"}
    assert kinds("verdict", "processing_times.latency") == set()
    assert kinds("health", "camera.nothing") == set()
