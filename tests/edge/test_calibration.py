from __future__ import annotations

import math
from datetime import datetime, timezone
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.calibration import (
    CALIBRATION_FILE,
    MAX_GOOD_SCORES,
    Calibration,
    calibrate_by_quantile,
    read_calibration,
    write_calibration,
)
from edge.errors import BundleCorrupt, CalibrationError
from edge.sealed import seal

MADE = datetime(2030, 1, 1, 12, 30, tzinfo=timezone.utc)
MODEL = "0" * 64


def found_in(scores: list[float], rate: float) -> Calibration:
    return calibrate_by_quantile(scores, false_reject_rate=rate, model_sha256=MODEL, created_utc=MADE)


@given(st.integers(1, 300), st.integers(1, 999))
def test_the_threshold_is_the_score_of_the_rank_that_is_asked_for(count: int, per_mille: int) -> None:
    scores = [float(rank) for rank in range(count, 0, -1)]  # a score is its own rank
    rank = math.ceil((count + 1) * (1 - Fraction(per_mille, 1000)))  # on paper, without floats
    calibration = found_in(scores, per_mille / 1000)
    assert calibration.threshold == min(rank, count)
    assert calibration.good_parts == count
    assert sum(score > calibration.threshold for score in scores) <= per_mille / 1000 * (count + 1)


def test_a_calibration_says_how_it_was_found() -> None:
    calibration = found_in([0.1, 0.3, 0.2], 0.02)
    assert calibration.threshold == 0.3
    assert calibration.provisional
    assert calibration.method == "quantile"
    assert calibration.calibration_id == "20300101T123000Z-quantile"


@pytest.mark.parametrize(
    ("scores", "rate", "words"),
    [
        ([], 0.02, "hold some good parts out"),
        ([0.1, math.nan, math.inf], 0.02, "2 of 3 scores"),
        ([0.1], 0.0, "false_reject_rate is 0.0"),
        ([0.1], 1.0, "false_reject_rate is 1.0"),
        ([0.1], 2.0, "between 0 and 1"),
        ([0.1], math.nan, "false_reject_rate is nan"),
    ],
)
def test_what_gives_no_threshold(scores: list[float], rate: float, words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        found_in(scores, rate)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    calibration = found_in([0.1 + 0.2, 1e-17, 12345.678], 0.5)
    write_calibration(tmp_path, calibration)
    assert read_calibration(tmp_path, MODEL) == calibration
    assert [p.name for p in tmp_path.iterdir()] == [CALIBRATION_FILE]


def test_none_is_none() -> None:
    assert read_calibration(Path("/nowhere"), MODEL) is None


def test_a_link_that_leads_nowhere_is_not_none(tmp_path: Path) -> None:
    (tmp_path / CALIBRATION_FILE).symlink_to(tmp_path / "gone.yaml")
    with pytest.raises(BundleCorrupt, match=r"calibration\.yaml: is missing"):
        read_calibration(tmp_path, MODEL)


def test_that_of_another_model_is_refused(tmp_path: Path) -> None:
    write_calibration(tmp_path, found_in([0.1], 0.02))
    with pytest.raises(CalibrationError, match="found for model 000000000000…, this is ffffffffffff…"):
        read_calibration(tmp_path, "f" * 64)


def test_one_edited_by_hand_is_refused(tmp_path: Path) -> None:
    write_calibration(tmp_path, found_in([0.1], 0.02))
    path = tmp_path / CALIBRATION_FILE
    path.write_text(path.read_text().replace("threshold: 0.1", "threshold: 9.1"))
    with pytest.raises(BundleCorrupt, match="edited by hand"):
        read_calibration(tmp_path, MODEL)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("threshold: .nan", "threshold"),
        ("threshold: .inf", "threshold"),
        ("threshold: high", "threshold"),
        ("treshold: 0.1", "treshold"),
        ("created_utc: '2030-01-01T12:00:00'", "created_utc"),
        ("created_utc: 2030-13-45", "plain data"),
        ("good_parts: 0", "good_parts"),
        ("provisional: !!python/name:os.system", "plain data"),
        ("- a list", "calibration"),
    ],
)
def test_one_sealed_but_wrong_says_what_is_wrong(line: str, words: str, tmp_path: Path) -> None:
    write_calibration(tmp_path, found_in([0.1], 0.02))
    path = tmp_path / CALIBRATION_FILE
    key = line.split(":", maxsplit=1)[0]
    others = [kept for kept in path.read_text().splitlines()[1:] if kept.split(":")[0] != key]
    path.write_text(seal("\n".join([*others, line]) + "\n"))
    with pytest.raises(CalibrationError, match=words) as caught:
        read_calibration(tmp_path, MODEL)
    assert "calibration.yaml: is not a calibration" in str(caught.value)


def test_a_calibration_keeps_the_scores_that_it_was_found_on(tmp_path: Path) -> None:
    calibration = found_in([3.5, 1.25, 2.0], 0.02)
    assert calibration.good_scores == (1.25, 2.0, 3.5)
    write_calibration(tmp_path, calibration)
    assert read_calibration(tmp_path, MODEL) == calibration


def test_of_very_many_scores_some_are_kept_by_chance() -> None:
    scores = [float(number) for number in range(5000)]
    kept = found_in(scores, 0.02).good_scores
    assert kept is not None
    assert len(kept) == MAX_GOOD_SCORES
    assert list(kept) == sorted(set(kept))
    assert set(kept) <= set(scores)
    assert sum(score < 2500 for score in kept) == pytest.approx(MAX_GOOD_SCORES / 2, rel=0.1)
    assert found_in(scores, 0.02).good_scores == kept


def test_the_largest_calibration_can_be_read(tmp_path: Path) -> None:
    calibration = found_in([-math.pi * 1e-300 * (1 + number / 7) for number in range(5000)], 0.02)
    write_calibration(tmp_path, calibration)
    assert read_calibration(tmp_path, MODEL) == calibration


def test_a_calibration_of_before_has_no_scores(tmp_path: Path) -> None:
    text = found_in([1.0, 2.0], 0.02).model_dump_json(exclude={"good_scores"})
    (tmp_path / CALIBRATION_FILE).write_text(seal(text))
    calibration = read_calibration(tmp_path, MODEL)
    assert calibration is not None
    assert calibration.good_scores is None


def test_more_scores_than_parts_are_refused(tmp_path: Path) -> None:
    broken = found_in([1.0, 2.0], 0.02).model_copy(update={"good_parts": 1})
    (tmp_path / CALIBRATION_FILE).write_text(seal(broken.model_dump_json()))
    with pytest.raises(CalibrationError, match="2 good_scores of 1 good_parts"):
        read_calibration(tmp_path, MODEL)
