"""Messages: strict JSON, UTC, and schemas and documentation that are in step with the models."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.clock import Session, boot_id, clock_synced, next_epoch, utc_now
from edge.errors import ConfigError
from edge.inspection import Durations, Inspection, Outcome, Region
from edge.messages import MachineState, MachineStateName, Message, Verdict
from edge.order_messages import ORDERS
from edge.publisher import DeliveryReport
from edge.schemas import TOPICS, main, schema_files, with_documentation
from edge.testing import flat_frame
from edge.verdict import REGIONS_MAX, Circumstances, Provenance, error_verdict, verdict_from_inspection

DOCS = Path(__file__).parents[2] / "docs"
SESSION = Session(epoch=1, boot_id="b", software_version="0")
PROVENANCE = Provenance(
    session=SESSION,
    product="plate",
    method="ast",
    model_sha256="a" * 64,
    calibration_id=None,
    threshold_provisional=None,
    job_id="4711",
    is_simulated=False,
)
NOW = datetime(2030, 1, 31, 12, 0, 0, 5, tzinfo=timezone.utc)
CIRCUMSTANCES = Circumstances(PROVENANCE, "SN1", 3, NOW, NOW, 33.0, 40.0, clock_synced=True)
REGION = Region(bbox_px=(1, 2, 3, 4), centroid_px=(2.5, 4.0), area_px=12, area_mm2=1.5, peak=3.0)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.none()


def inspection(**changes: Any) -> Inspection:
    given_: dict[str, Any] = {
        "frame": flat_frame(7, part_id="bent/000"),
        "outcome": Outcome.FAIL,
        "durations": Durations(1.0, 2.0, 3.5),
        "score": 2.0,
        "threshold": 1.0,
        "regions": (REGION,),
    }
    return Inspection(**(given_ | changes))


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((DOCS / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


class TestVerdict:
    def test_says_what_the_inspection_says(self) -> None:
        found = inspection()
        verdict = verdict_from_inspection(found, CIRCUMSTANCES)
        data = json.loads(verdict.to_json())
        validator("verdict").validate(data)
        assert data["outcome"] == "fail"
        assert (data["score"], data["threshold"]) == (2.0, 1.0)
        assert data["part_id"] == "bent/000"
        assert (data["epoch"], data["seq"], data["frame_seq"]) == (1, 3, 7)
        assert data["captured_monotonic_ns"] == found.frame.captured_ns
        assert data["creation_time"] == "2030-01-31T12:00:00.000005Z"
        assert data["processing_times"]["processing_duration_ms"] == 6.5
        assert data["regions"] == [
            {
                "bbox_px": [1, 2, 3, 4],
                "centroid_px": [2.5, 4.0],
                "area_px": 12,
                "area_mm2": 1.5,
                "peak": 3.0,
            }
        ]
        assert Verdict.model_validate_json(verdict.to_json()) == verdict

    def test_each_has_an_id_of_its_own(self) -> None:
        found = inspection()
        ids = {verdict_from_inspection(found, CIRCUMSTANCES).result_id for _ in range(100)}
        assert len(ids) == 100

    def test_keeps_the_worst_regions_and_counts_all(self) -> None:
        regions = tuple(replace(REGION, peak=float(100 - i)) for i in range(REGIONS_MAX + 5))
        verdict = verdict_from_inspection(inspection(regions=regions), CIRCUMSTANCES)
        assert verdict.regions_total == REGIONS_MAX + 5
        assert [r.peak for r in verdict.regions] == [r.peak for r in regions[:REGIONS_MAX]]
        assert len(verdict.to_json()) < 8192

    @given(score=NUMBERS, threshold=NUMBERS, peak=st.floats(), outcome=st.sampled_from(Outcome))
    def test_no_number_makes_it_invalid_and_none_that_is_not_finite_passes(
        self, score: float | None, threshold: float | None, peak: float, outcome: Outcome
    ) -> None:
        found = inspection(
            score=score, threshold=threshold, outcome=outcome, regions=(replace(REGION, peak=peak),)
        )
        verdict = verdict_from_inspection(found, CIRCUMSTANCES)
        text = verdict.to_json().decode()
        assert "NaN" not in text
        assert "Infinity" not in text
        validator("verdict").validate(json.loads(text))
        numbers = [n for n in (score, threshold, peak) if n is not None]
        if all(math.isfinite(n) for n in numbers):
            assert verdict.outcome is outcome
        else:
            assert (verdict.outcome, verdict.reason, verdict.score) == (Outcome.ERROR, "not_finite", None)

    def test_an_error_without_a_frame_is_a_verdict_too(self) -> None:
        verdict = error_verdict("frame_error", "depth is NaN", CIRCUMSTANCES)
        data = json.loads(verdict.to_json())
        validator("verdict").validate(data)
        assert (data["outcome"], data["reason"], data["frame_seq"]) == ("error", "frame_error", None)


class TestStrictness:
    def test_local_time_is_refused(self) -> None:
        for time in (NOW.replace(tzinfo=None), NOW.astimezone(timezone(timedelta(hours=1)))):
            with pytest.raises(ValidationError, match=r"UTC|timezone"):
                MachineState(
                    state=MachineStateName.READY,
                    reason=None,
                    detail=None,
                    creation_time=time,
                    epoch=1,
                    boot_id="b",
                )

    def test_all_messages_are_frozen_strict_and_finite(self) -> None:
        for model in Message.__subclasses__():
            assert model.model_config["frozen"], model
            assert model.model_config["extra"] == "forbid", model
            assert model.model_config["allow_inf_nan"] is False, model

    def test_the_schema_refuses_what_is_no_verdict(self) -> None:
        good = json.loads(verdict_from_inspection(inspection(), CIRCUMSTANCES).to_json())
        check = validator("verdict")
        check.validate(good)
        for key, value in {
            "outcome": "maybe",
            "creation_time": "2030-01-31T12:00:00+01:00",
            "model_sha256": "x",
            "extra": 1,
            "seq": -1,
            "schema_version": 2,
        }.items():
            assert not check.is_valid(good | {key: value}), key
        for key in good:
            assert not check.is_valid({k: v for k, v in good.items() if k != key}), key


class TestDocuments:
    def test_schemas_are_those_of_the_models(self) -> None:
        written = {p.name: json.loads(p.read_text(encoding="utf-8")) for p in (DOCS / "schemas").iterdir()}
        made = {name: json.loads(text) for name, text in schema_files().items()}
        assert written == made, "run `python -m edge.schemas docs/schemas`"

    def test_the_page_is_that_of_the_models(self) -> None:
        page = (DOCS / "mqtt.md").read_text(encoding="utf-8")
        assert page == with_documentation(page), "run `python -m edge.schemas docs/schemas`"

    def test_examples_validate_and_the_table_says_how_they_are_sent(self) -> None:
        names = {"state/machine": "machine_state", "state/recipe": "recipe_state", "resp/{client}": "answer"}
        names |= {f"cmd/{order.command}": f"cmd_{order.command}" for order in ORDERS}
        for entry in TOPICS:
            if entry.example is None:
                continue
            name = names.get(entry.topic, "picture_info" if entry.topic.endswith("/info") else entry.topic)
            validator(name).validate(json.loads(entry.example.to_json()))
            assert (entry.example.qos, entry.example.retained) == (entry.qos, entry.retained)

    def test_writes_where_it_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "mqtt.md").write_text((DOCS / "mqtt.md").read_text(encoding="utf-8"), encoding="utf-8")
        assert main([]) == 2
        assert main([str(tmp_path / "schemas")]) == 0
        assert {p.name for p in (tmp_path / "schemas").iterdir()} == set(schema_files())
        with pytest.raises(ValueError, match="must hold the lines"):
            with_documentation("no marks")


class TestClock:
    def test_epoch_grows_whatever_the_clock_does(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state = tmp_path / "state"
        first = next_epoch(state)
        monkeypatch.setattr("edge.clock.time.time_ns", lambda: 0)  # a device that booted without the time
        second, third = next_epoch(state), next_epoch(state)
        assert first < second < third

    def test_epoch_without_a_folder_is_the_clock(self) -> None:
        assert next_epoch(None) > datetime(2024, 1, 1, tzinfo=timezone.utc).timestamp() * 1000

    def test_a_damaged_epoch_is_told_and_mended(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "epoch").write_bytes(b"\xff\x00")
        epoch = next_epoch(tmp_path)
        assert "damaged" in caplog.text
        assert next_epoch(tmp_path) > epoch

    def test_a_folder_that_is_none_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match=r"daemon\.state_dir"):
            next_epoch(tmp_path / "file")

    def test_what_the_kernel_says(self) -> None:
        assert len(boot_id()) == 36
        assert clock_synced() in {True, False, None}
        assert utc_now().utcoffset() == timedelta(0)


def test_what_waits_is_no_error_and_what_was_refused_is_one() -> None:
    assert DeliveryReport(3, waiting=2).error() is None
    refused = DeliveryReport(3, waiting=5, refused=2, reasons=("Not authorized",)).error()
    assert refused is not None
    assert "refused 2 of 5 verdicts" in str(refused)
    assert "Not authorized" in str(refused)
    assert refused.exit_code == 7
