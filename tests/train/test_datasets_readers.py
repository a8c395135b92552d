"""Each format's reader on a small tree in that layout: what it finds, and what it says of what is wrong."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from edge.camera.sample import Sample
from edge.errors import ConfigError, DatasetError
from tests.train.trees import captures_tree, eyecandies_tree, mvtec3d_tree, pdreal_tree
from train.datasets import DataSet, DatasetOptions, Format, list_categories, open_dataset

SMALL = {"train": 3, "validation": 2, "good": 2, "bad": 2}


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tree of two categories for each format; not to be changed."""
    root = tmp_path_factory.mktemp("trees")
    two = ("foreign_other", "dent")
    return {
        "mvtec3d": mvtec3d_tree(root / "mvtec3d", **SMALL, defects=two),
        "eyecandies": eyecandies_tree(root / "eyecandies", **SMALL, defects=two),
        "pdreal": pdreal_tree(root / "pdreal", **SMALL, defects=two),
        "captures": captures_tree(root / "captures", train=5, test=6),
    }


def options_of(tree: Path, layout: str) -> DatasetOptions:
    if layout in {"pdreal", "globs"}:
        return DatasetOptions(layout_file=tree / "layout.yaml")
    return DatasetOptions(test_lots="test-*") if layout == "captures" else DatasetOptions()


def opened(tree: Path, layout: Format, category: str | None = "a", **changes: Any) -> DataSet:
    options = options_of(tree, layout)
    values = {name: getattr(options, name) for name in DatasetOptions.__dataclass_fields__}
    return open_dataset(tree, layout, category, 0.4, DatasetOptions(**(values | changes)))


@pytest.fixture
def copy(trees: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A tree's own copy, to be spoilt."""

    def copied(layout: str) -> Path:
        return Path(shutil.copytree(trees[layout], tmp_path / layout))

    return copied


@pytest.mark.parametrize("layout", ["mvtec3d", "eyecandies", "pdreal", "captures"])
class TestEveryFormat:
    def test_splits_masks_and_names(self, trees: dict[str, Path], layout: Format) -> None:
        data = opened(trees[layout], layout)
        assert data.name == "a"
        assert (len(data.train), len(data.validation)) == (3, 2)
        assert all(sample.defect is None for sample in data.train + data.validation)
        assert {sample.defect is None for sample in data.test} == {True, False}
        for sample in data.test:
            frame = sample.frame()
            assert frame.rgb.shape == (240, 320, 3)
            assert 0.2 < float(np.median(frame.depth_m[frame.depth_m > 0])) < 0.3
            assert sample.mask().any() == (sample.defect is not None), sample.part_id
        every = data.train + data.validation + data.test
        assert len({sample.rgb_path for sample in every}) == len(every)

    def test_categories_are_listed(self, trees: dict[str, Path], tmp_path: Path, layout: Format) -> None:
        tree = trees[layout]
        assert list_categories(tree, layout, options_of(tree, layout)) == ("a", "b")
        with pytest.raises(DatasetError, match="holds no category"):
            list_categories(tmp_path, layout, options_of(tree, layout))

    def test_samples_can_be_sent_to_another_process(self, trees: dict[str, Path], layout: Format) -> None:
        sample = opened(trees[layout], layout, depth_scale=0.5, depth_range_m=(0.01, 1.0)).test[-1]
        again: Sample = pickle.loads(pickle.dumps(sample))  # noqa: S301
        assert np.array_equal(again.frame().depth_m, sample.frame().depth_m)
        assert np.array_equal(again.mask(), sample.mask())

    def test_a_broken_image_names_its_file(self, copy: Callable[[str], Path], layout: Format) -> None:
        tree = copy(layout)
        victim = opened(tree, layout).train[0]
        victim.depth_path.write_bytes(victim.depth_path.read_bytes()[:200])
        with pytest.raises(DatasetError, match=victim.depth_path.name):
            opened(tree, layout)

    def test_a_missing_partner_is_named(self, copy: Callable[[str], Path], layout: Format) -> None:
        tree = copy(layout)
        victim = opened(tree, layout).test[-1]
        victim.depth_path.unlink()
        with pytest.raises(DatasetError, match=f"{victim.depth_path.name}.*is missing"):
            opened(tree, layout)

    def test_depth_can_be_scaled(self, trees: dict[str, Path], layout: Format) -> None:
        plain = opened(trees[layout], layout).test[0]
        scaled = opened(trees[layout], layout, depth_scale=0.5, depth_range_m=(0.01, 1.0)).test[0]
        np.testing.assert_allclose(scaled.frame().depth_m, plain.frame().depth_m * 0.5, rtol=1e-6)
        assert scaled.depth_unit_m == plain.depth_unit_m * 0.5


class TestMvtec3d:
    def test_metres_are_those_of_the_rig(self, trees: dict[str, Path]) -> None:
        assert opened(trees["mvtec3d"], "mvtec3d").test[0].depth_unit_m == 1.0

    def test_millimetres_are_found_out(self, copy: Callable[[str], Path]) -> None:
        tree = copy("mvtec3d")
        for path in (tree / "a").rglob("*.tiff"):
            cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * 1000)
        with pytest.raises(DatasetError, match=r"looks like millimetres read as metres.*--depth-scale 0.001"):
            opened(tree, "mvtec3d")
        data = opened(tree, "mvtec3d", depth_scale=0.001)
        assert 0.2 < float(np.median(data.test[0].frame().depth_m)) < 0.3


