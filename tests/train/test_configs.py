"""The configurations that ship, and the paper's model built from its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml

from edge.preprocessing import TENSORS, preprocess
from edge.strict_yaml import load_strict_yaml
from edge.testing.frames import flat_frame
from train.config import TrainConfig
from train.features import BackboneConfig
from train.inputs import OnAssembled
from train.methods import MsdConfig, MsdModel
from train.plans import PreprocessingPlan

CONFIGS = Path(__file__).parents[2] / "train" / "configs"


def loaded(name: str) -> TrainConfig:
    return load_strict_yaml(CONFIGS / f"{name}.yaml", TrainConfig)


def msd_of(config: TrainConfig) -> MsdConfig:
    assert isinstance(config.method, MsdConfig)
    return config.method


def leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_cpu_spells_out_the_defaults() -> None:
    said = dict(leaves(yaml.safe_load((CONFIGS / "cpu.yaml").read_text(encoding="utf-8"))))
    defaults = TrainConfig().model_dump(mode="json")
    mended = yaml.safe_dump(defaults, sort_keys=False)
    assert said == dict(leaves(defaults)), f"a default was changed; cpu.yaml must now say:\n{mended}"
    assert loaded("cpu") == TrainConfig()


@pytest.mark.parametrize("name", ["paper", "ast", "demo"])
def test_each_configuration_loads(name: str) -> None:
    config = loaded(name)
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


def test_ast_is_the_paper_s_with_one_scale_and_a_soft_squared_mask() -> None:
    paper, ast = (dict(leaves(loaded(name).model_dump(mode="json"))) for name in ("paper", "ast"))
    assert {key: (paper[key], ast[key]) for key in paper if paper[key] != ast[key]} == {
        "preprocessing.foreground.cells": ("touched", "soft"),
        "method.distillation.scales": ([1, 2, 4], [1]),
        "method.distillation.map_mask": ("once", "twice"),
    }


def test_the_paper_s_schedule() -> None:
    method = msd_of(loaded("paper"))
    for optimiser in (method.teacher_optimiser, method.student_optimiser):
        assert optimiser.total_steps(210) == 72 * 26  # batches of 8, the last, short one left out
        assert (optimiser.learning_rate, optimiser.weight_decay) == (2e-4, 1e-5)
        assert optimiser.clip_norm is None


@pytest.mark.parametrize("name", ["paper", "ast"])
def test_the_paper_s_preprocessing_works_and_asks_nothing_of_the_parts(name: str) -> None:
    plan = loaded(name).preprocessing
    resolved = plan.resolve(plan.foreground.resolve(None), None)
    frame = flat_frame(width_px=320, height_px=240, part_height_m=0.02)
    made = preprocess(frame, resolved, set(TENSORS))
    assert made.tensors["image"].shape == (1, 768, 768, 3)
    assert made.tensors["z"].shape == (1, 64, 24, 24)
    mask = np.asarray(made.tensors["mask"])
    # A flat block has no height over its own mean. Half the frame a side, and four pixels more around it.
    assert np.abs(np.asarray(made.tensors["z"])).max() < 1e-3
    assert 0.25 < mask.mean() < 0.4
    assert (len(np.unique(mask)) > 2) == (name == "ast")


@pytest.fixture(scope="module")
def b5_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random ones: the true ones lie on a hub. The shapes are the same."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("b5") / "weights.pt"
    torch.save(timm.create_model("tf_efficientnet_b5", pretrained=False).state_dict(), path)
    return path


def parameters(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


def conv_pair(channels_in: int, channels_out: int, kernel: int) -> int:
    """Weights and biases of a subnet: 64 hidden channels; half of the 368 and 32 of the position go in."""
    return 64 * (channels_in * kernel**2 + 1) + channels_out * (64 * kernel**2 + 1)


@pytest.mark.slow
def test_the_paper_s_model_has_the_paper_s_shapes_and_sizes(b5_weights: Path) -> None:
    config = loaded("paper")
    method = msd_of(config)
    backbone = BackboneConfig(name="tf_efficientnet_b5", blocks=(6,), weights="file", path=b5_weights)
    assert method.backbone.model_copy(update={"name": backbone.name}) == backbone.model_copy(
        update={"weights": "timm", "path": None}
    )
    plan = config.preprocessing
    preprocessing = plan.resolve(plan.foreground.resolve(None), None)
    model = MsdModel(method.model_copy(update={"backbone": backbone}), preprocessing, seed=0).eval()

    (trunk,) = model.backbones()
    # Counted by hand from AST's code: teacher 3.9 M, student 82.6 M.
    assert parameters(model.teacher) == 4 * 2 + 2 * (3 * conv_pair(216, 368, 3) + conv_pair(216, 368, 5))
    assert parameters(model.teacher) == 3_890_568
    assert parameters(model.student) == 82_601_328
    assert sum(weight.numel() for weight in trunk.parameters()) == 17_543_204  # 17.4 M without BatchNorm

    frame = flat_frame(width_px=320, height_px=240, part_height_m=0.02)
    tensors = preprocess(frame, preprocessing, set(TENSORS))
    with torch.inference_mode():
        features = trunk(torch.from_numpy(np.array(tensors.tensors["image"])))
        z = torch.from_numpy(np.array(tensors.tensors["z"]))
        mask = torch.from_numpy(np.array(tensors.tensors["mask"]))
        assert features.shape == (1, 304, 24, 24)
        assert z.shape == (1, 64, 24, 24)
        outputs = [OnAssembled(model.assemble, net)(features, z) for net in (model.teacher, model.student)]
        assert [tuple(output.shape) for output in outputs] == [(1, 368, 24, 24)] * 2
        anomaly_map = model.distance(*outputs, mask)
    assert anomaly_map.shape == (1, 1, 24, 24)
    assert torch.isfinite(anomaly_map).all()
    assert not anomaly_map[mask == 0].any()
    assert [stage.spec.name for stage in model.stages()] == ["backbone", "teacher", "student", "distance"]


@pytest.mark.parametrize(
    ("inputs", "channels"),
    [
        (["image"], 112),
        (["z"], 64),
        (["normals"], 112),
        (["image", "z"], 176),
        (["image", "normals", "z"], 288),
    ],
)
def test_any_of_the_inputs_will_do(inputs: list[str], channels: int) -> None:
    method = MsdConfig.model_validate(
        {"inputs": inputs, "teacher": {"hidden": 4, "kernels": [3]}, "student": {"hidden": 8, "blocks": 1}}
    )
    plan = PreprocessingPlan.model_validate({"image_px": 96, "map_cells": 24, "framing": {"mode": "whole"}})
    numbers = {"part_threshold_m": 0.005, "mask_threshold_m": 0.004, "closing_px": 1}
    foreground = plan.foreground.model_copy(update=numbers).resolve(None)
    model = MsdModel(method, plan.resolve(foreground, None), seed=0)
    assert model.assemble.mean.shape == (channels,)
    offered = {name for stage in model.stages() for name in stage.spec.inputs.values()}
    assert offered & {"image", "normals", "z"} == set(inputs)
