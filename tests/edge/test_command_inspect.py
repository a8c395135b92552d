"""`edge-inspect` over a folder and a recording: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from edge.bundle import load_bundle
from edge.calibration_file import write_calibration
from edge.camera.config import SimulatedCamera
from edge.camera.factory import source_from_config
from edge.commands.inspect import app
from edge.simulation import RigScene
from edge.simulation.dataset import write_lot
from tests.hostile_graphs import HOSTILE, with_graph
from tests.tiny_bundle import make_tiny_bundle

PARTS = 4


@pytest.fixture(scope="module")
def lot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captures of four simulated plates."""
    folder = tmp_path_factory.mktemp("captures") / "lot"
    write_lot(RigScene("plate", seed=3), folder, PARTS)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


class TestOutcomes:
    def test_all_pass_ends_with_0(self, lot: Path, tmp_path: Path) -> None:
        result = run(make_tiny_bundle(tmp_path / "b", threshold=1e6), lot, "--json")
        assert result.exit_code == 0, result.output
        assert [line["outcome"] for line in lines(result)] == ["pass"] * PARTS

    def test_one_that_fails_ends_with_20(self, bundle: Path, lot: Path, tmp_path: Path) -> None:
        scores = sorted(float(str(line["score"])) for line in lines(run(bundle, lot, "--json")))
        between = make_tiny_bundle(tmp_path / "b", threshold=(scores[-2] + scores[-1]) / 2)
        result = run(between, lot, "--json")
        assert result.exit_code == 20
        assert sorted(str(line["outcome"]) for line in lines(result)) == ["fail"] + ["pass"] * (PARTS - 1)

    def test_one_that_a_person_is_to_look_at_ends_with_25(
        self, bundle: Path, lot: Path, tmp_path: Path
    ) -> None:
        scores = sorted(float(str(line["score"])) for line in lines(run(bundle, lot, "--json")))
        made = make_tiny_bundle(tmp_path / "b", threshold=2 * scores[-1])
        calibration = load_bundle(made).calibration
        assert calibration is not None
        review = (scores[-2] + scores[-1]) / 2
        write_calibration(made, calibration.model_copy(update={"review_threshold": review}))
        result = run(made, lot, "--json")
        assert result.exit_code == 25
        assert sorted(str(line["outcome"]) for line in lines(result)) == ["pass"] * (PARTS - 1) + ["review"]
        assert {line["review_threshold"] for line in lines(result)} == {review}
        assert f"{PARTS} parts: {PARTS - 1} pass, 1 review" in run(made, lot).stdout

    def test_no_threshold_is_no_decision_and_ends_with_21(self, lot: Path, tmp_path: Path) -> None:
        result = run(make_tiny_bundle(tmp_path / "b", threshold=None), lot, "--json")
        assert result.exit_code == 21
        assert {(line["outcome"], line["reason"]) for line in lines(result)} == {
            ("no_decision", "uncalibrated")
        }
        assert all(line["score"] is not None for line in lines(result))

    def test_nan_is_an_error_and_never_a_pass(self, lot: Path, tmp_path: Path) -> None:
        result = run(make_tiny_bundle(tmp_path / "b", broken="nan", threshold=1e6), lot, "--json")
        assert result.exit_code == 21
        assert {(line["outcome"], line["reason"], line["score"]) for line in lines(result)} == {
            ("error", "not_finite", None)
        }

    def test_an_undecided_part_outweighs_one_that_fails(self, tmp_path: Path) -> None:
        scene = RigScene("plate", seed=3, parts=1)
        write_lot(scene, tmp_path / "lot", 1)
        [depth] = (tmp_path / "lot").glob("*/000.depth.png")
        good = tmp_path / "lot" / "good"
        good.mkdir(exist_ok=True)
        for kind in ("rgb", "depth"):
            shutil.copy(depth.with_name(f"000.{kind}.png"), good / f"009.{kind}.png")
        assert cv2.imwrite(str(good / "009.depth.png"), np.zeros((480, 640), np.uint16))
        result = run(make_tiny_bundle(tmp_path / "b", threshold=0.0), tmp_path / "lot", "--json")
        assert result.exit_code == 21
        assert sorted((str(line["outcome"]), line["reason"]) for line in lines(result)) == [
            ("fail", None),
            ("no_decision", "depth_invalid"),
        ]