class TestEyecandies:
    def test_depth_lies_between_its_bounds(self, trees: dict[str, Path]) -> None:
        sample = opened(trees["eyecandies"], "eyecandies").train[1]
        stem = sample.depth_path.name.removesuffix("_depth.png")
        info = yaml.safe_load((sample.depth_path.parent / f"{stem}_info_depth.yaml").read_text())
        low, high = info["normalization"]["min"], info["normalization"]["max"]
        counts = cv2.imread(str(sample.depth_path), cv2.IMREAD_UNCHANGED).astype(np.float64)
        depth_m = sample.frame().depth_m
        np.testing.assert_allclose(depth_m, counts / 65535 * (high - low) + low, rtol=1e-6)
        # 0 is the nearest point, not a missing one.
        assert float(depth_m[counts == 0].min()) == pytest.approx(low)
        assert sample.depth_unit_m == pytest.approx((high - low) / 65535)

    def test_the_optics_are_the_published(self, tmp_path: Path) -> None:
        tree = eyecandies_tree(tmp_path, ("a",), train=2, validation=1, good=1, bad=1, size=(512, 512))
        optics = opened(tree, "eyecandies").train[0].intrinsics
        assert (optics.fx_px, optics.fy_px, optics.cx_px, optics.cy_px) == (711.11, 711.11, 256.0, 256.0)

    def test_the_light_is_an_option(self, trees: dict[str, Path]) -> None:
        left = opened(trees["eyecandies"], "eyecandies").test[0]
        all_on = opened(trees["eyecandies"], "eyecandies", light=5).test[0]
        assert left.rgb_path.name.endswith("_image_4.png")
        assert all_on.frame().rgb.mean() > left.frame().rgb.mean()
        with pytest.raises(DatasetError, match=r"image_2\.png"):
            opened(trees["eyecandies"], "eyecandies", light=2)
        with pytest.raises(ConfigError, match="image_0 to image_5"):
            DatasetOptions(light=6)

    def test_defects_have_the_names_of_the_metadata(self, copy: Callable[[str], Path]) -> None:
        tree = copy("eyecandies")
        assert [s.defect for s in opened(tree, "eyecandies").test] == [None, None, "bumps", "colors"]
        path = tree / "a" / "test_public" / "data" / "03_metadata.yaml"
        path.write_text("{anomalous: 1, bumps: 1, dents: 1, colors: 0, normals: 1}")
        data = opened(tree, "eyecandies")
        assert data.test[3].defect == "bumps-dents-normals"
        assert data.test[3].part_id == "bumps-dents-normals/03"
        path.write_text("{anomalous: 1}")
        assert opened(tree, "eyecandies").test[3].defect == "colors", "the masks know"

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("{anomalous: 0, bumps: 1}", "says not anomalous, but bumps"),
            ("{anomalous: 1, bumps: 0}", "says anomalous, but none of"),
            ("{bumps: 1}", "anomalous: Field required"),
            ("anomalous: [", "not YAML"),
            (None, "is missing"),
        ],
    )
    def test_metadata_that_contradicts_itself_is_named(
        self, copy: Callable[[str], Path], text: str | None, word: str
    ) -> None:
        tree = copy("eyecandies")
        path = tree / "a" / "test_public" / "data" / "00_metadata.yaml"
        path.unlink()
        if text is not None:
            path.write_text(text)
        with pytest.raises(DatasetError, match=f"00_metadata.yaml.*{word}"):
            opened(tree, "eyecandies")

    @pytest.mark.parametrize("suffix", [".yaml", ".yml"])
    def test_both_suffixes_are_read(self, tmp_path: Path, suffix: str) -> None:
        tree = eyecandies_tree(tmp_path, ("a",), train=2, validation=0, good=1, bad=1, suffix=suffix)
        data = open_dataset(tree, "eyecandies", "a", 0.5)
        assert len(list(tree.rglob(f"*{suffix}"))) == 2 * 4
        assert (len(data.train), len(data.validation), len(data.test)) == (1, 1, 2)
        assert data.test[1].mask().any()

    def test_one_file_of_bounds_may_serve_a_split(self, copy: Callable[[str], Path]) -> None:
        tree = copy("eyecandies")
        for path in (tree / "a" / "train" / "data").glob("*_info_depth.yaml"):
            path.unlink()
        with pytest.raises(DatasetError, match=r"000_info_depth\.yaml: is missing"):
            opened(tree, "eyecandies")
        (tree / "a" / "train" / "info_depth.yml").write_text("{normalization: {min: 0.25, max: 0.5}}")
        depth_m = opened(tree, "eyecandies").train[0].frame().depth_m
        assert (float(depth_m.min()), float(depth_m.max())) == (0.25, 0.5)

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("{normalization: {min: 0.5, max: 0.5}}", "max 0.5 must be greater than min 0.5"),
            ("{normalization: {min: 0.5}}", "normalization.max"),
            ("{normalization: {min: .nan, max: 1}}", "normalization.min"),
        ],
    )
    def test_impossible_bounds_are_named(self, copy: Callable[[str], Path], text: str, word: str) -> None:
        tree = copy("eyecandies")
        (tree / "a" / "val" / "data" / "00_info_depth.yaml").write_text(text)
        with pytest.raises(DatasetError, match=f"00_info_depth.yaml.*{word}"):
            opened(tree, "eyecandies")

    def test_the_private_split_is_no_test(self, copy: Callable[[str], Path]) -> None:
        tree = copy("eyecandies")
        shutil.rmtree(tree / "a" / "test_public")
        with pytest.raises(DatasetError, match="test_private: has no ground truth"):
            opened(tree, "eyecandies")

    def test_a_defective_part_to_train_on_is_named(self, copy: Callable[[str], Path]) -> None:
        tree = copy("eyecandies")
        path = tree / "a" / "train" / "data" / "001_metadata.yaml"
        path.write_text("{anomalous: 1, bumps: 1}")
        with pytest.raises(DatasetError, match=r"001_image_4\.png: 'bumps' among the good parts"):
            opened(tree, "eyecandies")


