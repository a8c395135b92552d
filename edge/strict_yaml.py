"""YAML for people: one mistake or ten, each is named with its file, its line, and what is allowed there."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from edge.errors import ConfigError

__all__ = ["load_strict_yaml"]

_Model = TypeVar("_Model", bound=BaseModel)
_Key = tuple[str | int, ...]
_Schema = Mapping[str, Any]


@dataclass(slots=True)
class _Document:
    """Plain data out of a YAML document, with the line on which each key stands."""

    file: str
    data: object = None
    lines: dict[_Key, int] = field(default_factory=dict)
    mistakes: list[tuple[int, str]] = field(default_factory=list)


def load_strict_yaml(path: Path, model: type[_Model]) -> _Model:
    """The YAML file at `path` as a `model`; relative paths in it start at the file's own folder.

    Only plain data is read (no tags of Python), a key may stand only once, and every key must be known.
    Raises `ConfigError` with all mistakes of the file at once, one a line: `FILE:LINE: key: what is
    wrong, what is allowed`.
    """
    document = _read(path)
    instance: _Model | None = None
    if isinstance(document.data, dict):
        try:
            instance = model.model_validate(document.data)
        except ValidationError as error:
            document.mistakes += _explain(error, document, model.model_json_schema())
    elif not document.mistakes:
        document.mistakes.append((1, f"must be a mapping of keys, is {_kind(document.data)}"))
    if instance is None or document.mistakes:
        ordered = sorted(dict.fromkeys(document.mistakes))
        raise ConfigError("\n".join(f"{path}:{line}: {message}" for line, message in ordered))
    return _anchored(instance, path.parent)


def _read(path: Path) -> _Document:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    document = _Document(str(path))
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            document.data = _construct(loader, node, (), document, frozenset())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        what = ", ".join(text for text in (error.context, error.problem) if text)
        raise ConfigError(f"{path}:{line}: is not YAML: {what}") from error
    except (yaml.YAMLError, ValueError) as error:
        # A ValueError comes from a scalar that looks like a date or a number and is none: 2026-13-45.
        raise ConfigError(f"{path}:1: is not YAML that can be read: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}:1: is nested too deeply to be a configuration") from error
    return document


def _construct(
    loader: yaml.SafeLoader, node: yaml.Node, at: _Key, document: _Document, parents: frozenset[int]
) -> object:
    """`node` as plain data; notes lines, duplicate keys and keys that are not text on the way."""
    line = node.start_mark.line + 1
    document.lines.setdefault(at, line)
    if id(node) in parents:
        document.mistakes.append((line, f"{_dotted(at)}: refers to itself; write it out"))
        return None
    inside = parents | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, (*at, i), document, inside) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    mapping: dict[str, object] = {}
    for key_node, value_node in node.value:
        key, key_line = key_node.value, key_node.start_mark.line + 1
        if not isinstance(key, str) or key_node.tag != "tag:yaml.org,2002:str":
            shown = key if isinstance(key, str) else "this one"
            document.mistakes.append((key_line, f"{_dotted((*at, shown))}: a key must be plain text"))
            continue
        where = (*at, key)
        if key in mapping:
            first = document.lines[where]
            document.mistakes.append(
                (key_line, f"{_dotted(where)}: stands twice, first on line {first}; keep one of them")
            )
            continue
        document.lines[where] = key_line
        mapping[key] = _construct(loader, value_node, where, document, inside)
    return mapping


def _explain(error: ValidationError, document: _Document, schema: _Schema) -> list[tuple[int, str]]:
    """Each mistake that pydantic found, as (line, message)."""
    mistakes = []
    for item in error.errors(include_url=False):
        where, place = _locate(item["loc"], document, schema)
        kind, message = item["type"], item["msg"].removeprefix("Value error, ")
        if kind == "extra_forbidden":
            allowed = sorted(place.get("properties", {}))
            guess = _guess(str(where[-1]), allowed)
            text = f"{_dotted(where)}: unknown key{guess}; allowed: {', '.join(allowed)}"
        elif kind == "missing":
            text = f"{_dotted(where)}: is missing{_hint(place, where)}"
        elif kind == "union_tag_not_found":
            key, tags = _discriminator(place)
            text = f"{_dotted((*where, key))}: is missing; one of {', '.join(tags)}"
        elif kind == "union_tag_invalid":
            key, tags = _discriminator(place)
            given = str(item.get("ctx", {}).get("tag", ""))
            where = (*where, key)
            text = f"{_dotted(where)}: {given!r} is unknown{_guess(given, tags)}; allowed: {', '.join(tags)}"
        else:
            given = f"; got {item['input']!r}" if isinstance(item["input"], (str, int, float)) else ""
            text = f"{_dotted(where)}: {message[:1].lower()}{message[1:]}{given}"
        mistakes.append((_line(where, document), text))
    return mistakes


def _locate(loc: Sequence[str | int], document: _Document, schema: _Schema) -> tuple[_Key, _Schema]:
    """Where in the file pydantic's `loc` points, and the schema of the mapping that holds its last key.

    pydantic puts the tag of a union into `loc`; no key of the file has that name at that place.
    """
    definitions = schema.get("$defs", {})
    at: _Key = ()
    holder = place = _resolved(schema, definitions)
    for part in loc:
        mapping = place.get("discriminator", {}).get("mapping", {})
        if part in mapping and (*at, part) not in document.lines:
            place = _resolved({"$ref": mapping[part]}, definitions)
            holder = place
            continue
        holder = place
        at = (*at, part)
        place = _resolved(
            place.get("items", {}) if isinstance(part, int) else _member(place, part),
            definitions,
        )
    return at, place if "discriminator" in place else holder


def _member(place: _Schema, key: str) -> _Schema:
    """The schema of a mapping's member; in a mapping of names all have the same."""
    named: _Schema = place.get("properties", {}).get(key, {})
    others = next(iter(place.get("patternProperties", {}).values()), place.get("additionalProperties"))
    return named or (others if isinstance(others, dict) else {})