class TestOutput:
    def test_the_table_names_every_part_and_says_that_the_threshold_is_provisional(
        self, bundle: Path, lot: Path
    ) -> None:
        result = run(bundle, lot)
        parts = sorted(f"{p.parent.name}/{p.name[:3]}" for p in lot.glob("*/*.rgb.png"))
        assert len(parts) == PARTS
        assert all(part in result.stdout for part in parts)
        assert f"{PARTS} parts: {PARTS} fail" in result.stdout
        assert "provisional" in result.stdout

    def test_limit_stops_after_so_many(self, bundle: Path, lot: Path) -> None:
        assert len(lines(run(bundle, lot, "--json", "--limit", 2))) == 2

    def test_out_holds_the_evidence_of_each_part(self, bundle: Path, lot: Path, tmp_path: Path) -> None:
        out = tmp_path / "new" / "out"
        result = run(bundle, lot, "--json", "--out", out)
        assert result.exit_code == 20, result.output
        assert (out / "inspections.jsonl").read_text() == result.stdout
        for line in lines(result):
            overlay = cv2.imread(str(out / str(line["overlay"])))
            assert overlay is not None
            assert overlay.shape == (480, 640, 3)
            anomaly_map = np.load(out / str(line["map"]))
            assert (anomaly_map.dtype, anomaly_map.shape) == (np.float32, (480, 640))
            assert float(anomaly_map.max()) == pytest.approx(float(str(line["score"])), rel=0.05)
        assert [p.name for p in out.parent.iterdir()] == ["out"]

    def test_a_folder_that_holds_something_is_left_alone(
        self, bundle: Path, lot: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "mine.txt").write_text("mine")
        result = run(bundle, lot, "--json", "--out", tmp_path)
        assert (result.exit_code, result.stdout) == (3, "")
        assert "holds something already" in result.stderr
        assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]

    def test_a_source_that_breaks_leaves_no_folder(self, bundle: Path, lot: Path, tmp_path: Path) -> None:
        broken = tmp_path / "lot"
        shutil.copytree(lot, broken)
        victim = sorted(broken.glob("*/*.rgb.png"))[-1]
        victim.write_bytes(victim.read_bytes()[:200])
        out = tmp_path / "here" / "out"
        result = run(bundle, broken, "--json", "--out", out)
        assert result.exit_code == 4
        assert str(victim) in result.stderr
        assert "Traceback" not in result.output
        assert len(lines(result)) == PARTS - 1
        assert list(out.parent.iterdir()) == []

    def test_a_place_that_can_not_be_written_is_named(self, bundle: Path, lot: Path) -> None:
        result = run(bundle, lot, "--json", "--out", "/proc/nowhere/out")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "/proc/nowhere/out: can't be written" in result.stderr


class TestSources:
    def test_a_recording_gives_the_scores_of_the_live_run_twice(self, bundle: Path, tmp_path: Path) -> None:
        path = tmp_path / "parts.db3"
        with source_from_config(
            SimulatedCamera(product="plate", seed=5, parts=3, record_to=path)
        ) as simulated:
            live = list(simulated)
        write_lot(RigScene("plate", seed=5), tmp_path / "lot", 3)
        runs = [lines(run(bundle, path, "--json")) for _ in range(2)]
        folder = lines(run(bundle, tmp_path / "lot", "--json"))
        assert [line["part"] for line in runs[0]] == ["frame-000000", "frame-000001", "frame-000002"]
        assert len(live) == 3
        scores = [[float(str(line["score"])) for line in lines_] for lines_ in runs]
        assert scores[0] == scores[1]
        assert sorted(scores[0]) == pytest.approx(sorted(float(str(f["score"])) for f in folder), abs=1e-6)

    def test_a_recording_has_no_split(self, bundle: Path, tmp_path: Path) -> None:
        result = run(bundle, tmp_path / "x.db3", "--split", "test")
        assert result.exit_code == 3
        assert "--split test" in result.stderr

    def test_captures_have_no_split(self, bundle: Path, lot: Path) -> None:
        result = run(bundle, lot, "--split", "train")
        assert result.exit_code == 4
        assert "no split 'train'" in result.stderr

    def test_what_is_neither_folder_nor_recording_is_refused(self, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "movie.mp4").write_bytes(b"x")
        for name in ("movie.mp4", "missing"):
            result = run(bundle, tmp_path / name)
            assert result.exit_code == 4
            assert "neither a folder nor a recording" in result.stderr


class TestRefusals:
    def test_a_byte_changed_in_the_bundle(self, bundle: Path, lot: Path, tmp_path: Path) -> None:
        damaged = tmp_path / "b"
        shutil.copytree(bundle, damaged)
        data = bytearray((damaged / "shape.onnx").read_bytes())
        data[len(data) // 2] ^= 1
        (damaged / "shape.onnx").write_bytes(data)
        result = run(damaged, lot, "--json", "--out", tmp_path / "out")
        assert (result.exit_code, result.stdout) == (5, "")
        assert "shape.onnx: differs from the sha256" in result.stderr
        assert not (tmp_path / "out").exists()

    def test_a_stage_that_asks_for_what_nobody_gives(self, lot: Path, tmp_path: Path) -> None:
        result = run(make_tiny_bundle(tmp_path / "b", broken="unknown_tensor"), lot)
        assert result.exit_code == 5
        assert "'infrared', which nobody gives" in result.stderr

    def test_a_tensor_of_another_shape_than_the_graph_makes(self, lot: Path, tmp_path: Path) -> None:
        result = run(make_tiny_bundle(tmp_path / "b", broken="wrong_shape"), lot)
        assert result.exit_code == 5
        assert "'colour_map' of colour.onnx is" in result.stderr

    def test_a_graph_that_ends_its_process_ends_a_child(
        self, bundle: Path, lot: Path, tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(bundle, tmp_path / "b"))
        with_graph(load_bundle(bundle), folder, "shape.onnx", HOSTILE["smallest by minus one"])
        result = run(folder, lot, "--json", "--out", tmp_path / "out")
        assert (result.exit_code, result.stdout) == (6, "")
        assert "SIGFPE" in result.stderr
        assert not (tmp_path / "out").exists()

    def test_a_backend_that_is_not_there_is_not_replaced(
        self, bundle: Path, lot: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        result = run(bundle, lot, "--json", "--backend", "tensorrt")
        assert (result.exit_code, result.stdout) == (6, "")
        assert "TensorRT" in result.stderr

    def test_help_has_an_example_and_the_exit_codes(self) -> None:
        result = run("--help")
        assert result.exit_code == 0
        assert "edge-inspect bundles/plate" in result.stdout
        assert "20 a part failed" in result.stdout
