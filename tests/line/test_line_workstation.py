"""Train, export, evaluate by their command lines, and inspect with what they made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

import export.commands.export
import train.commands.evaluate
import train.commands.train
from edge.bundle import load_bundle
from tests.line.category import HEIGHT_PX, TEST_PARTS, WIDTH_PX
from tests.line.commands import lines, run
from tests.tiny_bundle import make_tiny_bundle

TINY = """\
held_out_share: 0.34
preprocessing:
  image_px: 96
  depth_px: 48
  map_cells: 12
  foreground: {part_threshold_m: 0.003, mask_threshold_m: 0.0025, dilation_px: 2}
method:
  name: msd
  backbone: {blocks: [3]}
  teacher: {hidden: 8, kernels: [3, 3]}
  teacher_optimiser: {steps: 12, batch: 4, clip_norm: 1.0}
  student: {hidden: 16, blocks: 1}
  student_optimiser: {steps: 20, batch: 4}
score: {smoothing_px: 1.0}
"""

APPS = {
    "edge-train": train.commands.train.app,
    "edge-evaluate": train.commands.evaluate.app,
    "edge-export": export.commands.export.app,
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that trains in seconds."""
    path = tmp_path_factory.mktemp("line-config") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, category: Path, config: Path) -> Path:
    """`run` and `bundle`, made of the small category by processes of their own."""
    folder = tmp_path_factory.mktemp("line-made")
    data = ("--data", category.parent, "--format", "mvtec3d", "--category", category.name)
    chosen = ("--config", config, "--seed", 3, "--scales", "1", "--cache", folder / "cache")
    trained = run("edge-train", *data, *chosen, "--out", folder / "run", "--json")
    assert trained.returncode == 0, trained.stderr
    told = json.loads(trained.stdout)
    assert (told["run"], told["product"]) == (str(folder / "run"), category.name)
    assert (told["config"]["seed"], told["config"]["method"]["distillation"]["scales"]) == (3, [1])
    assert (told["provenance"]["train_parts"], told["provenance"]["validation_parts"]) == (6, 3)
    exported = run("edge-export", "--run", folder / "run", "--out", folder / "bundle", "--json")
    assert exported.returncode == 0, exported.stderr
    told = json.loads(exported.stdout)
    assert told["bundle"] == str(folder / "bundle")
    assert told["verification"]["good_samples"] == 3
    assert 0 <= max(error["of_spread"] for error in told["verification"]["chain"].values()) <= 1e-3
    assert load_bundle(folder / "bundle").method == "ast"
    return folder


def invoke(name: str, *arguments: object) -> Result:
    """A command in this process: importing torch takes longer than all that it does here."""
    return CliRunner().invoke(APPS[name], [str(argument) for argument in arguments])


def one_document(result: Result) -> dict[str, Any]:
    """What stdout holds: one JSON object, and nothing else."""
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


def refused(result: Result, exit_code: int, *words: str) -> None:
    assert result.exit_code == exit_code, result.output
    assert isinstance(result.exception, SystemExit)  # else it fell over
    assert result.stdout == ""
    said = " ".join(result.stderr.split())
    for word in ("error: ", *words):
        assert word in said


def agree(by_run: dict[str, Any], by_bundle: dict[str, Any]) -> None:
    """Both of the same parts, with the same figures."""
    assert by_run.keys() == by_bundle.keys()
    assert {"i_auroc", "p_auroc", "aupro_30", "aupro_5", "aupro_1"} <= by_run.keys()
    numbers, others = flat(by_run), flat(by_bundle)
    assert numbers.keys() == others.keys()
    for name, figure in numbers.items():
        assert others[name] == (pytest.approx(figure, abs=1e-3) if isinstance(figure, float) else figure)


