"""The mean of several methods' maps, each as a z-score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from edge.bundle import ANOMALY_MAP, StageSpec
from edge.errors import TrainingError
from edge.preprocessing import Preprocessing, tensor_shapes
from tests.small_run import NoBars
from train.checkpoint import load_model
from train.config import TrainConfig
from train.datasets import DataSet
from train.features import Backbone, load_backbone
from train.good_parts import GoodParts
from train.methods import FittedCurves, FusionConfig, FusionModel, MemoryBankConfig, Method, build_method
from train.methods.fusion import Fuse
from train.stages import Stage
from train.views import FeatureCache

BANK = MemoryBankConfig.model_validate(
    {"backbone": {"blocks": [3]}, "inputs": ["image"], "jitter_deg": [0.0]}
)
BANKS = FusionConfig.model_validate(
    {"members": [BANK.model_dump(), {**BANK.model_dump(), "inputs": ["normals"], "normalise_cells": True}]}
)


@pytest.fixture
def good_parts(tmp_path: Path, training_data: DataSet, tiny_run: Path) -> GoodParts:
    """Six parts to train on and three held out, under the preprocessing of the tiny run."""
    return GoodParts(
        training_data.train,
        training_data.validation,
        load_model(tiny_run)[1].preprocessing,
        cache=FeatureCache(None),
        scratch=tmp_path / "scratch",
        progress=NoBars(),
    )


class Affine(nn.Module):
    """mask → (offset + slope · row) · mask: a map that is known."""

    def __init__(self, offset: float, slope: float) -> None:
        super().__init__()
        self.offset, self.slope = offset, slope

    def forward(self, mask: Tensor) -> Tensor:
        rows = torch.arange(mask.shape[2]).float().view(1, 1, -1, 1)
        return mask * (self.offset + self.slope * rows)


class Given(Method):
    """A method whose map needs no training; a fusion must cope with any."""

    def __init__(self, preprocessing: Preprocessing, offset: float, slope: float) -> None:
        super().__init__(preprocessing)
        self.module = Affine(offset, slope)
        self._backbone = [load_backbone(BANK.backbone, preprocessing.map_cells)]

    @property
    def label(self) -> str:
        return "given"

    def backbones(self) -> tuple[Backbone, ...]:
        return tuple(self._backbone)

    def stages(self) -> tuple[Stage, ...]:
        spec = StageSpec(
            name="given",
            file="given.onnx",
            precision="fp32",
            inputs={"mask": "mask"},
            outputs={ANOMALY_MAP: ANOMALY_MAP},
        )
        return (
            Stage(spec, self.module, {"mask": torch.zeros(tensor_shapes(self.preprocessing)["mask"][1])}),
        )

    def fit(self, good: GoodParts, seed: int) -> FittedCurves:
        return {"guessing": (float(seed),)}


def fusion_of(good: GoodParts, *members: tuple[float, float]) -> FusionModel:
    config = FusionConfig.model_validate({"members": [BANK.model_dump()] * len(members)})
    return FusionModel(config, good.preprocessing, [Given(good.preprocessing, *member) for member in members])


def tensors_of(good: GoodParts, wanted: frozenset[str]) -> list[Mapping[str, Tensor]]:
    """Those of each part held out."""
    return [
        {name: torch.from_numpy(np.array(array)) for name, array in prepared.tensors.items()}
        for _, prepared in good.held_out_prepared(wanted)
    ]


def over_foreground(maps: Sequence[Tensor], tensors: Sequence[Mapping[str, Tensor]]) -> np.ndarray:
    return np.concatenate([m[t["mask"] > 0].double().numpy() for m, t in zip(maps, tensors, strict=True)])


def test_each_map_is_a_z_score_over_the_foreground_of_parts_held_out(good_parts: GoodParts) -> None:
    model = build_method(BANKS, good_parts.preprocessing, seed=0)
    assert isinstance(model, FusionModel)
    model.fit(good_parts, seed=0)
    tensors = tensors_of(good_parts, model.wanted)
    with torch.no_grad():
        made = [model.run_all(t) for t in tensors]
    z_scores = []
    for number, label in enumerate(model.labels):
        values = over_foreground([m[f"{label}_{ANOMALY_MAP}"] for m in made], tensors)
        assert float(model.fuse.mean[number]) == pytest.approx(values.mean(), rel=1e-5)
        assert float(model.fuse.std[number]) == pytest.approx(values.std(ddof=1), rel=1e-5)
        z = (values - float(model.fuse.mean[number])) / float(model.fuse.std[number])
        assert (z.mean(), z.std(ddof=1)) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))
        z_scores.append(z)
    fused = over_foreground([m[ANOMALY_MAP] for m in made], tensors)
    assert np.allclose(fused, np.mean(z_scores, axis=0), atol=1e-4)
    for m, t in zip(made, tensors, strict=True):
        assert not m[ANOMALY_MAP][t["mask"] == 0].any()


def test_a_member_on_another_scale_counts_as_much(good_parts: GoodParts) -> None:
    small, large = fusion_of(good_parts, (0, 1), (5, -2)), fusion_of(good_parts, (0, 1), (5e4, -2e4))
    for model in (small, large):
        model.fit(good_parts, seed=0)
    for tensors in tensors_of(good_parts, frozenset({"mask"})):
        # One map rises where the other falls, as steeply: nothing is left of them.
        assert float(small(tensors).abs().max()) < 1e-5
        assert float(large(tensors).abs().max()) < 1e-5


def test_fusing_by_hand() -> None:
    fuse = Fuse(2)
    fuse.mean.copy_(torch.tensor([1.0, 10.0]))
    fuse.std.copy_(torch.tensor([2.0, 5.0]))
    first, second = torch.tensor([[[[3.0, 1.0]]]]), torch.tensor([[[[20.0, 5.0]]]])
    assert fuse(first, second, torch.ones(1, 1, 1, 2)).flatten().tolist() == [1.5, -0.5]
    assert fuse(first, second, torch.tensor([[[[0.0, 0.5]]]])).flatten().tolist() == [0.0, -0.25]
    assert fuse(first.half(), second.half(), torch.ones(1, 1, 1, 2)).dtype == torch.float32


@pytest.mark.parametrize("member", [(3.0, 0.0), (0.0, 0.0), (float("nan"), 1.0), (float("inf"), 1.0)])
def test_a_map_that_says_nothing_is_an_error(good_parts: GoodParts, member: tuple[float, float]) -> None:
    with pytest.raises(TrainingError, match=r"the map of 'memory_bank_1'"):
        fusion_of(good_parts, (0, 1), member).fit(good_parts, seed=0)


def test_curves_are_named_after_the_members(good_parts: GoodParts) -> None:
    curves = fusion_of(good_parts, (0, 1), (1, 2)).fit(good_parts, seed=7)
    assert curves == {"memory_bank_0 guessing": (7.0,), "memory_bank_1 guessing": (7.0,)}


def test_it_comes_back_from_its_state_and_follows_from_the_seed(good_parts: GoodParts) -> None:
    first, again, fresh = (build_method(BANKS, good_parts.preprocessing, seed=0) for _ in range(3))
    for number, model in enumerate((first, again)):
        model.fit(good_parts.for_member(f"run {number}"), seed=3)
    state = first.state_dict()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())
    fresh.load_state_dict(state)
    fresh.eval()
    tensors = tensors_of(good_parts, first.wanted)[0]
    with torch.no_grad():
        assert torch.equal(fresh(tensors), first(tensors))


def test_a_fusion_of_one_is_none() -> None:
    with pytest.raises(ValidationError, match="at least 2"):
        FusionConfig.model_validate({"members": [{"name": "msd"}]})


def test_a_member_s_scales_must_fit_the_map() -> None:
    members = [{"name": "memory-bank"}, {"name": "msd", "distillation": {"scales": [1, 5]}}]
    with pytest.raises(ValidationError, match=r"\[5\] don't divide map_cells 24"):
        TrainConfig.model_validate(
            {
                "preprocessing": {"depth_px": 192, "map_cells": 24},
                "method": {"name": "fusion", "members": members},
            }
        )
