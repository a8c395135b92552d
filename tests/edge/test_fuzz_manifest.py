"""Thousands of manifests that somebody, or some bit, has changed: loaded, or refused with a reason."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle import MANIFEST_FILE
from edge.sealed import read_sealed, seal
from tests.edge.fuzz_worker import Worker
from tests.fuzzing import cases
from tests.tiny_bundle import make_tiny_bundle

Path_ = tuple[str | int, ...]

INTEGERS = st.sampled_from(
    [0, 1, -1, 2, 7, 8, 9, 63, 64, 65, 2**15, 2**20, 2**31 - 1, 2**31, 2**32, 2**63, 2**70, -(2**63)]
)
NUMBERS = st.one_of(INTEGERS, st.integers(-300, 300), st.floats())
WORDS = st.one_of(
    st.sampled_from(
        ["", "x", "..", "../x", "/", "colour", "colour.onnx", "golden", "manifest.yaml", "image", "normals",
         "depth", "z", "mask", "anomaly_map", "colour_map", "null"]
    ),
    st.text(max_size=8),
)  # fmt: skip
CHOICES = st.sampled_from(
    ["max", "mean", "top_mean", "bilinear", "bicubic", "nearest", "touched", "half", "soft", "plane", "raw",
     "height", "square", "frame", "ellipse", "whole", "part", "roi", "off", "axis", "reach", "triangle",
     "stretch", "letterbox", "corners", "float16", "int8", "uint8", "int64", None, 48, [0, 0, 64, 48]]
)  # fmt: skip
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=5),
    st.dictionaries(WORDS, SCALARS, max_size=3),
    st.builds(lambda: [[[[]]]]),
)


def places(data: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Every place of a document, the whole of it left out."""
    items: Any = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("fuzzed") / "b", threshold=None, golden=1)


@pytest.fixture(scope="module")
def manifest(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(read_sealed(folder / MANIFEST_FILE)[0])
    return data


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


def write(folder: Path, manifest: dict[str, Any]) -> None:
    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)
    (folder / MANIFEST_FILE).write_bytes(seal(text).encode(errors="surrogatepass"))


@st.composite
def changed(draw: st.DrawFn, manifest: dict[str, Any]) -> dict[str, Any]:
    data = copy.deepcopy(manifest)
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(data))
        if not found:
            break
        *parents, key = draw(st.sampled_from(found))
        holder: Any = data
        for parent in parents:
            holder = holder[parent]
        how = draw(st.sampled_from(["set", "set", "set", "remove", "add", "copy"]))
        if how == "set":
            number = isinstance(holder[key], int | float) and draw(st.booleans())
            holder[key] = draw(NUMBERS if number else VALUES)
        elif how == "remove":
            del holder[key]
        elif how == "add" and isinstance(holder, dict):
            holder[draw(WORDS)] = draw(VALUES)
        elif how == "copy":
            *others, last = draw(st.sampled_from(found))
            source: Any = data
            for other in others:
                source = source[other]
            holder[key] = copy.deepcopy(source[last])
    return data


@st.composite
def tuned(draw: st.DrawFn, manifest: dict[str, Any]) -> dict[str, Any]:
    """Other numbers, switches and choices where there were some: most get as far as being run."""
    data = copy.deepcopy(manifest)
    parts: list[list[str | int]] = [
        *(["preprocessing", name] for name in ("framing", "foreground", "foreground", "z", "normals")),
        *(["preprocessing"], ["score"], ["tensors"]),
    ]
    for path in draw(st.lists(st.sampled_from(parts), min_size=1, max_size=3)):
        part = _at(data, path)
        leaves = [
            (holder, key)
            for *parents, key in places(part)
            for holder in [_at(part, parents)]
            if not isinstance(holder[key], dict | list)
        ]
        holder, key = draw(st.sampled_from(leaves))
        if isinstance(holder[key], bool):
            holder[key] = not holder[key]
        elif isinstance(holder[key], int):
            holder[key] = draw(st.one_of(st.integers(0, 100), st.integers(0, 16), INTEGERS))
        elif isinstance(holder[key], float):
            holder[key] = draw(st.one_of(st.floats(0, 1), st.floats(0, 10), st.floats(allow_nan=False)))
        else:
            holder[key] = draw(CHOICES)
    return data


def _at(data: Any, path: list[str | int]) -> Any:
    for key in path:
        data = data[key]
    return data


@cases(200)
@given(st.data())
def test_a_manifest_changed_anywhere_and_sealed_anew_runs_or_is_refused(
    folder: Path, manifest: dict[str, Any], worker: Worker, data: st.DataObject
) -> None:
    write(folder, data.draw(changed(manifest)))
    answer = worker.judge(folder)
    assert answer.startswith(("ran: ", "refused: ")), answer


@cases(200)
@given(st.data())
def test_a_manifest_with_other_numbers_runs_or_is_refused(
    folder: Path, manifest: dict[str, Any], worker: Worker, data: st.DataObject
) -> None:
    write(folder, data.draw(tuned(manifest)))
    answer = worker.judge(folder)
    assert answer.startswith(("ran: ", "refused: ")), answer
