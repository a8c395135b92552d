"""Evaluation of a run on simulated parts: figures against the metrics one by one, options, maps."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console
from typer.testing import CliRunner

from edge.bundle import load_bundle
from edge.camera.sample import Sample
from edge.errors import DatasetError, TrainingError
from edge.inspector import Inspector
from edge.region_rules import RegionRules, Zone
from edge.runtime import runner_for
from edge.scoring import ScoreSpec
from tests.tiny_bundle import make_tiny_bundle
from train.commands.evaluate import app
from train.commands.figures_table import figures_tables
from train.datasets import name_of, open_dataset
from train.evaluation import (
    Evaluation,
    EvaluationOptions,
    Figures,
    Predictor,
    check_folder_for_maps,
    evaluate,
    judge,
    predictor_of_bundle,
    predictor_of_run,
    save_maps,
)
from train.metrics import (
    aupro,
    aupro_legacy,
    false_positive_rate_at,
    image_auroc,
    lost_ground_truth_fraction,
    pixel_auroc,
    resize_map,
    resize_mask,
)
from train.views import prepare


@pytest.fixture(scope="module")
def samples(simulated: Path) -> tuple[Sample, ...]:
    return open_dataset(simulated / "test", "captures", None, 0.5).test


@pytest.fixture(scope="module")
def predictor(tiny_run: Path) -> Predictor:
    return predictor_of_run(tiny_run)


@pytest.fixture(scope="module")
def judged(predictor: Predictor, samples: Sequence[Sample]) -> Evaluation:
    return evaluate(predictor, samples, lambda n: None, EvaluationOptions(legacy=True, bootstrap=60))


def test_each_figure_is_what_its_metric_says(
    judged: Evaluation, predictor: Predictor, samples: Sequence[Sample]
) -> None:
    figures, masks, maps = judged.figures, [s.mask() for s in samples], list(judged.maps)
    labels = [s.defect is not None for s in samples]
    areas, published = aupro(masks, maps), aupro_legacy(masks, maps)
    assert (figures.images, figures.good, figures.defective) == (8, labels.count(False), labels.count(True))
    assert figures.unmarked == 0
    assert figures.i_auroc == image_auroc(labels, judged.scores)
    assert figures.p_auroc == pixel_auroc(masks, maps)
    assert (figures.aupro_30, figures.aupro_5, figures.aupro_1) == (areas[0.3], areas[0.05], areas[0.01])
    assert figures.fpr_at_detection == false_positive_rate_at(labels, judged.scores, 0.95)
    assert figures.at_224 is not None
    small = aupro([resize_mask(m) for m in masks], [resize_map(m) for m in maps])
    assert (figures.at_224.aupro_30, figures.at_224.aupro_1) == (small[0.3], small[0.01])
    assert figures.legacy is not None
    assert figures.legacy.aupro_5 == published[0.05]
    # One type of defect only: good ∪ type is everything.
    (kind,) = figures.by_defect.values()
    assert (kind.i_auroc, kind.p_auroc, kind.aupro_1) == (figures.i_auroc, figures.p_auroc, figures.aupro_1)
    assert (kind.at_224, kind.legacy) == (figures.at_224, figures.legacy)
    foregrounds = []
    for sample in samples:
        prepared = prepare(sample, predictor.preprocessing, frozenset({"mask"}))
        foregrounds.append(prepared.view.give_back(prepared.mask.astype(np.float32), 320, 240) > 0)
    assert figures.ground_truth_outside_mask == lost_ground_truth_fraction(masks, foregrounds)
    lost = {
        name_of(s): float((m & ~f).sum() / m.sum())
        for s, m, f in zip(samples, masks, foregrounds, strict=True)
        if m.any()
    }
    assert figures.outside_mask is not None
    assert figures.outside_mask.mean == pytest.approx(np.mean(list(lost.values())), abs=1e-12)
    assert lost[figures.outside_mask.worst_part] == figures.outside_mask.worst == max(lost.values())


def test_the_region_rules_of_a_bundle_are_part_of_the_score(
    samples: Sequence[Sample], tmp_path: Path
) -> None:
    bundle = load_bundle(make_tiny_bundle(tmp_path / "bundle"))
    assert bundle.calibration is not None
    top = Zone(name="top", corners=((0, 0), (1, 0), (1, 0.5), (0, 0.5)), threshold=0.4)
    left = Zone(name="left", corners=((0, 0), (0.4, 0), (0.4, 1), (0, 1)), ignore=True)
    rules = RegionRules(min_area_mm2=30, zones=(top, left))
    ruled = replace(bundle, calibration=bundle.calibration.model_copy(update={"region_rules": rules}))
    rough = EvaluationOptions(score=ScoreSpec(kind="mean"))
    with runner_for(bundle) as runner:
        inspector = Inspector(ruled, runner)
        on_the_rig = tuple(inspector.inspect(sample.frame()).score for sample in samples)
        result = evaluate(predictor_of_bundle(ruled, runner), samples, lambda n: None)
        plain = evaluate(predictor_of_bundle(bundle, runner), samples, lambda n: None)
        other = evaluate(predictor_of_bundle(ruled, runner), samples, lambda n: None, rough)
        huge = bundle.calibration.model_copy(update={"region_rules": RegionRules(min_area_mm2=1e6)})
        nothing = predictor_of_bundle(replace(bundle, calibration=huge), runner)
        with pytest.raises(DatasetError, match="gets no decision on the device"):
            judge(nothing, samples, lambda n: None)
    assert result.scores == on_the_rig
    assert result.scores != plain.scores
    assert result.figures.region_rules == rules
    assert plain.figures.region_rules is None
    assert result.figures.p_auroc == plain.figures.p_auroc  # the model's map
    assert other.figures.region_rules is None
    table = Console(width=120, record=True, file=io.StringIO())
    table.print(figures_tables(result.figures, "exact"))
    said = table.export_text()
    assert "scores by region rules: top above 0.4, left ignored, 30 mm² at least" in said


def test_figures_survive_json(judged: Evaluation) -> None:
    assert Figures.model_validate_json(judged.figures.model_dump_json()) == judged.figures
    with pytest.raises(ValidationError):
        judged.figures.i_auroc = 1.0  # type: ignore[misc]


def test_maps_that_are_not_kept_give_the_same_figures(
    judged: Evaluation, predictor: Predictor, samples: Sequence[Sample]
) -> None:
    options = EvaluationOptions(legacy=True, bootstrap=60, kept_maps_bytes=0)
    again = evaluate(predictor, samples, lambda n: None, options)
    assert again.figures == judged.figures
    assert again.scores == judged.scores
    for first, second in zip(judged.maps, again.maps, strict=True):
        np.testing.assert_array_equal(first, second)
    assert again.maps[0] is not again.maps[0]


def test_a_part_whose_defect_nobody_marked_counts_for_its_image_alone(
    judged: Evaluation, predictor: Predictor, samples: Sequence[Sample]
) -> None:
    victim = next(i for i, sample in enumerate(samples) if sample.defect is not None)
    some = [replace(s, mask_path=None) if i == victim else s for i, s in enumerate(samples)]
    figures = evaluate(predictor, some, lambda n: None).figures
    rows = [i for i in range(len(samples)) if i != victim]
    assert (figures.unmarked, figures.i_auroc) == (1, judged.figures.i_auroc)
    assert figures.aupro_30 == aupro([samples[i].mask() for i in rows], [judged.maps[i] for i in rows])[0.3]

    none = [replace(sample, mask_path=None) for sample in samples]
    options = EvaluationOptions(legacy=True, bootstrap=60)
    figures = evaluate(predictor, none, lambda n: None, options).figures
    assert (figures.unmarked, figures.i_auroc) == (figures.defective, judged.figures.i_auroc)
    assert (figures.p_auroc, figures.aupro_30, figures.at_224, figures.legacy) == (None,) * 4
    assert (figures.ground_truth_outside_mask, figures.outside_mask) == (None, None)
    assert figures.intervals is not None
    assert figures.intervals.aupro_30 is None


def test_ground_truth_outside_the_mask_is_counted_and_its_worst_part_named(
    predictor: Predictor, samples: Sequence[Sample], tmp_path: Path
) -> None:
    marked = [i for i, sample in enumerate(samples) if sample.defect is not None]
    changed = list(samples)
    for count, index in enumerate(marked[:2], start=1):
        mask = samples[index].mask().astype(np.uint8)
        mask.ravel()[: int(mask.sum()) * count] = 1  # as much again, twice as much: rows where no part is
        path = tmp_path / f"{index}.png"
        assert cv2.imwrite(str(path), mask)
        changed[index] = replace(samples[index], mask_path=path)
    figures = evaluate(predictor, changed, lambda n: None).figures
    assert figures.outside_mask is not None
    assert figures.outside_mask.worst == pytest.approx(2 / 3, abs=1e-12)
    assert figures.outside_mask.worst_part == name_of(samples[marked[1]])
    assert figures.outside_mask.mean == pytest.approx((1 / 2 + 2 / 3) / len(marked), abs=1e-12)
    areas = [int(samples[i].mask().sum()) for i in marked]
    lost = areas[0] + 2 * areas[1]
    assert figures.ground_truth_outside_mask == pytest.approx(lost / (sum(areas) + lost), abs=1e-12)


def test_another_score_function_says_so(
    judged: Evaluation, predictor: Predictor, samples: Sequence[Sample]
) -> None:
    rough = ScoreSpec(kind="mean", smoothing_px=0.0)
    result = evaluate(predictor, samples, lambda n: None, EvaluationOptions(score=rough))
    assert (result.figures.score, result.figures.score_overridden) == (rough, True)
    assert (judged.figures.score, judged.figures.score_overridden) == (predictor.score, False)
    own = evaluate(replace(predictor, score=rough), samples, lambda n: None)
    assert result.scores == own.scores
    assert result.scores != judged.scores


def test_a_split_without_a_class_is_refused_before_anything_is_judged(
    predictor: Predictor, samples: Sequence[Sample]
) -> None:
    def judge_nothing(count: int) -> None:
        raise AssertionError("a sample was judged")

    for some in ([s for s in samples if s.defect is None], [s for s in samples if s.defect], []):
        with pytest.raises(DatasetError, match="at least one of each"):
            evaluate(predictor, some, judge_nothing)


def test_good_parts_alone_can_be_judged_if_not_evaluated(
    judged: Evaluation, predictor: Predictor, samples: Sequence[Sample]
) -> None:
    rows = [i for i, sample in enumerate(samples) if sample.defect is None]
    split = judge(predictor, [samples[i] for i in rows], lambda n: None)
    assert split.names == tuple(judged.names[i] for i in rows)
    assert split.judged.scores == tuple(judged.scores[i] for i in rows)
    assert (split.outside, split.score) == ((None,) * len(rows), predictor.score)
    np.testing.assert_array_equal(split.judged.maps[0], judged.maps[rows[0]])


@pytest.mark.parametrize(
    "wrong", [{"detection_rate": 0.0}, {"detection_rate": 1.1}, {"bootstrap": 39}, {"seed": -1}, {"sede": 1}]
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        EvaluationOptions.model_validate(wrong)


def test_parts_whose_names_fall_together_keep_their_maps(judged: Evaluation, tmp_path: Path) -> None:
    names = ("a/b_c/0", "a_b/c/0", *judged.names[2:])
    save_maps(tmp_path / "maps", replace(judged, names=names))
    rows = json.loads((tmp_path / "maps" / "scores.json").read_text())["images"]
    assert len({row["map"] for row in rows}) == len(rows) == 8
    for index, row in enumerate(rows):
        np.testing.assert_array_equal(np.load(tmp_path / "maps" / row["map"]), judged.maps[index])


def test_the_folder_for_maps_is_looked_at_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    check_folder_for_maps(tmp_path / "empty")
    check_folder_for_maps(tmp_path / "new" / "one")
    for folder, word in (
        (tmp_path, "holds something already"),
        (tmp_path / "file", "Not a directory"),
        (tmp_path / "file" / "below", "Not a directory"),
    ):
        with pytest.raises(TrainingError, match=word):
            check_folder_for_maps(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def edge_evaluate(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


def test_a_person_gets_the_tables(tiny_run: Path, simulated: Path, judged: Evaluation) -> None:
    given = ("--run", tiny_run, "--data", simulated / "test", "--metrics", "both", "--bootstrap", 60)
    code, said, _ = edge_evaluate(*given)
    assert code == 0
    figures = judged.figures
    assert figures.legacy is not None
    assert figures.intervals is not None
    for number in (figures.i_auroc, figures.aupro_1, figures.legacy.aupro_30, figures.intervals.i_auroc.low):
        assert f"{number:.4f}" in said
    for word in ("5 good and 3 defective", "original", "at 224", "legacy", "95% interval", "are found"):
        assert word in " ".join(said.split())
    assert "overridden" not in said


def test_published_thresholds_alone(tiny_run: Path, simulated: Path, judged: Evaluation) -> None:
    given = ("--run", tiny_run, "--data", simulated / "test", "--metrics", "legacy")
    code, said, _ = edge_evaluate(*given)
    assert code == 0
    assert "original" not in said
    assert judged.figures.legacy is not None
    assert f"{judged.figures.legacy.aupro_30:.4f}" in said


def test_an_ablation_of_the_score_is_labelled(tiny_run: Path, simulated: Path) -> None:
    given = ("--run", tiny_run, "--data", simulated / "test", "--score", "top_mean", "--top-share", "0.05")
    code, said, _ = edge_evaluate(*given)
    assert code == 0
    assert "score overridden: top_mean of 0.05, smoothing 1 px" in said
    code, said, _ = edge_evaluate(*given, "--json")
    figures = Figures.model_validate_json(said)
    assert figures.score_overridden
    assert figures.score == ScoreSpec(kind="top_mean", smoothing_px=1.0, top_share=0.05)


def test_wrong_options_end_before_anything_is_judged(tiny_run: Path, simulated: Path, tmp_path: Path) -> None:
    given = ("--run", tiny_run, "--data", simulated / "test")
    for wrong, word in (
        (("--bootstrap", 5), "at least 40"),
        (("--detection-rate", 0), "--detection-rate"),
        (("--smoothing-px", "inf"), "--smoothing-px"),
        (("--top-share", 0), "--top-share"),
        (("--metrics", "best"), "exact"),
    ):
        code, said, complaint = edge_evaluate(*given, *wrong)
        assert (code, said) == (2, "")
        assert word in complaint
    assert edge_evaluate(*given, "--top-share", 0.1)[0] == 3
    # A folder for maps that can't be written is found before the data is even looked for.
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    code, _, complaint = edge_evaluate(
        "--run", tiny_run, "--data", tmp_path / "no", "--save-maps", tmp_path / "full"
    )
    assert code == 9
    assert "holds something already" in complaint