class TestGlobs:
    def test_pdreal_has_a_layout_of_its_own(self, tmp_path: Path) -> None:
        tree = pdreal_tree(tmp_path, ("cookie",), train=2, validation=1, good=1, bad=1, size=(640, 480))
        (tree / "layout.yaml").unlink()
        data = open_dataset(tree, "pdreal", "cookie", 0.2)
        assert (data.name, len(data.train), len(data.validation), len(data.test)) == ("cookie", 2, 1, 2)
        assert data.test[0].depth_unit_m == 1e-4

    def test_masks_of_labelme_are_those_of_the_images(self, trees: dict[str, Path], tmp_path: Path) -> None:
        drawn = pdreal_tree(tmp_path, **SMALL, defects=("foreign_other", "dent"), mask_format="labelme")
        for image, polygon in zip(
            opened(trees["pdreal"], "pdreal").test, opened(drawn, "pdreal").test, strict=True
        ):
            assert polygon.part_id == image.part_id
            # LabelMe's polygons have no holes, and no area of one or two pixels.
            whole = image.mask().astype(np.uint8)
            contours, _ = cv2.findContours(whole, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            wanted = np.zeros_like(whole)
            cv2.drawContours(wanted, [c for c in contours if len(c) >= 3], -1, 1, cv2.FILLED)
            assert np.array_equal(polygon.mask(), wanted > 0)

    def test_globs_needs_a_layout_and_other_formats_take_none(self, trees: dict[str, Path]) -> None:
        tree = trees["pdreal"]
        assert opened(tree, "globs") == opened(tree, "pdreal")
        with pytest.raises(ConfigError, match="--layout-file"):
            open_dataset(tree, "globs", "a", 0.2)
        with pytest.raises(ConfigError, match="mvtec3d has a layout of its own"):
            open_dataset(tree, "mvtec3d", "a", 0.2, options_of(tree, "globs"))

    def test_a_wrong_key_is_named_with_its_line(self, copy: Callable[[str], Path]) -> None:
        tree = copy("pdreal")
        text = (tree / "layout.yaml").read_text().replace("depth_unit_m:", "depth_units_m:")
        (tree / "layout.yaml").write_text(text)
        line = 1 + text[: text.index("depth_units_m")].count("\n")
        with pytest.raises(ConfigError, match=rf'layout.yaml:{line}: depth_units_m: .*"depth_unit_m"'):
            opened(tree, "pdreal")

    @pytest.mark.parametrize(
        ("old", "new", "word"),
        [
            ("train/{label}/rgb/{id}.png", "train/{label/rgb/{id}.png", "holds '{'"),
            ("train/{label}/rgb/{id}.png", "../{label}/rgb/{id}.png", "below the data set's folder"),
            ("train/{label}/rgb/{id}.png", "train/a**/{label}/{id}.png", "between slashes"),
            (
                "train/{label}/depth/{id}.png",
                "train/{label}/depth/{nr}.png",
                "depth holds {nr}, which rgb does not",
            ),
            ("train/{label}/rgb/{id}.png", "train/good/rgb/{id}.png", "either {label} in rgb, or label:"),
            ("train/{label}/rgb/{id}.png", "train/{label}/{category}/{id}.png", "every rgb path, or in none"),
        ],
    )
    def test_a_wrong_path_is_named_with_its_line(
        self, copy: Callable[[str], Path], old: str, new: str, word: str
    ) -> None:
        tree = copy("pdreal")
        text = (tree / "layout.yaml").read_text()
        assert old in text
        if "category" not in new and "good" in new:
            text = text.replace("train/{label}/depth/", "train/good/depth/")
        (tree / "layout.yaml").write_text(text.replace(old, f"'{new}'", 1))
        with pytest.raises(ConfigError, match=r"layout.yaml:\d+: .*") as raised:
            opened(tree, "pdreal")
        assert word in str(raised.value)

    def test_a_wrong_unit_is_found_out(self, copy: Callable[[str], Path]) -> None:
        tree = copy("pdreal")
        text = (tree / "layout.yaml").read_text().replace("depth_unit_m: 0.0001", "depth_unit_m: 0.001")
        (tree / "layout.yaml").write_text(text)
        with pytest.raises(
            DatasetError,
            match=r"is 2\.\d+ m.*tenths of a millimetre .* read as millimetres; set depth_unit_m: 0.0001 in "
            r".*layout.yaml",
        ):
            opened(tree, "pdreal")
        assert opened(tree, "pdreal", depth_range_m=(1.0, 3.0)).train

    def test_another_layout_is_a_matter_of_the_file(
        self, copy: Callable[[str], Path], tmp_path: Path
    ) -> None:
        """Everything in two folders; category, label and light in the names; depth as float metres."""
        source = copy("pdreal")
        flat = tmp_path / "flat"
        (flat / "colour").mkdir(parents=True)
        (flat / "z").mkdir()
        for path in sorted((source).rglob("rgb/*.png")):
            category, split, label = path.relative_to(source).parts[:3]
            stem = f"{category}_{split}_{label.replace('_', '')}_C_{path.stem}"
            shutil.copy(path, flat / "colour" / f"{stem}.png")
            counts = cv2.imread(str(path.parent.with_name("depth") / path.name), cv2.IMREAD_UNCHANGED)
            depth_m = counts.astype(np.float32) * np.float32(1e-4)
            depth_m[counts == 0] = np.nan
            np.save(flat / "z" / f"{stem}.npy", depth_m)
            if split == "test":
                shutil.copy(path.parent.with_name("gt") / path.name, flat / "z" / f"{stem}-mask.png")
        layout = yaml.safe_load((source / "layout.yaml").read_text())
        layout |= {
            "depth_unit_m": 1,
            "nan_is_invalid": True,
            "names": {"foreignother": "crumb"},
            "splits": {
                "train": [
                    {
                        "rgb": "colour/{category}_train_good_{light}_{id}.png",
                        "depth": "*/{category}_tr*_good_{light}_{id}.npy",
                        "label": "good",
                    }
                ],
                "test": [
                    {
                        "rgb": "**/colour/{category}_test_{label}_{light}_{id}.png",
                        "depth": "z/{category}_test_{label}_{light}_{id}.npy",
                        "mask": "z/{category}_test_{label}_{light}_{id}-mask.png",
                    }
                ],
            },
        }
        (flat / "layout.yaml").write_text(yaml.safe_dump(layout))
        options = DatasetOptions(layout_file=flat / "layout.yaml")
        assert list_categories(flat, "globs", options) == ("a", "b")
        data = open_dataset(flat, "globs", "b", 0.4, options)
        assert data.name == "b"
        assert (len(data.train), len(data.validation)) == (2, 1)
        assert [s.part_id for s in data.test] == ["crumb/C-000", "dent/C-000", "good/C-000", "good/C-001"]
        before = open_dataset(source, "pdreal", "b", 0.4, options_of(source, "pdreal")).test
        same = next(s for s in before if s.part_id == "dent/000")
        assert np.array_equal(data.test[1].frame().depth_m, same.frame().depth_m)
        assert np.array_equal(data.test[1].mask(), same.mask())
        with pytest.raises(DatasetError, match="holds a, b; name one as the category"):
            open_dataset(flat, "globs", None, 0.4, options)

    def test_what_was_trained_on_is_no_test(self, copy: Callable[[str], Path]) -> None:
        tree = copy("pdreal")
        layout = yaml.safe_load((tree / "layout.yaml").read_text())
        layout["splits"]["test"].append(layout["splits"]["train"][0])
        layout["splits"]["test"].pop(0)
        (tree / "layout.yaml").write_text(yaml.safe_dump(layout))
        with pytest.raises(DatasetError, match="is trained on and tested with"):
            opened(tree, "pdreal")

    def test_parts_that_nothing_tells_apart_are_named(self, copy: Callable[[str], Path]) -> None:
        tree = copy("pdreal")
        layout = yaml.safe_load((tree / "layout.yaml").read_text())
        layout["splits"]["train"] = [
            {"rgb": "**/good/rgb/{id}.png", "depth": "train/good/depth/{id}.png", "label": "good"}
        ]
        (tree / "layout.yaml").write_text(yaml.safe_dump(layout))
        with pytest.raises(DatasetError, match="must tell them apart"):
            opened(tree, "pdreal")

    def test_a_picture_of_depth_is_refused(self, copy: Callable[[str], Path]) -> None:
        tree = copy("pdreal")
        victim = opened(tree, "pdreal").train[0].depth_path
        cv2.imwrite(str(victim), np.zeros((240, 320, 3), np.uint8))
        with pytest.raises(DatasetError, match=r"uint8\(240, 320, 3\), must be one channel of 16 bits"):
            opened(tree, "pdreal")

    def test_a_split_without_files_names_the_path(self, copy: Callable[[str], Path]) -> None:
        tree = copy("pdreal")
        shutil.rmtree(tree / "a" / "test")
        with pytest.raises(DatasetError, match=r"no file is test/{label}/rgb/{id}.png \(the layout's test\)"):
            opened(tree, "pdreal")


class TestCaptures:
    def test_a_wrong_unit_is_found_out(self, copy: Callable[[str], Path]) -> None:
        tree = copy("captures")
        path = tree / "a" / "train-1" / "capture.yaml"
        path.write_text(path.read_text().replace("depth_unit_m: 0.0001", "depth_unit_m: 0.001"))
        with pytest.raises(DatasetError, match=r"set depth_unit_m: 0\.0001 in capture\.yaml"):
            open_dataset(tree / "a", "captures", "train-1", 0.2)

    def test_without_test_lots_every_capture_is_the_test(self, trees: dict[str, Path]) -> None:
        data = open_dataset(trees["captures"], "captures", "a", 0.4)
        assert len(data.test) == 5 + 6

    def test_test_lots_must_leave_some_to_train_on(self, trees: dict[str, Path]) -> None:
        for pattern, said in (("*", "2 match"), ("exam-*", "0 match")):
            with pytest.raises(DatasetError, match=said):
                opened(trees["captures"], "captures", test_lots=pattern)
        with pytest.raises(DatasetError, match="among the good parts to train on"):
            opened(trees["captures"], "captures", test_lots="train-*")


class TestLabelMe:
    def read(self, tmp_path: Path, shapes: list[dict[str, Any]], **changes: Any) -> np.ndarray[Any, Any]:
        from train.datasets.labelme import read_labelme_mask

        path = tmp_path / "a.json"
        path.write_text(json.dumps({"imageHeight": 20, "imageWidth": 30, "shapes": shapes} | changes))
        return read_labelme_mask(path)

    def test_a_rectangle_covers_its_pixels(self, tmp_path: Path) -> None:
        mask = self.read(
            tmp_path, [{"shape_type": "rectangle", "points": [[20.5, 3.5], [10.5, 8.5]], "label": "x"}]
        )
        wanted = np.zeros((20, 30), bool)
        wanted[3:9, 10:21] = True
        assert np.array_equal(mask, wanted)

    def test_a_polygon_of_an_old_file_and_a_circle(self, tmp_path: Path) -> None:
        mask = self.read(
            tmp_path,
            [
                {"points": [[2.5, 2.5], [12.5, 2.5], [2.5, 12.5]], "label": "dent"},
                {"shape_type": "circle", "points": [[22.5, 10.5], [25.5, 10.5]]},
            ],
        )
        v, u = np.mgrid[:20, :30]
        triangle = (u >= 2) & (v >= 2) & (u + v <= 14)
        disc = np.hypot(u - 22, v - 10)
        assert np.array_equal(mask[:, :16], triangle[:, :16])
        assert mask[disc <= 2.5].all()
        assert not mask[:, 16:][disc[:, 16:] >= 4.2].any()

    @pytest.mark.parametrize(
        ("shapes", "word"),
        [
            ([{"shape_type": "point", "points": [[1, 1]]}], "shapes.0"),
            ([{"shape_type": "polygon", "points": [[1, 1], [2, 2]]}], "at least 3"),
        ],
    )
    def test_what_has_no_area_is_refused(
        self, tmp_path: Path, shapes: list[dict[str, Any]], word: str
    ) -> None:
        from edge.errors import CaptureError

        with pytest.raises(CaptureError, match=f"a.json.*{word}"):
            self.read(tmp_path, shapes)

    def test_a_mask_of_another_size_is_refused(self, tmp_path: Path) -> None:
        tree = pdreal_tree(tmp_path, ("a",), train=2, validation=1, good=1, bad=1, mask_format="labelme")
        victim = opened(tree, "pdreal").test[0]
        assert victim.mask_path is not None
        annotation = json.loads(victim.mask_path.read_text())
        victim.mask_path.write_text(json.dumps(annotation | {"imageWidth": 640}))
        with pytest.raises(Exception, match="is 640×240, must be 320×240"):
            opened(tree, "pdreal").test[0].mask()
