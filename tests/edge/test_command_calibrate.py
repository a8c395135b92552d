"""`edge-calibrate` as a person or a program calls it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from edge.bundle import FileSpec, load_bundle, write_manifest
from edge.calibrating.output import install
from edge.calibrating.scores import read_scores
from edge.calibration_file import read_calibration
from edge.camera.config import RecordingCamera, SimulatedCamera
from edge.camera.factory import source_from_config
from edge.camera.recorder import sidecar_path
from edge.camera.recording import RecordingSource
from edge.captures import list_captures, write_capture
from edge.commands.calibrate import app
from edge.errors import CalibrationError
from edge.inspection import Outcome
from edge.inspector import Inspector
from edge.region_rules import RegionRules, Zone
from edge.runtime import runner_for
from edge.sealed import file_sha256
from edge.signing import sign_bundle
from edge.simulation import RigScene
from edge.simulation.dataset import frame_from_shot, write_lot
from edge.trained_on import TRAINED_ON_FILE, TrainedOn
from tests.browser import needs_chromium, opened
from tests.tiny_bundle import make_tiny_bundle

RUN = CliRunner().invoke


def scores_file(folder: Path, count: int = 400) -> Path:
    rng = np.random.default_rng(0)
    rows = [f"{score},good" for score in rng.standard_normal(count)]
    rows += [f"{score},dent" for score in 5 + rng.standard_normal(20)]
    path = folder / "scores.csv"
    path.write_text("score,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_program_reads_what_is_promised(tmp_path: Path) -> None:
    result = RUN(app, ["fit", "--scores", str(scores_file(tmp_path)), "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["kept"] is True
    assert said["asked_alpha"] == 0.01
    assert said["alpha"] <= 0.01
    assert said["confidence"] == 0.95
    assert said["good_parts"] == 400
    assert said["found_by_defect"]["dent"]["of"] == 20


def test_a_person_reads_the_promise_first(tmp_path: Path) -> None:
    result = RUN(app, ["fit", "--scores", str(scores_file(tmp_path)), "--costs", "1:50"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("At most 0.746 % of good parts are rejected, with 95 % confidence")
    assert "of the bad parts scored" in result.stdout


def test_too_few_parts_end_with_an_error(tmp_path: Path) -> None:
    path = scores_file(tmp_path, 50)
    result = RUN(app, ["fit", "--scores", str(path)])
    assert result.exit_code == 11
    assert "that takes 299" in result.stderr
    taken = RUN(app, ["fit", "--scores", str(path), "--best-effort", "--json"])
    assert taken.exit_code == 0
    assert json.loads(taken.stdout)["kept"] is False


def test_wrong_command_lines(tmp_path: Path) -> None:
    assert RUN(app, ["fit"]).exit_code == 2
    result = RUN(app, ["fit", "--scores", str(scores_file(tmp_path)), "--costs", "50"])
    assert result.exit_code == 11
    assert "two numbers, such as 1:50" in result.stderr


def test_how_many_parts() -> None:
    result = RUN(app, ["need", "--alpha", "0.01", "--delta", "0.05", "--json"])
    assert json.loads(result.stdout)["parts"] == 299
    table = RUN(app, ["need"])
    assert table.exit_code == 0
    assert "2995" in table.stdout


@pytest.fixture(scope="module")
def lots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two lots of simulated plates, good and bad."""
    folder = tmp_path_factory.mktemp("captures")
    for seed in (3, 4):
        scene = RigScene("plate", seed=seed, width_px=320, height_px=240, defective_share=0.4)
        write_lot(scene, folder / f"lot-{seed}", 8)
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "bundle")


def calibrate(*arguments: object) -> Result:
    return RUN(app, [str(argument) for argument in arguments])


def fitted(bundle: Path, captures: Path, *more: object) -> Result:
    return calibrate("fit", "--bundle", bundle, "--captures", captures, "--best-effort", "--json", *more)