def _resolved(schema: _Schema, definitions: Mapping[str, Any]) -> _Schema:
    """`schema` with its reference followed, and without the null of an optional one."""
    while True:
        if "$ref" in schema:
            schema = definitions[schema["$ref"].rpartition("/")[2]]
        elif "anyOf" in schema:
            others = [option for option in schema["anyOf"] if option.get("type") != "null"]
            if len(others) != 1:
                return schema
            schema = others[0]
        else:
            return schema


def _discriminator(place: _Schema) -> tuple[str, list[str]]:
    found = place.get("discriminator", {})
    return found.get("propertyName", "kind"), sorted(found.get("mapping", {}))


def _hint(holder: _Schema, where: _Key) -> str:
    description = holder.get("properties", {}).get(where[-1], {}).get("description") if where else None
    return f"; {description}" if description else ""


def _guess(word: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, allowed, n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def _line(where: _Key, document: _Document) -> int:
    """The line of a key, or of the nearest mapping around it where the key is missing."""
    while where and where not in document.lines:
        where = where[:-1]
    return document.lines.get(where, 1)


def _dotted(where: _Key) -> str:
    return ".".join(str(part) for part in where) or "the file"


def _kind(data: object) -> str:
    return "empty" if data is None else f"a {type(data).__name__}"


def _anchored(model: _Model, folder: Path) -> _Model:
    """`model` with each relative path in it set below `folder`, and `~` filled in."""
    changes: dict[str, object] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Path):
            changes[name] = Path(os.path.normpath(folder / value.expanduser()))
        elif isinstance(value, BaseModel):
            changes[name] = _anchored(value, folder)
        elif isinstance(value, dict):
            changes[name] = {
                key: _anchored(item, folder) if isinstance(item, BaseModel) else item
                for key, item in value.items()
            }
        elif isinstance(value, tuple):
            changes[name] = tuple(
                _anchored(item, folder)
                if isinstance(item, BaseModel)
                else Path(os.path.normpath(folder / item.expanduser()))
                if isinstance(item, Path)
                else item
                for item in value
            )
    return model.model_copy(update=changes)
