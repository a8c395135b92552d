"""A table of scores is read whole, or refused with line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.calibrating.scores import once_per_part, read_scores
from edge.errors import CalibrationError


def written(folder: Path, text: str) -> Path:
    path = folder / "scores.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_all_columns(tmp_path: Path) -> None:
    known = read_scores(
        written(
            tmp_path, "\ufeffpart,score, label ,lot\nA1,0.5,good,mon\nA2,0.75,OK,\n,1.5,dent,tue\n,0.1,,\n"
        )
    )
    assert [part.score for part in known.good] == [0.5, 0.75, 0.1]
    assert [(part.score, part.defect, part.lot) for part in known.bad] == [(1.5, "dent", "tue")]
    assert [part.lot for part in known.good] == ["mon", None, None]
    assert [part.name for part in known.parts] == ["A1", "A2", "line 4", "line 5"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must name the columns"),
        ("0.5\n0.6\n", "must name the columns"),
        ("score,weight\n1,2\n", "must name the columns"),
        ("score\n", "holds no scores"),
        ("score\n0.5\nabc\n", "line 3: score 'abc' is not a number"),
        ("score\n0.5\nnan\n", "line 3: score 'nan' is not finite"),
        ("score,label\n0.5\n", "line 2: has not as many values"),
        ("score,label\n0.5,good,3\n", "line 2: has not as many values"),
        ('score\n"0.5\n', "is not a CSV file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        read_scores(written(tmp_path, text))


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="check the path"):
        read_scores(tmp_path / "none.csv")
    (tmp_path / "scores.csv").write_bytes(b"score\n\xff\xfe\n")
    with pytest.raises(CalibrationError, match="not a CSV file in UTF-8"):
        read_scores(tmp_path / "scores.csv")


def test_the_same_part_again_is_warned_of_or_counted_once(tmp_path: Path) -> None:
    known = read_scores(
        written(tmp_path, "score,part,label\n1,A,good\n2,B,good\n9,A,good\n3,,good\n4,,good\n5,A,bad\n")
    )
    warned = once_per_part(known, dedupe=False)
    assert len(warned.good) == 5
    assert "1 captures show a part that was there before (A)" in warned.warnings[0]
    assert "--dedupe" in warned.warnings[0]
    once = once_per_part(known, dedupe=True)
    assert [part.score for part in once.good] == [1, 2, 3, 4]
    assert len(once.bad) == 1
    assert once_per_part(once, dedupe=True) is once
