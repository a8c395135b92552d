from __future__ import annotations

import math
from datetime import datetime, timezone
from pathlib import Path

import pytest

from edge.calibration import MAX_CAPTURES, Calibration
from edge.calibration_file import CALIBRATION_FILE, read_calibration, write_calibration
from edge.errors import BundleCorrupt, CalibrationError
from edge.quantile import calibrate_by_quantile
from edge.region_rules import RegionRules, Zone
from edge.sealed import seal

MADE = datetime(2030, 1, 1, 12, 30, tzinfo=timezone.utc)
MODEL = "0" * 64
LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def found_in(scores: list[float], rate: float) -> Calibration:
    return calibrate_by_quantile(scores, false_reject_rate=rate, model_sha256=MODEL, created_utc=MADE)


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
        ("version: 0", "version"),
        ("review_threshold: 0.1", "must lie below threshold 0.1"),
        ("method: by magic", "method"),
        ("method: conformal", "needs its confidence"),
        ("confidence: 0.95", "no other method has one"),
        ("provisional: false", "promises nothing"),
        ("false_reject_rate: null", "is about a rate"),
        ("good_rate_interval: [0.3, 0.1]", "must be low, high"),
        ("captures: [abc]", "captures"),
        ("region_rules: {zones: [{name: a, corners: [[0, 0], [1, 0], [1, 1]]}]}", "either ignore: true or"),
        ("region_rules: {zones: [{name: a, corners: [[0, 0], [1, 2]], ignore: true}]}", "corners"),
        ("region_rules: {min_area_mm2: 0}", "min_area_mm2"),
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


def test_the_largest_calibration_can_be_read(tmp_path: Path) -> None:
    found = found_in([-math.pi * 1e-300 * (1 + number / 7) for number in range(5000)], 0.02)
    captures = tuple(f"{number:064x}" for number in range(MAX_CAPTURES))
    corners = tuple((number / 300, 1 / 3) for number in range(24))
    zones = tuple(Zone(name=f"{number}" * 30, corners=corners, threshold=1 / 3) for number in range(16))
    calibration = found.model_copy(
        update={
            "captures": captures,
            "region_rules": RegionRules(zones=zones),
            "threshold": 1 / 3,
            "note": "\n" * 1000,
        }
    )
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


def test_all_that_a_calibration_can_say_is_read_as_it_was_written(tmp_path: Path) -> None:
    calibration = Calibration(
        calibration_id="20300101T123000Z-conformal",
        version=7,
        model_sha256=MODEL,
        threshold=2.0,
        review_threshold=1.5,
        method="conformal",
        provisional=False,
        false_reject_rate=0.02,
        confidence=0.95,
        good_rate_interval=(0.0, 0.0125),
        good_parts=2,
        bad_parts=0,
        created_utc=MADE,
        created_by="hmi-3",
        replaces="20291231T060000Z-quantile",
        note="after the new lamp: 40 % brighter",
        region_rules=RegionRules(
            min_area_mm2=2.5,
            zones=(
                Zone(name="label", corners=LEFT, ignore=True),
                Zone(name="thread", corners=LEFT[1:], threshold=0.5),
            ),
        ),
        good_scores=(1.0, 2.0),
        captures=("a" * 64, "b" * 64),
    )
    write_calibration(tmp_path, calibration)
    assert read_calibration(tmp_path, MODEL) == calibration


OF_BEFORE = """schema_version: 1
calibration_id: 20300101T123000Z-quantile
model_sha256: '0000000000000000000000000000000000000000000000000000000000000000'
threshold: 2.0
method: quantile
provisional: true
false_reject_rate: 0.02
good_parts: 2
created_utc: '2030-01-01T12:30:00Z'
good_scores:
- 1.0
- 2.0
"""


def test_a_file_of_the_first_schema_is_read(tmp_path: Path) -> None:
    (tmp_path / CALIBRATION_FILE).write_text(seal(OF_BEFORE))
    calibration = read_calibration(tmp_path, MODEL)
    assert calibration is not None
    assert calibration == found_in([1.0, 2.0], 0.02)
    assert calibration.version == 1
    assert (calibration.region_rules, calibration.review_threshold, calibration.captures) == (None, None, ())


def test_a_schema_of_tomorrow_is_refused(tmp_path: Path) -> None:
    (tmp_path / CALIBRATION_FILE).write_text(
        seal(OF_BEFORE.replace("schema_version: 1", "schema_version: 3"))
    )
    with pytest.raises(CalibrationError, match="schema_version"):
        read_calibration(tmp_path, MODEL)


def test_a_number_set_by_hand_keeps_the_scores_and_promises_nothing() -> None:
    found = found_in([1.0, 2.0], 0.02).model_copy(update={"region_rules": RegionRules(min_area_mm2=2.5)})
    by_hand = found.by_hand(1.25, 1.0, calibration_id="x", changes={"version": 2, "note": "too many rejects"})
    assert (by_hand.threshold, by_hand.review_threshold, by_hand.version) == (1.25, 1.0, 2)
    assert (by_hand.method, by_hand.provisional, by_hand.false_reject_rate) == ("manual", True, None)
    assert (by_hand.region_rules, by_hand.good_scores) == (found.region_rules, found.good_scores)


def test_scores_that_a_zone_scaled_are_not_those_at_another_threshold() -> None:
    rules = RegionRules(zones=(Zone(name="thread", corners=LEFT, threshold=0.5),))
    found = found_in([1.0, 2.0], 0.02).model_copy(update={"region_rules": rules})
    assert found.by_hand(1.25, None, calibration_id="x").good_scores is None
    assert found.by_hand(found.threshold, None, calibration_id="x").good_scores == found.good_scores


@pytest.mark.parametrize(
    ("threshold", "review"), [(math.nan, None), (math.inf, None), (1.0, 1.0), (1.0, math.nan)]
)
def test_a_number_set_by_hand_that_can_be_none_is_refused(threshold: float, review: float | None) -> None:
    with pytest.raises(ValueError, match="threshold"):
        found_in([1.0], 0.02).by_hand(threshold, review, calibration_id="x")


def test_a_zone_of_its_own_threshold_needs_a_threshold_above_0() -> None:
    zone = Zone(name="thread", corners=LEFT, threshold=0.5)
    found = found_in([1.0], 0.02).model_copy(update={"region_rules": RegionRules(zones=(zone,))})
    with pytest.raises(ValueError, match="must be above 0 where a zone"):
        found.by_hand(-0.5, None, calibration_id="x")


def test_zones_have_names_of_their_own() -> None:
    zone = Zone(name="label", corners=LEFT, ignore=True)
    with pytest.raises(ValueError, match="a name of its own"):
        RegionRules(zones=(zone, zone))
