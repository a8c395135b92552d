"""What a change of a message's JSON Schema breaks, for those who wrote against the one before.

Of what a rig says, everything that it may say now must have been possible before: a consumer passes over
fields that it does not know, and counts on the rest. Of what a rig is told, everything that could be said
before must be taken now. Both ask whether one schema lies within another.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["Schema", "breaks_consumers", "breaks_senders"]

Schema = Mapping[str, Any]

_SILENT = {"$defs", "$schema", "default", "description", "title"}  # say nothing of what a value may be
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_LOOKED_INTO = {
    *(
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "enum",
        "items",
        "oneOf",
        "prefixItems",
        "properties",
    ),
    *("required", "type", *_LOWER, *_UPPER),
}


def breaks_consumers(old: Schema, new: Schema) -> list[str]:
    """What a program that reads messages of `old` may not be prepared for in one of `new`; none is well."""
    return list(_Within(new, old, told=False).reasons(new, old, "message"))


def breaks_senders(old: Schema, new: Schema) -> list[str]:
    """What a program that sends messages of `old` may send that `new` does not take; none is well."""
    return list(_Within(old, new, told=True).reasons(old, new, "message"))


class _Within:
    """Reasons why a value of one schema, `part`, may be none of another, `whole`.

    `told`: the receiver of `whole` refuses fields that it does not know; else it passes over them.
    """

    def __init__(self, part: Schema, whole: Schema, *, told: bool) -> None:
        self._part, self._whole = part, whole
        self._told = told
        self._open: set[tuple[str, str]] = set()  # pairs that are being compared: a schema may hold itself

    def reasons(self, part: Schema, whole: Schema, path: str) -> Iterator[str]:
        pair = json.dumps(part, sort_keys=True), json.dumps(whole, sort_keys=True)
        if pair in self._open:
            return
        self._open.add(pair)
        wholes = list(_alternatives(whole, self._whole))
        for one in _alternatives(part, self._part):
            found = [list(self._of_one(one, other, path)) for other in wholes]
            if found and all(found):
                alike = [
                    reasons
                    for reasons, other in zip(found, wholes, strict=True)
                    if _kind(one) == _kind(other)
                ]
                yield from min(alike, key=len) if alike else [f"{path}: may be {_kind(one)}"]
        self._open.discard(pair)

    def _of_one(self, part: Schema, whole: Schema, path: str) -> Iterator[str]:
        yield from _values(part, whole, path)
        if not _same_type(part, whole):
            yield f"{path}: is {_kind(part)}, not {_kind(whole)}"
            return
        yield from _bounds(part, whole, path)
        for keyword in sorted((set(part) | set(whole)) - _SILENT - _LOOKED_INTO):
            if keyword in whole and part.get(keyword) != whole[keyword]:
                yield f"{path}: {keyword} is not {whole[keyword]!r}"
        yield from self._fields(part, whole, path)
        yield from self._items(part, whole, path)

    def _fields(self, part: Schema, whole: Schema, path: str) -> Iterator[str]:
        ours, theirs = part.get("properties", {}), whole.get("properties", {})
        required = set(part.get("required", ()))
        for name, schema in theirs.items():
            if name in ours:
                yield from self.reasons(ours[name], schema, f"{path}.{name}")
                if name in whole.get("required", ()) and name not in required:
                    yield f"{path}.{name}: may be missing"
            elif not self._told or name in whole.get("required", ()):
                yield f"{path}.{name}: is missing"
        if self._told and whole.get("additionalProperties") is False:
            yield from (f"{path}.{name}: is not taken" for name in ours if name not in theirs)
        ours_more, theirs_more = part.get("additionalProperties"), whole.get("additionalProperties")
        if isinstance(theirs_more, Mapping):
            more = ours_more if isinstance(ours_more, Mapping) else {}
            if ours_more is not False:
                yield from self.reasons(more, theirs_more, f"{path}.*")

    def _items(self, part: Schema, whole: Schema, path: str) -> Iterator[str]:
        ours, theirs = part.get("prefixItems", []), whole.get("prefixItems", [])
        if len(ours) != len(theirs):
            yield f"{path}: has {len(ours)} places, not {len(theirs)}"
        for place, (one, other) in enumerate(zip(ours, theirs, strict=False)):
            yield from self.reasons(one, other, f"{path}[{place}]")
        if "items" in whole:
            yield from self.reasons(part.get("items", {}), whole["items"], f"{path}[]")


def _alternatives(schema: Schema, document: Schema) -> Iterator[Schema]:
    """What a value may be, one schema for each kind; references followed."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        around = {key: value for key, value in schema.items() if key != "$ref" and key not in _SILENT}
        yield from _alternatives({**document["$defs"][name], **around}, document)
        return
    for union in ("anyOf", "oneOf"):
        if union in schema:
            for one in schema[union]:
                yield from _alternatives(one, document)
            return
    kinds = schema.get("type")
    if isinstance(kinds, list):
        for kind in kinds:
            yield {**schema, "type": kind}
        return
    yield schema


def _kind(schema: Schema) -> str:
    said = schema.get("type")
    return said if isinstance(said, str) else "anything"


def _same_type(part: Schema, whole: Schema) -> bool:
    ours, theirs = _kind(part), _kind(whole)
    return theirs in (ours, "anything") or (ours, theirs) == ("integer", "number")


def _listed(schema: Schema) -> Sequence[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values: Sequence[Any] | None = schema.get("enum")
    return values


def _values(part: Schema, whole: Schema, path: str) -> Iterator[str]:
    ours, theirs = _listed(part), _listed(whole)
    if theirs is None:
        return
    if ours is None:
        yield f"{path}: may be any {_kind(part)}, not only {', '.join(map(repr, theirs))}"
        return
    yield from (f"{path}: may be {value!r}" for value in ours if value not in theirs)


def _bounds(part: Schema, whole: Schema, path: str) -> Iterator[str]:
    for keywords, looser in ((_LOWER, operator.lt), (_UPPER, operator.gt)):
        for keyword in keywords:
            if keyword in whole and (keyword not in part or looser(part[keyword], whole[keyword])):
                yield f"{path}: {keyword} is {part.get(keyword, 'none')}, not {whole[keyword]}"