class TestCaptures:
    def test_the_score_of_each_capture_is_that_of_the_rig(
        self, bundle: Path, lots: Path, tmp_path: Path
    ) -> None:
        result = fitted(bundle, lots, "--out", tmp_path / "out", "--by", "Ada", "--note", "after cleaning")
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        good, bad = (len(list(lots.glob(pattern))) for pattern in ("*/good/*.rgb.png", "*/*/*.mask.png"))
        assert (said["good_parts"], said["bad_parts"]) == (good, bad)
        assert said["lots"]["parts_by_lot"].keys() == {"lot-3", "lot-4"}
        loaded = load_bundle(bundle)
        with runner_for(loaded) as runner:
            inspector = Inspector(loaded, runner)
            scores = [
                inspector.inspect(sample.frame()).score
                for lot in sorted(lots.iterdir())
                for sample in list_captures(lot)
                if sample.defect is None
            ]
        written = read_scores(tmp_path / "out" / "scores.csv")
        assert [part.score for part in written.good] == scores
        calibration = read_calibration(tmp_path / "out", loaded.model_sha256)
        assert calibration is not None
        assert calibration.threshold == said["threshold"] == max(scores)
        assert calibration.good_scores == tuple(sorted(scores))
        assert calibration.created_by == "Ada"
        assert calibration.replaces == "tiny"
        assert calibration.note is not None
        assert calibration.note.startswith("after cleaning")
        assert calibration.method == "conformal"
        assert calibration.confidence == 0.95
        assert calibration.false_reject_rate == said["alpha"]  # what is promised, not what was asked for
        assert set(calibration.captures) == {file_sha256(path) for path in lots.glob("*/*/*.rgb.png")}

    def test_it_is_installed_for_the_daemon_to_read(self, bundle: Path, lots: Path) -> None:
        before = load_bundle(bundle)
        said = json.loads(fitted(bundle, lots, "--install").stdout)
        after = load_bundle(bundle)
        assert after.model_sha256 == before.model_sha256
        assert after.calibration is not None
        assert after.calibration.threshold == said["threshold"]
        assert not after.calibration.provisional
        shown = calibrate("show", bundle)
        assert shown.exit_code == 0
        assert "95 % confidence" in shown.stdout
        assert json.loads(calibrate("show", bundle, "--json").stdout)["threshold"] == said["threshold"]

    def test_a_signed_bundle_is_not_changed(self, bundle: Path, lots: Path) -> None:
        sign_bundle(bundle, Ed25519PrivateKey.generate())
        before = (bundle / "calibration.yaml").read_bytes()
        result = fitted(bundle, lots, "--install")
        assert result.exit_code == 11
        assert "is signed" in result.stderr
        assert (bundle / "calibration.yaml").read_bytes() == before

    def test_another_models_calibration_is_refused(self, bundle: Path, lots: Path, tmp_path: Path) -> None:
        assert fitted(bundle, lots, "--out", tmp_path / "out").exit_code == 0
        other = make_tiny_bundle(tmp_path / "other", colour=(0.5, 0.5, 0.5))
        shutil.copy(tmp_path / "out" / "calibration.yaml", other / "calibration.yaml")
        with pytest.raises(CalibrationError, match="scores of two models"):
            load_bundle(other)
        calibration = read_calibration(tmp_path / "out", load_bundle(bundle).model_sha256)
        assert calibration is not None
        (other / "calibration.yaml").unlink()
        with pytest.raises(CalibrationError, match="scores of two models"):
            install(other, calibration)

    def test_a_capture_that_was_trained_on_is_refused(self, lots: Path, tmp_path: Path) -> None:
        digests = sorted(file_sha256(path) for path in lots.glob("*/good/*.rgb.png"))
        seen = TrainedOn(train=tuple(digests[:1]), held_out=tuple(digests[1:3]))
        result = fitted(trained_bundle(tmp_path / "seen", seen), lots)
        assert result.exit_code == 11
        assert f"1 of {len(digests)} good captures were trained on" in result.stderr
        held_out = TrainedOn(train=(), held_out=tuple(digests[1:3]))
        result = fitted(trained_bundle(tmp_path / "held", held_out), lots)
        assert result.exit_code == 0
        assert f"2 of {len(digests)} good captures were held out" in json.loads(result.stdout)["warnings"][0]
        unknown = fitted(make_tiny_bundle(tmp_path / "unknown"), lots)
        assert "does not say which captures it was trained on" in json.loads(unknown.stdout)["warnings"][0]

    def test_one_part_that_was_captured_twice_is_found(self, bundle: Path, tmp_path: Path) -> None:
        scene = RigScene("plate", seed=3, defective_share=0.0)
        write_lot(scene, tmp_path / "lot", 3)
        again = RigScene("plate", seed=3, defective_share=0.0).shot(1)
        assert again is not None
        frame = frame_from_shot(scene, 1, again)
        noise = np.random.default_rng(0).integers(-1, 2, frame.rgb.shape)
        frame = replace(frame, rgb=np.clip(frame.rgb + noise, 0, 255).astype(np.uint8))
        write_capture(tmp_path / "lot", "good", frame)
        said = json.loads(fitted(bundle, tmp_path / "lot").stdout)
        assert said["good_parts"] == 4
        assert any("(lot/good/003)" in warning and "--dedupe" in warning for warning in said["warnings"])
        once = json.loads(fitted(bundle, tmp_path / "lot", "--dedupe").stdout)
        assert once["good_parts"] == 3

    def test_what_can_not_be_judged_counts_neither_way(self, bundle: Path, tmp_path: Path) -> None:
        write_lot(RigScene("plate", seed=3, defective_share=0.0), tmp_path / "lot", 3)
        cv2.imwrite(str(tmp_path / "lot/good/001.depth.png"), np.zeros((480, 640), np.uint16))
        said = json.loads(fitted(bundle, tmp_path / "lot").stdout)
        assert said["good_parts"] == 2
        assert any(
            "1 captures can't be judged (1 depth_invalid: lot/good/001)" in w for w in said["warnings"]
        )

    def test_a_model_that_gives_nan_calibrates_nothing(self, lots: Path, tmp_path: Path) -> None:
        result = fitted(make_tiny_bundle(tmp_path / "b", broken="nan"), lots)
        assert result.exit_code == 11
        assert "not_finite" in result.stderr

    def test_region_rules_are_part_of_the_score(self, bundle: Path, lots: Path, tmp_path: Path) -> None:
        rules = tmp_path / "rules.yaml"
        rules.write_text(
            "min_area_mm2: 30\nzones:\n"
            "- {name: left, corners: [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], ignore: true}\n",
            encoding="utf-8",
        )
        plain = json.loads(fitted(bundle, lots).stdout)
        result = fitted(bundle, lots, "--rules", rules, "--install")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["threshold"] < plain["threshold"]
        loaded = load_bundle(bundle)
        assert loaded.calibration is not None
        assert loaded.calibration.region_rules is not None
        assert loaded.calibration.region_rules.min_area_mm2 == 30
        with runner_for(loaded) as runner:  # the rig scores by the same rules
            inspector = Inspector(loaded, runner)
            scores = [
                inspector.inspect(sample.frame()).score
                for lot in sorted(lots.iterdir())
                for sample in list_captures(lot)
                if sample.defect is None
            ]
        assert tuple(sorted(score for score in scores if score is not None)) == loaded.calibration.good_scores
        rules.write_text("min_area: 3\n", encoding="utf-8")
        assert fitted(bundle, lots, "--rules", rules).exit_code == 3

    def test_a_zone_with_a_threshold_of_its_own_is_part_of_the_promise(
        self, bundle: Path, lots: Path, tmp_path: Path
    ) -> None:
        rules = tmp_path / "rules.yaml"
        in_the_zone = sorted(scores_in_the_left_half(bundle, lots))
        plain = json.loads(fitted(bundle, lots).stdout)
        # The worst good part fails by the zone alone, and lies above the threshold in any case.
        write_zone(rules, (in_the_zone[-1] + in_the_zone[-2]) / 2)
        asked = ("--marginal", "--alpha", 0.3)
        result = fitted(bundle, lots, "--rules", rules, "--install", "--out", tmp_path / "out", *asked)
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        assert said["rejected_good"]["of"] == plain["good_parts"]
        assert 1 <= said["rejected_good"]["count"] <= plain["good_parts"] - said["rank"]
        loaded = load_bundle(bundle)
        calibration = loaded.calibration
        assert calibration is not None
        assert calibration.threshold == said["threshold"]
        with runner_for(loaded) as runner:
            inspector = Inspector(loaded, runner)
            samples = [sample for lot in sorted(lots.iterdir()) for sample in list_captures(lot)]
            judged = [(sample.defect, inspector.inspect(sample.frame())) for sample in samples]
        good = [inspection for defect, inspection in judged if defect is None]
        bad = [inspection for defect, inspection in judged if defect is not None]
        assert sum(one.outcome is Outcome.FAIL for one in good) == said["rejected_good"]["count"]
        assert sum(one.outcome is Outcome.FAIL for one in bad) == said["found_bad"]["count"]
        # What the rig's score watch compares with, and what people read, are the rig's scores.
        scores = [one.score for one in good if one.score is not None]
        assert calibration.good_scores == tuple(sorted(scores))
        written = read_scores(tmp_path / "out" / "scores.csv")
        assert [part.score for part in written.good] == scores
        assert [part.score for part in written.bad] == [one.score for one in bad]
        page = (tmp_path / "out" / "calibration.html").read_text(encoding="utf-8")
        assert f"score {max(scores):.4g}" in page
        assert "score inf" not in page

    def test_a_zone_that_rejects_too_many_by_itself_is_named(
        self, bundle: Path, lots: Path, tmp_path: Path
    ) -> None:
        rules = tmp_path / "rules.yaml"
        write_zone(rules, sorted(scores_in_the_left_half(bundle, lots))[2])
        result = fitted(bundle, lots, "--rules", rules)
        assert result.exit_code == 11
        assert "zones reject 5 of 8 good parts by their own thresholds alone" in result.stderr
        assert "zone 'left' rejects 5" in result.stderr
        review = fitted(bundle, lots, "--rules", rules, "--review-alpha", "0.5")
        assert review.exit_code == 11
        assert "--review-alpha finds no band" in review.stderr

    def test_nothing_is_written_over(self, bundle: Path, lots: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("mine")
        result = fitted(bundle, lots, "--out", tmp_path / "out")
        assert result.exit_code == 3
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]

    def test_a_folder_that_is_none(self, bundle: Path, tmp_path: Path) -> None:
        result = fitted(bundle, tmp_path)
        assert result.exit_code == 4
        assert "holds neither capture.yaml" in result.stderr

    def test_a_changed_calibration_is_not_shown(self, bundle: Path) -> None:
        path = bundle / "calibration.yaml"
        path.write_text(path.read_text(encoding="utf-8").replace("0.5", "0.6"), encoding="utf-8")
        assert calibrate("show", bundle).exit_code == 5


