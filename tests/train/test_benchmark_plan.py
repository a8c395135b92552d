from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from edge.errors import ConfigError, DatasetError, TrainingError
from tests.small_run import TINY
from tests.train.benchmark_runs import Here
from tests.train.trees import captures_tree
from train.benchmark.bench import Benchmark
from train.benchmark.job import DataSource, Job, Workshop
from train.benchmark.methods import PRESETS, chosen_methods
from train.benchmark.plan import Plan, parse_numbers, parse_parts, plan_benchmark
from train.benchmark.store import ResultStore
from train.benchmark.subset import with_parts
from train.config import TrainConfig
from train.datasets import DatasetOptions, name_of, open_dataset
from train.evaluation import EvaluationOptions
from train.methods import MemoryBankConfig
from train.patching import patched

CAPTURES = DatasetOptions(test_lots="test*")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captures_tree(tmp_path_factory.mktemp("trees") / "captures", ("a",))


def plan_of(tree: Path, methods: str = "msd", *, seeds: str = "0", parts: str = "all") -> Plan:
    return plan_benchmark(
        DataSource(tree, "captures", CAPTURES),
        categories=None,
        methods=chosen_methods(methods.split(","), TINY),
        seeds=parse_numbers(seeds, "--seeds"),
        parts=parse_parts(parts),
        evaluation=EvaluationOptions(),
    )


def job_of(tree: Path) -> Job:
    return plan_of(tree).jobs[0]


@pytest.mark.parametrize(
    ("preset", "method"), [("msd", "msd"), ("memory-bank", "memory-bank"), ("fusion", "fusion")]
)
def test_a_preset_is_what_edge_train_makes_of_the_method_s_name(preset: str, method: str) -> None:
    made = chosen_methods([preset], TrainConfig())[preset]
    assert made == TrainConfig.model_validate({"method": {"name": method}})


def test_presets_differ_where_their_names_do() -> None:
    methods = {name: config.method for name, config in chosen_methods(list(PRESETS), TINY).items()}
    assert methods["msd"] == TINY.method
    assert methods["ast"] == TINY.method.model_validate(
        TINY.method.model_dump() | {"distillation": {"scales": (1,)}}
    )
    assert getattr(methods["memory-bank-rgb"], "inputs") == ("image",)  # noqa: B009 a union's member
    assert getattr(methods["memory-bank-depth"], "inputs") == ("normals",)  # noqa: B009
    assert getattr(methods["memory-bank-rgb-depth"], "inputs") == ("image", "normals")  # noqa: B009
    assert methods["memory-bank"] == MemoryBankConfig()
    assert getattr(methods["fusion"], "members") == (methods["msd"], methods["memory-bank"])  # noqa: B009


