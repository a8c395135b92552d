"""A choice among configurations: each is trained, and the probe tells which is better."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from edge.errors import ConfigError, TrainingError
from edge.strict_yaml import load_strict_yaml
from tests.small_run import TINY, NoBars
from train.checkpoint import load_model
from train.choosing import Candidates, Choice, candidate_config, choose
from train.datasets import DataSet
from train.probe import ProbeConfig
from train.views import FeatureCache

LARGE = ProbeConfig(parts=3, defects_per_part=2, kinds=("foreign_other",), severity=2.0)
CANDIDATES = Candidates(
    {
        "blind": {"score": {"smoothing_px": 40.0}, "method": {"student_optimiser": {"steps": 1}}},
        "bank": {"method": {"name": "memory-bank", "backbone": {"blocks": [3]}, "coreset_share": 0.05}},
        "as-it-is": {},
    }
)


def test_the_better_one_is_first_and_nothing_is_trained_twice(tmp_path: Path, training_data: DataSet) -> None:
    out = tmp_path / "choice"

    def chosen(candidates: Candidates) -> Choice:
        return choose(
            training_data, TINY, candidates, out, cache=FeatureCache(tmp_path / "cache"),
            progress=NoBars(), resume=True, probe=LARGE,
        )  # fmt: skip

    choice = chosen(CANDIDATES)
    assert set(choice.figures) == {"blind", "bank", "as-it-is"}
    assert list(choice.figures)[-1] == "blind"
    figures = [figures.figure for figures in choice.figures.values()]
    assert figures == sorted(figures, reverse=True)
    assert figures[0] > 0.8
    assert choice.probe_parts == 9
    assert Choice.model_validate_json((out / "choice.json").read_text()) == choice
    assert load_model(out / "bank")[1].config.method.name == "memory-bank"
    changed = {name: (out / name / "model.safetensors").stat().st_mtime_ns for name in choice.figures}
    assert chosen(CANDIDATES) == choice
    assert changed == {name: (out / name / "model.safetensors").stat().st_mtime_ns for name in changed}
    with pytest.raises(TrainingError, match="as-it-is: was trained with another configuration"):
        chosen(Candidates({"as-it-is": {"seed": 3}}))


def test_a_patch_changes_what_it_names() -> None:
    config = candidate_config(TINY, "a", {"method": {"student": {"hidden": 24}}, "seed": 4})
    values = TINY.model_dump()
    values["method"]["student"]["hidden"] = 24
    assert config.model_dump() == {**values, "seed": 4}
    bank = candidate_config(TINY, "b", {"method": {"name": "memory-bank"}})
    assert bank.method.name == "memory-bank"
    assert bank.preprocessing == TINY.preprocessing


@pytest.mark.parametrize(
    ("patch", "word"),
    [
        ({"method": {"studnet": {}}}, "candidate 'a': method.msd.studnet"),
        ({"held_out_share": 0.5}, "held_out_share must be the same"),
    ],
)
def test_a_wrong_patch_is_named_before_anything_is_trained(
    tmp_path: Path, training_data: DataSet, patch: dict[str, object], word: str
) -> None:
    candidates = Candidates.model_validate({"first": {}, "a": patch})
    with pytest.raises(ConfigError, match=word):
        choose(training_data, TINY, candidates, tmp_path / "out", cache=FeatureCache(None), progress=NoBars())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "word"), [("../a: {}", "no name for a folder"), ("{}", "names no candidate")]
)
def test_wrong_candidates_are_named(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=word):
        load_strict_yaml(tmp_path / "c.yaml", Candidates)


@pytest.mark.slow
def test_the_command_prints_the_choice(tmp_path: Path, simulated: Path) -> None:
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(TINY.model_dump(mode="json")))
    (tmp_path / "candidates.yaml").write_text("one: {}\ntwo: {seed: 9}\n")
    done = subprocess.run(
        [
            Path(sys.executable).parent / "edge-train", "--data", simulated / "train",
            "--config", tmp_path / "train.yaml", "--choose", tmp_path / "candidates.yaml",
            "--out", tmp_path / "out", "--no-cache", "--json",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["figures"]) == {"one", "two"}
    assert Path(told["best"]).parent == tmp_path / "out"
