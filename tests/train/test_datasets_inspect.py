"""`edge-train inspect-data`: what it counts, what it shows, and that it says what is wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.train.trees import captures_tree, eyecandies_tree, mvtec3d_tree, pdreal_tree
from train.commands.train import app

SMALL: dict[str, Any] = {"train": 3, "validation": 2, "good": 2, "bad": 2}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["inspect-data", *(str(argument) for argument in arguments)])


def said(result: Result) -> list[dict[str, Any]]:
    return list(json.loads(result.stdout)["categories"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    folder = tmp_path_factory.mktemp("tree")
    return mvtec3d_tree(folder, **SMALL, defects=("foreign_other", "dent"))


@pytest.fixture
def tree(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "tree"))


def test_everything_is_counted_and_nothing_is_wrong(tree: Path) -> None:
    result = run("--data", tree, "--format", "mvtec3d", "--json")
    assert result.exit_code == 0, result.output
    both = said(result)
    assert [found["name"] for found in both] == ["a", "b"]
    assert both[0]["parts"] == {"train": 3, "validation": 2, "test": 4}
    groups = {(g["split"], g["label"]): g for g in both[0]["groups"]}
    assert {key: group["parts"] for key, group in groups.items()} == {
        ("train", "good"): 3,
        ("validation", "good"): 2,
        ("test", "good"): 2,
        ("test", "dent"): 1,
        ("test", "foreign_other"): 1,
    }
    assert both[0]["sizes"] == {"320×240": 9}
    assert both[0]["problems"] == both[0]["notes"] == []
    for group in groups.values():
        assert 0.2 < group["depth_min_m"] < group["depth_median_m"] < group["depth_max_m"] < 0.3
        assert (group["defect_share"] > 0) == (group["label"] != "good")


def test_the_numbers_are_those_of_the_files(tree: Path) -> None:
    found = said(run("--data", tree, "--format", "mvtec3d", "--category", "b", "--parts", 0, "--json"))[0]
    group = next(g for g in found["groups"] if g["split"] == "train")
    images = [cv2.imread(str(p), cv2.IMREAD_UNCHANGED)[..., 0] for p in (tree / "b/train").rglob("*.tiff")]
    assert group["looked_at"] == len(images) == 3
    assert group["depth_max_m"] == pytest.approx(max(float(z.max()) for z in images))
    assert group["depth_min_m"] == pytest.approx(min(float(z[z > 0].min()) for z in images))
    assert group["depth_median_m"] == pytest.approx(np.median([np.median(z[z > 0]) for z in images]))
    assert group["invalid_share"] == pytest.approx(np.mean([(z == 0).mean() for z in images]))


def test_only_so_many_parts_are_read(tree: Path) -> None:
    found = said(run("--data", tree, "--format", "mvtec3d", "--category", "a", "--parts", 2, "--json"))[0]
    assert [g["looked_at"] for g in found["groups"]] == [2, 2, 2, 1, 1]


def test_the_picture_shows_rgb_depth_and_mask_of_each_kind(tree: Path, tmp_path: Path) -> None:
    result = run("--data", tree, "--format", "mvtec3d", "--picture", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    assert "validation" in result.stdout
    for name in ("a", "b"):
        sheet = cv2.imread(str(tmp_path / f"sheet-{name}.png"))
        # Five rows of 180 px under their names, six pictures of 240 px side by side.
        assert sheet.shape[0] > 5 * 180
        assert sheet.shape[1] > 6 * 240
        blue, green, red = (sheet[..., channel].astype(int) for channel in range(3))
        marked = (red > 220) & (green < 60) & (blue < 60)
        height = sheet.shape[0]
        assert marked[height * 3 // 5 :].any(), "the defects of the two lowest rows"
        assert not marked[60 : height // 2].any(), "good parts have no defect"
    assert cv2.imread(str(tmp_path / "sheet.png")) is None


def test_a_wrong_unit_is_a_problem_and_still_shown(tmp_path: Path) -> None:
    tree = pdreal_tree(tmp_path / "tree", ("a",), **SMALL)
    layout = tree / "layout.yaml"
    layout.write_text(layout.read_text().replace("depth_unit_m: 0.0001", "depth_unit_m: 0.001"))
    options = ("--data", tree, "--format", "pdreal", "--layout-file", layout)
    result = run(*options, "--picture", tmp_path / "sheet.png")
    assert result.exit_code == 8
    flat = re.sub(r"\s+", " ", result.stdout)
    assert "set depth_unit_m: 0.0001 in" in flat
    assert (tmp_path / "sheet.png").is_file()
    again = run(*options, "--depth-scale", 0.1, "--json")
    assert again.exit_code == 0, again.output
    assert said(again)[0]["groups"][0]["depth_median_m"] == pytest.approx(0.245, abs=0.02)
    assert run(*options, "--depth-range", 1, 3).exit_code == 0


def test_files_that_cannot_be_read_are_all_named(tree: Path) -> None:
    broken = [tree / "a/test/good/rgb/000.png", tree / "a/test/dent/gt/000.png"]
    for path in broken:
        path.write_bytes(path.read_bytes()[:60])
    result = run("--data", tree, "--format", "mvtec3d", "--category", "a", "--json")
    assert result.exit_code == 8
    found = said(result)[0]
    assert all(any(str(path) in problem for problem in found["problems"]) for path in broken)
    assert next(g for g in found["groups"] if g["label"] == "dent")["looked_at"] == 0


def test_masks_that_contradict_their_labels_are_named(tree: Path) -> None:
    for path, value in ((tree / "a/test/good/gt/001.png", 255), (tree / "a/test/dent/gt/000.png", 0)):
        cv2.imwrite(str(path), np.full((240, 320), value, np.uint8))
    problems = said(run("--data", tree, "--format", "mvtec3d", "--category", "a", "--json"))[0]["problems"]
    assert any("good/001 (test): is good, but its mask marks 100.00%" in p for p in problems)
    assert any("dent/000 (test): is defective, but its mask marks nothing" in p for p in problems)


def test_a_far_plane_is_noted(tmp_path: Path) -> None:
    tree = eyecandies_tree(tmp_path, ("a",), **SMALL)
    for path in (tree / "a/train/data").glob("*_depth.png"):
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        depth[:40] = 65535
        cv2.imwrite(str(path), depth)
    result = run("--data", tree, "--format", "eyecandies", "--json")
    assert result.exit_code == 0, result.output
    assert any("at its very greatest depth" in note for note in said(result)[0]["notes"])


def test_captures_of_one_lot_have_no_category(tmp_path: Path) -> None:
    tree = captures_tree(tmp_path, ("a",), train=5, test=4)
    lot = run("--data", tree / "a" / "test-2", "--json")
    assert said(lot)[0]["name"] == "test-2"
    split = run("--data", tree, "--test-lots", "test-*", "--json")
    assert split.exit_code == 0, split.output
    assert said(split)[0]["parts"] == {"train": 4, "validation": 1, "test": 4}
    without = run("--data", tree / "a" / "train-1", "--json")
    assert without.exit_code == 8
    assert "no defective parts in test" in said(without)[0]["problems"][0]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("--data", "nowhere"), 8, "nowhere: no such folder"),
        (("--data", ".", "--format", "globs"), 3, "--layout-file"),
        (("--data", ".", "--light", "9"), 3, "image_0 to image_5"),
        (("--data", ".", "--depth-range", "2", "1"), 3, "the nearer first"),
        (("--data", ".", "--format", "globs", "--layout-file", "missing.yaml"), 3, "missing.yaml"),
    ],
)
def test_wrong_options_end_with_a_sentence(arguments: tuple[str, ...], code: int, word: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert word in re.sub(r"\s+", " ", result.output)


class TestTheCommandThatNeedNotBeNamed:
    def test_train_needs_no_name(self, tmp_path: Path) -> None:
        for named in ((), ("train",)):
            result = CliRunner().invoke(app, [*named, "--data", str(tmp_path / "x"), "--out", str(tmp_path)])
            assert result.exit_code == 8
            assert "no such folder" in re.sub(r"\s+", " ", result.output)

    def test_help_names_both_and_a_missing_option_is_named(self) -> None:
        helped = CliRunner().invoke(app, ["--help"])
        assert helped.exit_code == 0
        assert "inspect-data" in helped.output
        bare = CliRunner().invoke(app, [])
        assert bare.exit_code == 2
        assert "--data" in bare.output
