"""Labels of a real outbox become the next calibration, as the command makes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from edge.bundle import Bundle, load_bundle
from edge.calibration_file import read_calibration
from edge.calibration_store import CalibrationStore
from edge.clock import utc_now
from edge.commands.calibrate import app
from edge.inspection import Outcome
from edge.messages import PictureInfo, PictureKind, TriggerKind
from edge.outbox import Outbox
from edge.outbox_config import OutboxConfig
from edge.outbox_labels import PartLabel
from edge.region_rules import RegionRules, Zone
from edge.testing.verdicts import sample_verdict
from tests.tiny_bundle import make_tiny_bundle

RUN = CliRunner().invoke
THRESHOLD = 1.0
DAY = datetime(2030, 5, 1, 6, tzinfo=timezone.utc)
CORNER = ((0.0, 0.0), (0.2, 0.0), (0.0, 0.2))


@dataclass
class Rig:
    """A rig's state, and the bundle that it judges by."""

    state: Path
    bundle: Bundle
    outbox: Outbox
    made: int = 0

    def judge(self, score: float, label: str | None = None, **said: object) -> str:
        """One part, its score held against the threshold, and what a person says of it."""
        calibration = self.bundle.calibration
        assert calibration is not None
        fails = score > THRESHOLD
        changes = {
            "outcome": Outcome.FAIL if fails else Outcome.PASS,
            "score": score,
            "threshold": THRESHOLD,
            "model_sha256": self.bundle.model_sha256,
            "calibration_id": calibration.calibration_id,
            "calibration_version": None,
            "trigger": TriggerKind.COMMAND,
            "creation_time": DAY + timedelta(minutes=self.made),
            **said,
        }
        verdict = sample_verdict(self.made, regions=int(fails)).model_copy(update=changes)
        self.made += 1
        self.outbox.commit(verdict)
        if label is not None:
            self.label(verdict.result_id, label)
        return verdict.result_id

    def label(self, result_id: str, label: str, by: str = "anna") -> None:
        self.outbox.label(PartLabel(result_id, by, label, None, utc_now()))

    def fit(self, *options: str) -> Result:
        return RUN(
            app,
            [
                "fit",
                "--bundle",
                str(self.bundle.path),
                "--labels",
                str(self.state),
                "--alpha",
                "0.05",
                *options,
            ],
        )


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    bundle = load_bundle(make_tiny_bundle(tmp_path / "bundle"))
    with Outbox(tmp_path / "state/outbox", OutboxConfig(keep_free_mb=0)) as outbox:
        yield Rig(tmp_path / "state", bundle, outbox)


def line(rig: Rig, count: int = 100) -> list[float]:
    """Good parts as they come, two of which were rejected and labelled, and a bad one that was found."""
    scores = list(np.linspace(0.3, 0.99, count - 2)) + [1.2, 1.3]
    for score in scores:
        rig.judge(float(score), "good" if score > THRESHOLD else None)
    rig.judge(5.0, "dent")
    return scores


