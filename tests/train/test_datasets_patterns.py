"""Paths with names in them: what is found leads back to where it was found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from train.datasets.patterns import PathPattern

WORDS = st.text("ab[]*?!.-() äß0", min_size=1, max_size=6).filter(lambda word: word not in {".", ".."})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label=WORDS, number=WORDS)
def test_what_is_found_fills_the_pattern_to_the_path_that_was_found(
    tmp_path_factory: pytest.TempPathFactory, label: str, number: str
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    path = folder / "test" / label / "rgb" / f"{number}.png"
    path.parent.mkdir(parents=True)
    path.touch()
    pattern = PathPattern("test/{label}/rgb/{id}.png")
    found = list(pattern.find(folder))
    assert found == [(path, {"label": label, "id": number})]
    for where, words in found:
        assert list(folder.glob(pattern.filled(words))) == [where]
        assert list(pattern.find(folder, {"label": words["label"]})) == [(where, words)]
        assert list(pattern.find(folder, {"label": "other"})) == []


def test_a_name_that_stands_twice_must_be_the_same(tmp_path: Path) -> None:
    for name in ("a/a_1.png", "a/b_1.png", "b/b_2.png", "deep/er/b/b_3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    pattern = PathPattern("{label}/{label}_{id}.png")
    assert [words for _, words in pattern.find(tmp_path)] == [
        {"label": "a", "id": "1"},
        {"label": "b", "id": "2"},
    ]
    assert pattern.names == ("label", "id")
    anywhere = PathPattern("**/b/{label}_{id}.png")
    assert [words["id"] for _, words in anywhere.find(tmp_path)] == ["2", "3"]


@pytest.mark.parametrize(
    "text", ["", "/a/{id}", "a/../{id}", "{Id}", "{id", "id}", "a[0]/{id}", "a?", "a**/{id}", "**", "{}"]
)
def test_what_is_no_such_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|holds|no name"):
        PathPattern(text)
