"""Modules wired by the names of tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edge.bundle import ANOMALY_MAP, StageSpec
from edge.preprocessing import TENSORS, Preprocessing
from train.checkpoint import load_model
from train.features import Backbone
from train.methods import FusionConfig, build_method
from train.stages import Stage, rename_tensors, run_stages


class Weighed(nn.Module):
    """a + factor · b."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + self.factor * b


def stage_of(name: str, factor: float, a: str, b: str, made: str) -> Stage:
    spec = StageSpec(
        name=name, file=f"{name}.onnx", precision="fp32", inputs={"b": b, "a": a}, outputs={"out": made}
    )
    return Stage(spec, Weighed(factor), {"a": torch.zeros(1), "b": torch.zeros(1)})


STAGES = (
    stage_of("first", 10.0, "image", "z", "one"),
    stage_of("second", 100.0, "one", "image", "two"),
    stage_of("third", 1000.0, "two", "one", ANOMALY_MAP),
)
GIVEN = {"image": torch.tensor([1.0, 2.0]), "z": torch.tensor([3.0, 4.0])}


def test_each_stage_gets_what_earlier_ones_made_in_the_order_of_its_module() -> None:
    made = run_stages(STAGES, GIVEN)
    assert {name: value.tolist() for name, value in made.items()} == {
        "one": [31.0, 42.0],
        "two": [131.0, 242.0],
        ANOMALY_MAP: [31131.0, 42242.0],
    }
    assert set(GIVEN) == {"image", "z"}


def test_a_stage_that_comes_too_early_finds_nothing() -> None:
    with pytest.raises(KeyError, match="one"):
        run_stages(STAGES[1:], GIVEN)


def test_renamed_stages_do_the_same_under_other_names() -> None:
    names = {"one": "my_one", "two": "my_two"}
    renamed = tuple(rename_tensors(stage, "my_", names) for stage in STAGES)
    assert [stage.spec.name for stage in renamed] == ["my_first", "my_second", "my_third"]
    assert [stage.spec.file for stage in renamed] == ["my_first.onnx", "my_second.onnx", "my_third.onnx"]
    assert renamed[1].spec.inputs == {
        "b": "image",
        "a": "my_one",
    }  # nodes keep their names, and frames' tensors
    assert [stage.module for stage in renamed] == [stage.module for stage in STAGES]
    before, after = run_stages(STAGES, GIVEN), run_stages(renamed, GIVEN)
    assert set(after) == {"my_one", "my_two", ANOMALY_MAP}
    assert torch.equal(after[ANOMALY_MAP], before[ANOMALY_MAP])


def bank(*inputs: str, cut: int = 3) -> dict[str, object]:
    return {"name": "memory-bank", "inputs": list(inputs), "backbone": {"blocks": [cut]}}


def msd(*inputs: str, cut: int = 3) -> dict[str, object]:
    small = {"teacher": {"hidden": 4, "kernels": [3]}, "student": {"hidden": 4, "blocks": 1}}
    return {**bank(*inputs, cut=cut), "name": "msd", **small}


@pytest.fixture(scope="module")
def preprocessing(tiny_run: Path) -> Preprocessing:
    return load_model(tiny_run)[1].preprocessing


@pytest.mark.parametrize(
    ("members", "backbones"),
    [
        ([msd("image"), bank("image", "normals")], 1),
        ([bank("normals"), msd("image", "z")], 1),
        ([msd("z"), bank("image")], 1),
        ([msd("image"), msd("image"), msd("normals")], 1),
        ([bank("image", cut=2), bank("image"), bank("image", cut=2), msd("normals")], 2),
        ([bank("image", "normals"), bank("image", "normals", "z", cut=2), bank("normals", cut=2)], 2),
    ],
)
def test_a_fusion_s_stages_have_names_of_their_own(
    members: list[dict[str, object]], backbones: int, preprocessing: Preprocessing
) -> None:
    model = build_method(FusionConfig.model_validate({"members": members}), preprocessing, seed=0).eval()
    stages = model.stages()
    names = [stage.spec.name for stage in stages]
    assert len(set(names)) == len(names)
    by_file: dict[str, set[object]] = {}
    for stage in stages:
        module = stage.module
        by_file.setdefault(stage.spec.file, set()).add(
            module.sha256 if isinstance(module, Backbone) else id(module)
        )
    assert {len(modules) for modules in by_file.values()} == {1}
    assert sum(file.endswith("backbone.onnx") for file in by_file) == backbones

    known = set(TENSORS)
    for stage in stages:
        assert set(stage.spec.inputs.values()) <= known, stage.spec
        (made,) = stage.spec.outputs.values()
        assert made not in known, f"{made} is made twice"
        known.add(made)
    assert stages[-1].spec.outputs == {ANOMALY_MAP: ANOMALY_MAP}

    assert len(model.backbones()) == backbones
    wanted = {
        (str(member["backbone"]), picture)
        for member in members
        for picture in member["inputs"]  # type: ignore[attr-defined]  # a list, as written above
        if picture != "z"
    }
    assert sum("backbone" in name for name in names) == len(wanted)  # each picture once through each

    shapes = {
        name: tensor
        for stage in stages
        for node, tensor in stage.examples.items()
        for name in [stage.spec.inputs[node]]
        if name in TENSORS
    }
    with torch.no_grad():
        assert model(shapes).shape == (1, 1, preprocessing.map_cells, preprocessing.map_cells)
