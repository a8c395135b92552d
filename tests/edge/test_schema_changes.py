"""What breaks a consumer, or a sender, is found; what does not is let through."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError
from edge.frozen import broken_promises, freeze
from edge.schema_changes import breaks_consumers, breaks_senders
from edge.schemas import main, schema_files

NOW: dict[str, Any] = {
    name.removesuffix(".schema.json"): json.loads(text) for name, text in schema_files().items()
}
OUTPUTS = sorted(name for name in NOW if not name.startswith("cmd_"))
INPUTS = sorted(set(NOW) - set(OUTPUTS))


def objects(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Each object in a document that has fields."""
    found = [schema, *schema.get("$defs", {}).values()]
    return [one for one in found if one.get("properties")]


def drop(schema: dict[str, Any], name: str) -> None:
    del schema["properties"][name]
    schema["required"] = [other for other in schema.get("required", []) if other != name]


def rename(schema: dict[str, Any], name: str) -> None:
    value = schema["properties"][name]
    drop(schema, name)
    schema["properties"][f"{name}_2"] = value
    schema["required"].append(f"{name}_2")


def retype(schema: dict[str, Any], name: str) -> None:
    schema["properties"][name] = {"type": "array", "items": {"type": "boolean"}, "maxItems": 0}


def also_null_or_other(schema: dict[str, Any], name: str) -> None:
    schema["properties"][name] = {"anyOf": [schema["properties"][name], {"type": "array"}]}


def optional(schema: dict[str, Any], name: str) -> None:
    schema["required"] = [other for other in schema["required"] if other != name]


BREAKS: list[Callable[[dict[str, Any], str], None]] = [drop, rename, retype, also_null_or_other, optional]


@pytest.mark.parametrize("name", sorted(NOW))
def test_no_change_breaks_nothing(name: str) -> None:
    assert breaks_consumers(NOW[name], NOW[name]) == []
    assert breaks_senders(NOW[name], NOW[name]) == []


@given(st.sampled_from(OUTPUTS), st.sampled_from(BREAKS), st.data())
def test_each_kind_of_break_is_found_wherever_it_is(
    name: str, change: Callable[[dict[str, Any], str], None], data: st.DataObject
) -> None:
    new = copy.deepcopy(NOW[name])
    inside = data.draw(st.sampled_from(objects(new)))
    field = data.draw(st.sampled_from(sorted(inside["required"])))
    change(inside, field)
    found = breaks_consumers(NOW[name], new)
    assert any(field in reason for reason in found), (change, field, found)


@given(st.sampled_from(OUTPUTS), st.data())
def test_a_new_field_breaks_no_consumer_however_deep(name: str, data: st.DataObject) -> None:
    new = copy.deepcopy(NOW[name])
    inside = data.draw(st.sampled_from(objects(new)))
    inside["properties"]["something_new"] = {"type": "string"}
    if data.draw(st.booleans()):
        inside["required"].append("something_new")
    assert breaks_consumers(NOW[name], new) == []
    assert breaks_consumers(new, NOW[name]) != []  # and to take it away again does


def nodes(schema: Any) -> list[dict[str, Any]]:
    found = [schema] if isinstance(schema, dict) else []
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        found += nodes(inner)
    return found


@pytest.mark.parametrize(
    "keyword", ["enum", "const", "minimum", "pattern", "maxItems", "prefixItems", "format"]
)
def test_a_value_that_could_not_be_before_is_found(keyword: str) -> None:
    changed = 0
    for name in OUTPUTS:
        count = sum(keyword in node and "properties" not in node for node in nodes(NOW[name]))
        for number in range(count):
            new = copy.deepcopy(NOW[name])
            node = [one for one in nodes(new) if keyword in one and "properties" not in one][number]
            if keyword == "enum":
                node["enum"] = [*node["enum"], "something_new"]
            elif keyword == "const":
                node["const"] = "something else"
            elif keyword in ("minimum",):
                node["minimum"] -= 1
            elif keyword == "maxItems":
                node["maxItems"] += 1
            elif keyword == "prefixItems":
                node["prefixItems"] = node["prefixItems"][:-1]
            else:
                del node[keyword]
            assert breaks_consumers(NOW[name], new), (name, keyword)
            changed += 1
    assert changed


@pytest.mark.parametrize("name", INPUTS)
def test_what_a_sender_could_say_is_still_taken(name: str) -> None:
    old = NOW[name]
    more = copy.deepcopy(old)
    more["properties"]["something_new"] = {"type": "string"}
    assert breaks_senders(old, more) == []
    more["required"].append("something_new")
    assert breaks_senders(old, more) == ["message.something_new: is missing"]
    for field in old["properties"]:
        fewer = copy.deepcopy(old)
        drop(fewer, field)
        assert f"message.{field}: is not taken" in breaks_senders(old, fewer)
    shorter = copy.deepcopy(old)
    shorter["properties"]["request_id"]["maxLength"] = 10
    assert breaks_senders(old, shorter) == ["message.request_id: maxLength is 128, not 10"]


class TestFrozen:
    def test_what_was_promised_is_kept(self) -> None:
        broken = broken_promises(NOW)
        assert broken == [], (
            "raise its schema_version, or take it back (docs/mqtt.md, What may change); before the first "
            "release the copies in edge/frozen_schemas may still be deleted, and made anew by `make freeze`"
        )

    def test_a_copy_is_never_overwritten(self, tmp_path: Path) -> None:
        written = freeze(NOW, tmp_path)
        assert {path.name for path in written} == {f"{name}-1.0.schema.json" for name in NOW}
        assert freeze(NOW, tmp_path) == []
        more = copy.deepcopy(NOW)
        more["verdict"]["properties"]["something_new"] = {"type": "string"}
        assert [path.name for path in freeze(more, tmp_path)] == ["verdict-1.1.schema.json"]
        with pytest.raises(ConfigError, match=r"verdict against 1\.1: message\.something_new: is missing"):
            freeze(NOW, tmp_path)
        del more["verdict"]["properties"]["outcome"]
        with pytest.raises(ConfigError, match=r"schema_version first.*outcome"):
            freeze(more, tmp_path)
        more["verdict"]["properties"]["schema_version"]["const"] = 2
        assert [path.name for path in freeze(more, tmp_path)] == ["verdict-2.0.schema.json"]
        assert any("older than 2" in reason for reason in broken_promises(NOW, tmp_path))
        del more["verdict"]
        assert "verdict: is gone, and was promised" in broken_promises(more, tmp_path)

    def test_the_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--list"]) == 0
        assert set(capsys.readouterr().out.split()) == set(NOW)
        assert main(["--show", "verdict"]) == 0
        assert json.loads(capsys.readouterr().out) == NOW["verdict"]
        assert main(["--show", "nothing"]) == 2
        assert main(["--freeze", str(tmp_path)]) == 0
        assert len(capsys.readouterr().out.split()) == len(NOW)
        (tmp_path / "verdict-2.0.schema.json").write_text(json.dumps(NOW["verdict"]))
        assert main(["--freeze", str(tmp_path)]) == 3
        assert "older than 2" in capsys.readouterr().err