PARTS = 6


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good plates as librealsense records them; copy it before changing it."""
    path = tmp_path_factory.mktemp("recording") / "monday.db3"
    config = SimulatedCamera(product="plate", seed=5, parts=PARTS, defective_share=0.0, record_to=path)
    with source_from_config(config) as source:
        assert len(list(source)) == PARTS
    return path


def of_recording(bundle: Path, path: Path, *more: object) -> Result:
    return calibrate("fit", "--bundle", bundle, "--recording", path, "--best-effort", "--json", *more)


class TestRecording:
    @pytest.mark.parametrize("zoned", [False, True])
    def test_every_frame_is_a_good_part_with_the_score_of_the_rig(
        self, bundle: Path, recording: Path, tmp_path: Path, *, zoned: bool
    ) -> None:
        rules = tmp_path / "rules.yaml"
        write_zone(rules, 1e3)  # so high that it fails nothing: all are scored twice all the same
        more = ("--rules", rules) if zoned else ()
        result = of_recording(bundle, recording, "--out", tmp_path / "out", *more)
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        assert (said["good_parts"], said["bad_parts"]) == (PARTS, 0)
        assert said["rejected_good"]["count"] == 0
        loaded = load_bundle(bundle)
        calibration = read_calibration(tmp_path / "out", loaded.model_sha256)
        assert calibration is not None
        judged_by = replace(loaded, calibration=calibration)
        with runner_for(loaded) as runner, RecordingSource(RecordingCamera(path=recording)) as source:
            inspector = Inspector(judged_by, runner)
            scores = [inspector.inspect(frame).score for frame in source]
        written = read_scores(tmp_path / "out" / "scores.csv").good
        assert [part.score for part in written] == scores
        assert {part.lot for part in written} == {"monday.db3"}
        assert calibration.threshold == said["threshold"]
        assert calibration.good_scores == tuple(sorted(score for score in scores if score is not None))
        assert len(calibration.captures) == PARTS

    def test_it_goes_together_with_captures(self, bundle: Path, lots: Path, recording: Path) -> None:
        result = fitted(bundle, lots, "--recording", recording)
        assert result.exit_code == 0, result.output
        good = len(list(lots.glob("*/good/*.rgb.png")))
        assert json.loads(result.stdout)["good_parts"] == good + PARTS

    def test_a_damaged_one_calibrates_nothing(self, bundle: Path, recording: Path, tmp_path: Path) -> None:
        damaged = tmp_path / "monday.db3"
        data = bytearray(recording.read_bytes())
        data[len(data) // 2] ^= 0x10
        damaged.write_bytes(data)
        shutil.copy(sidecar_path(recording), sidecar_path(damaged))
        before = (bundle / "calibration.yaml").read_bytes()
        result = of_recording(bundle, damaged, "--install", "--out", tmp_path / "out")
        assert result.exit_code == 4
        assert f"{damaged}: differs from the sha256 in" in result.stderr
        assert "copy it again" in result.stderr
        assert "Traceback" not in result.output
        assert not (tmp_path / "out").exists()
        assert (bundle / "calibration.yaml").read_bytes() == before

    def test_one_that_was_cut_off_is_found_without_its_sidecar(
        self, bundle: Path, recording: Path, tmp_path: Path
    ) -> None:
        damaged = tmp_path / "monday.db3"
        data = recording.read_bytes()
        damaged.write_bytes(data[: len(data) * 2 // 3])
        result = of_recording(bundle, damaged)
        assert result.exit_code == 4
        assert str(damaged) in result.stderr
        assert "Traceback" not in result.output

    @pytest.mark.parametrize(
        ("name", "said"), [("missing.db3", "is not there"), ("movie.mp4", "is no recording (.db3 or .bag)")]
    )
    def test_what_is_no_recording_is_named(self, bundle: Path, tmp_path: Path, name: str, said: str) -> None:
        (tmp_path / "movie.mp4").write_bytes(b"x")
        result = of_recording(bundle, tmp_path / name)
        assert result.exit_code == 4
        assert said in result.stderr


def write_zone(rules: Path, threshold: float) -> None:
    corners = "[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]"
    rules.write_text(
        f"zones:\n- {{name: left, corners: {corners}, threshold: {threshold!r}}}\n", encoding="utf-8"
    )


def scores_in_the_left_half(bundle: Path, lots: Path) -> list[float]:
    """Of the good parts, with the right half ignored."""
    loaded = load_bundle(bundle)
    right = Zone(name="right", corners=((0.5, 0), (1, 0), (1, 1), (0.5, 1)), ignore=True)
    assert loaded.calibration is not None
    ruled = loaded.calibration.model_copy(update={"region_rules": RegionRules(zones=(right,))})
    with runner_for(loaded) as runner:
        inspector = Inspector(replace(loaded, calibration=ruled), runner)
        inspected = [
            inspector.inspect(sample.frame())
            for lot in sorted(lots.iterdir())
            for sample in list_captures(lot)
            if sample.defect is None
        ]
    return [one.score for one in inspected if one.score is not None]


def test_a_list_of_captures_that_is_none_is_refused(lots: Path, tmp_path: Path) -> None:
    wrong = TrainedOn.model_construct(train=("not a digest",), held_out=())
    result = fitted(trained_bundle(tmp_path / "wrong", wrong), lots)
    assert result.exit_code == 5
    assert TRAINED_ON_FILE in result.stderr


def trained_bundle(folder: Path, seen: TrainedOn) -> Path:
    """A bundle that says what it was trained on."""
    make_tiny_bundle(folder, threshold=None)
    manifest = load_bundle(folder).manifest
    (folder / TRAINED_ON_FILE).write_text(seen.model_dump_json(), encoding="utf-8")
    path = folder / TRAINED_ON_FILE
    spec = FileSpec(sha256=file_sha256(path), bytes=path.stat().st_size)
    write_manifest(folder, manifest.model_copy(update={"files": {**manifest.files, TRAINED_ON_FILE: spec}}))
    return folder


@pytest.mark.browser
@needs_chromium
def test_the_pages_are_whole_in_a_browser(bundle: Path, lots: Path, tmp_path: Path) -> None:
    assert fitted(bundle, lots, "--out", tmp_path / "out").exit_code == 0
    assert calibrate("need", "--out", tmp_path / "need.html").exit_code == 0
    for page, width in ((tmp_path / "out" / "calibration.html", 1280), (tmp_path / "need.html", 400)):
        with opened(page, width=width) as found:
            assert found.complaints == []
            assert found.requests == [page.as_uri()]
            assert found.broken_images() == []
            assert found.overflow_px() <= 0
            assert found.page.locator("svg").count() >= 1
    with opened(tmp_path / "out" / "calibration.html") as found:
        good = len(list(lots.glob("*/good/*.rgb.png")))
        bars = found.page.locator("rect.good-bar title").all_text_contents()
        assert sum(int(text.split()[0]) for text in bars) == good
        assert found.page.locator("article.part img").count() >= 6
        line = found.page.locator("line.threshold").first.get_attribute("x1")
        assert line is not None


def test_scores_alone_make_a_page_but_no_calibration(tmp_path: Path) -> None:
    result = calibrate("fit", "--scores", scores_file(tmp_path), "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["calibration.html", "scores.csv"]
    assert (
        read_scores(tmp_path / "out" / "scores.csv").good[0].score
        == read_scores(tmp_path / "scores.csv").good[0].score
    )