def test_rejected_good_parts_raise_the_threshold(rig: Rig, tmp_path: Path) -> None:
    scores = line(rig)
    result = rig.fit("--out", str(tmp_path / "next"), "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["good_parts"], said["bad_parts"]) == (100, 1)
    assert said["found_by_defect"]["dent"] == {**said["found_by_defect"]["dent"], "count": 1, "of": 1}
    found = read_calibration(tmp_path / "next", rig.bundle.model_sha256)
    assert found is not None
    assert found.threshold in scores
    assert found.threshold > 0.99 - 1e-9  # 95 % confidence of 5 % allows one of a hundred above it
    assert found.method == "conformal"
    assert rig.bundle.calibration is not None
    assert found.replaces == rig.bundle.calibration.calibration_id
    assert "98 parts that passed have no label" in (found.note or "")


def test_a_rejected_part_without_a_label_is_no_gap_to_step_over(rig: Rig, tmp_path: Path) -> None:
    line(rig)
    unknown = rig.judge(2.0)
    result = rig.fit()
    assert result.exit_code == 11
    assert unknown in " ".join(result.output.split())
    assert "--until" in result.output
    counted = rig.fit("--unlabelled-good", "--json")
    assert counted.exit_code == 0, counted.output
    assert json.loads(counted.stdout)["good_parts"] == 101
    assert "without a label count as good" in counted.stdout
    before = DAY + timedelta(minutes=101)  # the one without a label came then
    ended = rig.fit("--until", before.astimezone().strftime("%Y-%m-%dT%H:%M:%S"), "--json")
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["good_parts"] == 100


def test_a_part_is_bad_where_anybody_says_so(rig: Rig) -> None:
    line(rig)
    passed = rig.judge(0.5, "good")
    rig.label(passed, "scratch", by="ben")
    said = json.loads(rig.fit("--json").stdout)
    assert (said["good_parts"], said["bad_parts"]) == (100, 2)
    assert said["found_by_defect"]["scratch"]["count"] == 0
    rig.label(passed, "dent", by="carl")  # of two defects the newest name counts, as for the part's capture
    assert set(json.loads(rig.fit("--json").stdout)["found_by_defect"]) == {"dent"}


def test_only_this_models_parts_count(rig: Rig) -> None:
    line(rig)
    rig.judge(9.0, "good", model_sha256="f" * 64)
    rig.judge(9.0, "good", trigger=TriggerKind.EVERY_FRAME)
    rig.judge(9.0, "good", outcome=Outcome.NO_DECISION, reason="part_exceeds_view")
    plain = rig.fit("--json")
    assert json.loads(plain.stdout)["good_parts"] == 100
    assert "1 frames of free running" in plain.stdout
    assert json.loads(rig.fit("--frames-are-parts", "--json").stdout)["good_parts"] == 101


def test_scores_by_other_region_rules_are_left_out(rig: Rig, tmp_path: Path) -> None:
    line(rig)
    calibration = rig.bundle.calibration
    assert calibration is not None
    ruled = calibration.model_copy(
        update={"version": 2, "calibration_id": "c2", "region_rules": RegionRules(min_area_mm2=2.0)}
    )
    CalibrationStore(rig.state).add(ruled)
    nothing = rig.fit()
    assert nothing.exit_code == 11
    assert "other region rules" in " ".join(nothing.output.split())
    for score in np.linspace(0.2, 0.8, 60):
        rig.judge(float(score), calibration_id="c2", calibration_version=2)
    rig.judge(0.9, calibration_id="c9", calibration_version=9)  # of which nothing is known here
    result = rig.fit("--out", str(tmp_path / "next"), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["good_parts"] == 60
    found = read_calibration(tmp_path / "next", rig.bundle.model_sha256)
    assert found is not None
    assert found.region_rules == ruled.region_rules
    assert found.replaces == "c2"


def test_a_zone_that_is_scaled_by_the_threshold_is_refused(rig: Rig) -> None:
    line(rig)
    calibration = rig.bundle.calibration
    assert calibration is not None
    zone = Zone(name="thread", corners=CORNER, threshold=0.5)
    CalibrationStore(rig.state).add(
        calibration.model_copy(update={"version": 2, "region_rules": RegionRules(zones=(zone,))})
    )
    result = rig.fit()
    assert result.exit_code == 11
    assert "zone with a threshold of its own" in " ".join(result.output.split())


def test_one_part_counts_once_by_its_serial(rig: Rig) -> None:
    line(rig)
    rig.judge(0.5, part_id="4711")
    rig.judge(0.6, part_id="4711")
    assert json.loads(rig.fit("--json").stdout)["good_parts"] == 102
    assert json.loads(rig.fit("--dedupe", "--json").stdout)["good_parts"] == 101


def test_the_page_shows_the_heatmaps_that_are_kept(rig: Rig, tmp_path: Path) -> None:
    line(rig)
    seen = rig.judge(1.4, "good")
    jpeg = b"\xff\xd8 a picture \xff\xd9"
    with_picture = PictureInfo(
        kind=PictureKind.HEATMAP,
        result_id=seen,
        epoch=7,
        seq=rig.made - 1,
        encoding="image/jpeg",
        width_px=4,
        height_px=4,
        low=0.0,
        high=1.0,
        colour_map="turbo",
        size_bytes=len(jpeg),
        sha256=hashlib.sha256(jpeg).hexdigest(),
    )
    rig.outbox.add_picture(with_picture, jpeg)
    result = rig.fit("--out", str(tmp_path / "next"))
    assert result.exit_code == 0, result.output
    page = (tmp_path / "next/calibration.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 1
    assert seen in page


def test_no_state_and_what_does_not_go_together_are_told(rig: Rig, tmp_path: Path) -> None:
    gone = RUN(app, ["fit", "--bundle", str(rig.bundle.path), "--labels", str(tmp_path)])
    assert gone.exit_code == 11
    assert "state folder" in " ".join(gone.output.split())
    assert rig.fit().exit_code == 11  # nothing was judged yet
    for options in (["--captures", str(tmp_path)], ["--rules", str(tmp_path / "rules.yaml")]):
        assert rig.fit(*options).exit_code == 2
    for options in (["--labels", str(rig.state)], ["--scores", "s.csv", "--since", "2030-01-01"]):
        assert RUN(app, ["fit", *options]).exit_code == 2