def test_a_file_of_methods_patches_the_base_or_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "ablation.yaml"
    path.write_text(
        "whole frame:\n"
        "  preprocessing: {framing: {mode: whole}}\n"
        "bank with z:\n"
        "  preset: memory-bank\n"
        "  method: {inputs: [image, z]}\n"
    )
    methods = chosen_methods(["msd", str(path)], TINY)
    assert list(methods) == ["msd", "whole frame", "bank with z"]
    whole = TINY.model_dump()
    whole["preprocessing"]["framing"]["mode"] = "whole"
    assert methods["whole frame"].model_dump() == whole
    assert methods["bank with z"].method.model_dump() == {
        **chosen_methods(["memory-bank"], TINY)["memory-bank"].method.model_dump(),
        "inputs": ("image", "z"),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {method: {scales: [1]}}", r"m\.yaml: a: the method 'a' .*method\.msd\.scales"),
        ("a: {preset: zebra}", r"m\.yaml: a: 'zebra' is no method"),
        ("a: 3", "a: must be a mapping"),
        ("a: {}\na: {}", r"m\.yaml:2: a: stands twice"),
        ("{}", "holds no method"),
        ("msd: {seed: 3}", "two methods are named 'msd'"),
    ],
)
def test_a_wrong_file_of_methods_says_where(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        chosen_methods(["msd", str(path)], TINY)


def test_a_patch_replaces_lists_and_another_method_whole() -> None:
    values = {"method": {"name": "msd", "scales": [1, 2], "student": {"hidden": 3}}, "seed": 1}
    assert patched(values, {"method": {"student": {"blocks": 2}, "scales": [4]}}) == {
        "method": {"name": "msd", "scales": [4], "student": {"hidden": 3, "blocks": 2}},
        "seed": 1,
    }
    assert patched(values, {"method": {"name": "fusion"}}) == {"method": {"name": "fusion"}, "seed": 1}


@pytest.mark.parametrize("text", ["", "1,", "1,1", "-1", "1.5", "a"])
def test_a_wrong_list_of_seeds_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds"):
        parse_numbers(text, "--seeds")


@pytest.mark.parametrize("text", ["", "1", "10,10", "all,all", "0", "some"])
def test_a_wrong_list_of_parts_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--parts"):
        parse_parts(text)
    assert parse_parts("10,all") == (10, None)


def test_few_parts_are_few_in_all_and_none_of_them_is_tested_on(tree: Path) -> None:
    data = open_dataset(tree, "captures", "a", 0.34, CAPTURES)
    few = with_parts(data, 6, 0.34)
    assert (len(few.train), len(few.validation)) == (4, 2)
    good = [name_of(sample) for sample in data.train + data.validation]
    chosen = [name_of(sample) for sample in few.train + few.validation]
    assert len(set(chosen)) == 6
    assert set(chosen) <= set(good)
    assert min(good) in chosen
    assert max(good) in chosen
    assert few.test == data.test
    assert with_parts(data, None, 0.34) is data
    with pytest.raises(ConfigError, match=r"has 9 good parts .* asks for 10"):
        with_parts(data, 10, 0.34)
    with pytest.raises(ConfigError, match="leaves 2 to train on and 0 to hold out"):
        with_parts(data, 2, 0.34)


def test_a_key_follows_from_all_that_decides_a_result_and_from_nothing_else(
    tree: Path, tmp_path: Path
) -> None:
    job = job_of(tree)
    assert len(job.key) == 64
    changes = [
        replace(job, category="b"),
        replace(job, parts=5),
        replace(job, version="9.9.9"),
        replace(job, precision="bf16-mixed"),
        replace(job, listing="0" * 64),
        replace(job, config=job.config.model_copy(update={"seed": 1})),
        replace(job, evaluation=EvaluationOptions(legacy=True)),
        replace(job, source=replace(job.source, options=replace(CAPTURES, depth_scale=2.0))),
    ]
    assert len({job.key, *(other.key for other in changes)}) == len(changes) + 1
    same = [replace(job, method="other name"), replace(job, source=replace(job.source, path=tmp_path))]
    assert {job.key, *(other.key for other in same)} == {job.key}


def test_a_moved_data_set_has_the_same_jobs_and_a_changed_one_others(tmp_path: Path) -> None:
    first = captures_tree(tmp_path / "here", ("a",))
    keys = [job.key for job in plan_of(first).jobs]
    moved = first.rename(tmp_path / "there")
    assert [job.key for job in plan_of(moved).jobs] == keys
    lot = yaml.safe_load((moved / "a" / "train-1" / "capture.yaml").read_text())
    lot["depth_unit_m"] *= 1.01
    (moved / "a" / "train-1" / "capture.yaml").write_text(yaml.safe_dump(lot))
    assert [job.key for job in plan_of(moved).jobs] != keys


def test_data_that_change_under_way_are_noticed(tmp_path: Path) -> None:
    tree = captures_tree(tmp_path / "tree", ("a",))
    job = job_of(tree)
    (tree / "a" / "test-2" / "good").rename(tree / "a" / "test-2" / "scratch")
    (outcome,) = Here(Workshop(out=tmp_path / "out", cache=None)).run([job])
    assert "a has changed since the benchmark was started" in str(outcome.result)


def test_jobs_are_every_combination_and_twins_are_refused(tree: Path, tmp_path: Path) -> None:
    plan = plan_of(tree, "msd,ast", seeds="0,4", parts="6,all")
    assert sorted((job.method, job.seed, job.parts or 0) for job in plan.jobs) == sorted(
        (method, seed, parts) for method in ("msd", "ast") for seed in (0, 4) for parts in (6, 0)
    )
    assert len({job.key for job in plan.jobs}) == 8
    (tmp_path / "twin.yaml").write_text("my ast: {preset: ast}")
    with pytest.raises(ConfigError, match="a · ast · seed 0 and a · my ast · seed 0 are the same training"):
        plan_of(tree, f"ast,{tmp_path / 'twin.yaml'}")


def test_an_unknown_category_is_named(tree: Path) -> None:
    with pytest.raises(ConfigError, match="has no category zebra; it has a"):
        plan_benchmark(
            DataSource(tree, "captures", CAPTURES),
            categories=["zebra"],
            methods={"msd": TINY},
            seeds=[0],
            parts=[None],
            evaluation=EvaluationOptions(),
        )
    with pytest.raises(DatasetError, match="no category"):
        plan_benchmark(
            DataSource(tree / "a" / "train-1", "captures", CAPTURES),
            categories=None,
            methods={"msd": TINY},
            seeds=[0],
            parts=[None],
            evaluation=EvaluationOptions(),
        )


def test_a_damaged_result_is_named_and_not_counted(tree: Path, tmp_path: Path) -> None:
    plan = plan_of(tree)
    store = ResultStore(tmp_path / "out")
    with store.locked():
        benchmark = Benchmark(plan, store, "captures")
        benchmark.run(Here(Workshop(out=tmp_path / "out", cache=None)), lambda outcome: None)
    assert benchmark.failed == []
    (path,) = (tmp_path / "out" / "results").iterdir()
    whole = path.read_text()
    assert Benchmark(plan, store, "captures").waiting() == ()
    told = json.loads(whole)
    told["result"]["figures"]["i_auroc"] = 0.5
    for damaged in (whole[: len(whole) // 2], "", json.dumps(told), "[]"):
        path.write_text(damaged)
        with pytest.raises(TrainingError, match=rf"{path.name}: is damaged"):
            Benchmark(plan, store, "captures")
    path.unlink()
    assert Benchmark(plan, store, "captures").waiting() == plan.jobs


def test_two_benchmarks_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        ResultStore(tmp_path).locked(),
        pytest.raises(ConfigError, match="another edge-benchmark is at work"),
        ResultStore(tmp_path).locked(),
    ):
        pass
    with ResultStore(tmp_path).locked():
        pass


def test_the_ablation_that_ships_differs_in_every_row() -> None:
    path = Path(__file__).parents[2] / "train" / "configs" / "ablation.yaml"
    methods = chosen_methods([str(path)], TrainConfig())
    assert methods["msd"] == TrainConfig()
    texts = [config.model_dump_json() for config in methods.values()]
    assert len(set(texts)) == len(texts) > 30