def flat(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures by their path, such as `by_defect.bent.aupro_30`."""
    found: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": figure for inner, figure in flat(value).items()}
        else:
            found[name] = value
    return found


class TestCaptures:
    def test_a_run_is_trained_and_evaluated_on_a_lot_of_its_own(
        self, captures: Path, config: Path, tmp_path: Path
    ) -> None:
        trained = invoke(
            "edge-train", "--data", captures, "--category", "train", "--config", config, "--no-cache",
            "--out", tmp_path / "run", "--json",
        )  # fmt: skip
        told = one_document(trained)
        assert (told["provenance"]["train_parts"], told["provenance"]["validation_parts"]) == (6, 3)
        assert told["config"]["method"]["distillation"]["scales"] == [1, 2, 4]
        figures = one_document(
            invoke("edge-evaluate", "--data", captures / "test", "--run", tmp_path / "run", "--json")
        )
        assert figures["images"] == 8
        assert figures["aupro_30"] > 0.8

    def test_run_bundle_and_device_say_the_same_of_captures(
        self, made: Path, captures: Path, tmp_path: Path
    ) -> None:
        test, maps = captures / "test", tmp_path / "maps"
        judged = run(
            "edge-evaluate", "--bundle", made / "bundle", "--data", test, "--save-maps", maps, "--json"
        )
        assert judged.returncode == 0, judged.stderr
        by_run = one_document(invoke("edge-evaluate", "--run", made / "run", "--data", test, "--json"))
        agree(by_run, json.loads(judged.stdout))
        # The device's own command gives each part the score that the workstation gave it.
        inspected = run("edge-inspect", made / "bundle", test, "--json")
        assert inspected.returncode in (0, 20), inspected.stderr
        listed = json.loads((maps / "scores.json").read_text())
        expected = {row["part"].partition("/")[2]: row["score"] for row in listed["images"]}
        assert {line["part"]: line["score"] for line in lines(inspected)} == pytest.approx(expected, abs=1e-6)


class TestCategory:
    def test_a_bundle_gives_the_figures_of_its_run(self, made: Path, category: Path) -> None:
        data = ("--data", category, "--format", "mvtec3d", "--json")
        by_run = one_document(invoke("edge-evaluate", "--run", made / "run", *data))
        by_bundle = one_document(invoke("edge-evaluate", "--bundle", made / "bundle", *data))
        agree(by_run, by_bundle)
        assert (by_run["images"], by_run["good"], by_run["defective"]) == (TEST_PARTS, 4, 3)
        assert by_run["i_auroc"] > 0.8
        assert by_run["aupro_30"] > 0.8

    def test_maps_are_saved_whole_with_scores_and_labels(
        self, made: Path, category: Path, tmp_path: Path
    ) -> None:
        maps = tmp_path / "new" / "maps"
        data = ("--data", category, "--format", "mvtec3d", "--save-maps", maps, "--json")
        figures = one_document(invoke("edge-evaluate", "--bundle", made / "bundle", *data))
        listed = json.loads((maps / "scores.json").read_text())
        assert listed["figures"] == figures
        assert [row["label"] for row in listed["images"]] == [1, 1, 1, 0, 0, 0, 0]
        for row in listed["images"]:
            stored = np.load(maps / row["map"], allow_pickle=False)
            assert (stored.dtype, stored.shape) == (np.float32, (HEIGHT_PX, WIDTH_PX))
            assert np.isfinite(stored).all()
        assert {path.name for path in maps.iterdir()} == {
            "scores.json",
            *(row["map"] for row in listed["images"]),
        }

    def test_people_get_a_table(self, made: Path, category: Path) -> None:
        data = ("--data", category, "--format", "mvtec3d")
        result = invoke("edge-evaluate", "--bundle", made / "bundle", *data)
        assert result.exit_code == 0
        assert "4 good and 3 defective parts" in result.stdout
        assert all(name in result.stdout for name in ("I-AUROC", "P-AUROC", "AUPRO @ 30 %"))


class TestWrongCommandLines:
    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("edge-train", ()),
            ("edge-train", ("--data", "x", "--out", "y", "--format", "coco")),
            ("edge-train", ("--data", "x", "--out", "y", "--scales", "1;2")),
            ("edge-train", ("--data", "x", "--out", "y", "--colour", "red")),
            ("edge-evaluate", ("--data", "x")),
            ("edge-evaluate", ("--data", "x", "--run", "r", "--bundle", "b")),
            ("edge-export", ("--run", "r")),
            ("edge-export", ("--run", "r", "--out", "b", "--tolerance", "small")),
        ],
    )
    def test_they_end_with_2_and_do_nothing(
        self, name: str, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = invoke(name, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Usage" in result.stderr
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", list(APPS))
    def test_help_has_an_example(self, name: str) -> None:
        result = invoke(name, "--help")
        assert result.exit_code == 0
        assert f"Example: {name}" in " ".join(result.stdout.split())


class TestRefusals:
    """8 the data, 9 the run, 10 the export, 3 the configuration, 5 the bundle; nothing is left behind."""

    def test_a_misspelt_key_of_the_training(self, captures: Path, tmp_path: Path) -> None:
        config = tmp_path / "mine.yaml"
        config.write_text("seed: 1\nmethod:\n  name: msd\n  student_optimiser:\n    stepz: 5\n")
        result = invoke(
            "edge-train", "--data", captures / "train", "--config", config, "--out", tmp_path / "run"
        )
        refused(
            result, 3, f"{config}:5: method.student_optimiser.stepz: unknown key", '"steps"', "allowed: batch"
        )
        assert list(tmp_path.iterdir()) == [config]

    def test_scales_that_do_not_divide_the_map(self, captures: Path, tmp_path: Path) -> None:
        result = invoke(
            "edge-train", "--data", captures / "train", "--scales", "1,5", "--out", tmp_path / "run"
        )
        refused(result, 3, "scales [5] don't divide map_cells")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("layout", ["captures", "mvtec3d"])
    def test_a_depth_image_of_another_size(
        self, made: Path, captures: Path, category: Path, tmp_path: Path, layout: str
    ) -> None:
        data = tmp_path / "data"
        shutil.copytree(captures / "train" if layout == "captures" else category, data)
        # In a category the first image of a split sets the size.
        pattern = "good/002.depth.png" if layout == "captures" else "t*/good/xyz/002.tiff"
        for victim in data.glob(pattern):
            assert cv2.imwrite(str(victim), cv2.imread(str(victim), cv2.IMREAD_UNCHANGED)[:-2])
        before = sorted(tmp_path.rglob("*"))
        given = ("--data", data, "--format", layout, "--json")
        trained = invoke("edge-train", *given, "--no-cache", "--out", tmp_path / "run")
        judged = invoke(
            "edge-evaluate", *given, "--bundle", made / "bundle", "--save-maps", tmp_path / "maps"
        )
        for result in (trained, judged):
            refused(result, 8, "002", "320×238", "320×240")
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_folder_that_is_no_data_set(self, made: Path, tmp_path: Path) -> None:
        for name, more in (("edge-train", "--out"), ("edge-evaluate", "--save-maps")):
            model = ("--run", made / "run") if name == "edge-evaluate" else ()
            refused(invoke(name, "--data", tmp_path, *model, more, tmp_path / "new"), 8, "capture.yaml")
        assert list(tmp_path.iterdir()) == []

    def test_a_run_is_never_written_over(self, made: Path, category: Path, config: Path) -> None:
        before = {path: path.read_bytes() for path in (made / "run").iterdir()}
        data = ("--data", category, "--format", "mvtec3d", "--config", config, "--no-cache")
        refused(invoke("edge-train", *data, "--out", made / "run"), 9, "holds a run already")
        assert {path: path.read_bytes() for path in (made / "run").iterdir()} == before

    def test_a_run_that_is_not_there(self, category: Path, tmp_path: Path) -> None:
        refused(
            invoke("edge-export", "--run", tmp_path / "no", "--out", tmp_path / "b"), 9, "no such checkpoint"
        )
        data = ("--data", category, "--format", "mvtec3d", "--save-maps", tmp_path / "maps")
        refused(invoke("edge-evaluate", "--run", tmp_path / "no", *data), 9, "no such checkpoint")
        assert list(tmp_path.iterdir()) == []

    def test_a_bundle_is_never_written_over(self, made: Path) -> None:
        before = {path: path.read_bytes() for path in (made / "bundle").rglob("*") if path.is_file()}
        refused(invoke("edge-export", "--run", made / "run", "--out", made / "bundle"), 10, "exists already")
        assert {path: path.read_bytes() for path in (made / "bundle").rglob("*") if path.is_file()} == before

    def test_a_bundle_that_is_broken(self, made: Path, category: Path, tmp_path: Path) -> None:
        changed = tmp_path / "changed"
        shutil.copytree(made / "bundle", changed)
        data = bytearray((changed / "student.onnx").read_bytes())
        data[len(data) // 2] ^= 1
        (changed / "student.onnx").write_bytes(data)
        wired = make_tiny_bundle(tmp_path / "wired", broken="unknown_tensor")
        given = ("--data", category, "--format", "mvtec3d", "--save-maps", tmp_path / "maps", "--json")
        result = invoke("edge-evaluate", "--bundle", changed, *given)
        refused(result, 5, "student.onnx", "differs from the sha256")
        refused(invoke("edge-evaluate", "--bundle", wired, *given), 5, "'infrared', which nobody gives")
        assert not (tmp_path / "maps").exists()

    def test_maps_have_a_folder_of_their_own(self, made: Path, category: Path, tmp_path: Path) -> None:
        mine = tmp_path / "mine.txt"
        mine.write_text("mine")
        given = ("--bundle", made / "bundle", "--data", category, "--format", "mvtec3d", "--json")
        refused(invoke("edge-evaluate", *given, "--save-maps", tmp_path), 9, "holds something already")
        refused(invoke("edge-evaluate", *given, "--save-maps", mine), 9, "can't be written (Not a directory)")
        assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
