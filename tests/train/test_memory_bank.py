"""The memory bank beside brute force, and as the device gets it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

import train.methods.memory_bank as module
from edge.errors import TrainingError
from edge.runtime.onnx import session_options
from export.onnx import export_graph
from tests.small_run import NoBars
from train.checkpoint import load_model
from train.datasets import DataSet
from train.good_parts import GoodParts
from train.methods import MemoryBankConfig, MemoryBankModel
from train.methods.memory_bank import Bank
from train.views import FeatureCache

CHANNELS, CELLS, ROWS = 5, 6, 40
CONFIG = MemoryBankConfig.model_validate({"backbone": {"blocks": [3]}, "jitter_deg": [0.0]})


def config_of(**changes: object) -> MemoryBankConfig:
    return MemoryBankConfig.model_validate({**CONFIG.model_dump(), **changes})


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bank_of(config: MemoryBankConfig, rows: int = ROWS, seed: int = 0) -> Bank:
    """A bank of random rows behind a random standardisation."""
    bank = Bank(config, CHANNELS, CELLS).eval()
    bank.assemble.set(random(seed + 1, CHANNELS), random(seed + 2, CHANNELS).square() + 0.1)
    bank.set_rows(random(seed, rows, bank.rows.shape[1]))
    return bank


def mask_of(count: int, seed: int = 9) -> Tensor:
    return (random(seed, count, 1, CELLS, CELLS) > 0).float()


def described(bank: Bank, features: Tensor) -> np.ndarray:
    """What is compared, cell by cell: (N, m, m, C), without the module's own code."""
    mean, std = (bank.assemble.mean.double().numpy(), bank.assemble.std.double().numpy())
    x = (features.double().numpy().transpose(0, 2, 3, 1) - mean) / std
    reach, weight = bank.config.neighbourhood // 2, bank.config.position_weight
    found = np.empty_like(x)
    for row in range(CELLS):
        for column in range(CELLS):
            rows = slice(max(0, row - reach), row + reach + 1)
            columns = slice(max(0, column - reach), column + reach + 1)
            found[:, row, column] = x[:, rows, columns].mean(axis=(1, 2))
    if not weight:
        return found
    steps = [-1 + (2 * i + 1) / CELLS for i in range(CELLS)]
    place = np.array([[(r, c) for c in steps] for r in steps]) * weight * math.sqrt(CHANNELS)  # (m, m, 2)
    return np.concatenate([found, np.broadcast_to(place, (*found.shape[:3], 2))], axis=3)


def distances(bank: Bank, features: Tensor) -> np.ndarray:
    """‖x − b‖ of every cell to every row: (N, m, m, M)."""
    x = torch.from_numpy(described(bank, features))
    found = torch.cdist(
        x.flatten(0, 2), bank.rows.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )  # (N·m·m, M)
    return found.view(*x.shape[:3], -1).numpy()


@pytest.mark.parametrize("chunk_rows", [1, 7, 39, 40, 4096])
@pytest.mark.parametrize(
    "changes",
    [{"neighbourhood": 1}, {}, {"neighbourhood": 5}, {"position_weight": 0.7}],
    ids=["one cell", "default", "wide", "position"],
)
def test_a_cell_s_error_is_its_distance_to_the_nearest_row(
    changes: dict[str, object], chunk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK_ROWS", chunk_rows)
    bank = bank_of(config_of(**changes))
    features, mask = random(3, 3, CHANNELS, CELLS, CELLS), mask_of(3)
    expected = distances(bank, features).min(axis=3) / math.sqrt(bank.rows.shape[1])  # (N, m, m)
    found = bank(features, mask)
    assert found.shape == (3, 1, CELLS, CELLS)
    assert np.allclose(found[:, 0], expected * mask[:, 0].numpy(), rtol=1e-4, atol=1e-5)
    assert not found[mask == 0].any()


def test_several_inputs_are_one_after_the_other() -> None:
    bank = bank_of(CONFIG)
    features, mask = random(3, 1, CHANNELS, CELLS, CELLS), mask_of(1)
    assert torch.equal(bank(features[:, :2], features[:, 2:], mask), bank(features, mask))


def test_a_cell_that_was_kept_has_no_error() -> None:
    bank = bank_of(config_of(neighbourhood=1))
    features = random(3, 1, CHANNELS, CELLS, CELLS)
    bank.set_rows(bank.describe(features).permute(0, 2, 3, 1).reshape(-1, CHANNELS))
    assert (
        float(bank(features, torch.ones(1, 1, CELLS, CELLS)).max()) < 2e-3
    )  # ‖x‖² − 2 x·b + ‖b‖² in float32


def test_far_from_the_origin_no_root_of_less_than_nothing_is_taken() -> None:
    bank = bank_of(config_of(neighbourhood=1, standardise=False))
    bank.assemble.set(torch.zeros(CHANNELS), torch.ones(CHANNELS))
    features = 1e3 + random(3, 1, CHANNELS, CELLS, CELLS)
    bank.set_rows(features.permute(0, 2, 3, 1).reshape(-1, CHANNELS))
    assert torch.isfinite(bank(features, torch.ones(1, 1, CELLS, CELLS))).all()


@pytest.mark.parametrize("neighbours", [1, 2, 5])
@pytest.mark.parametrize("chunk_rows", [7, 4096])
def test_the_weight_is_that_of_patchcore_s_equation_7(
    neighbours: int, chunk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK_ROWS", chunk_rows)
    plain, bank = bank_of(CONFIG), bank_of(config_of(reweighting_neighbours=neighbours))
    features, mask = random(4, 4, CHANNELS, CELLS, CELLS), mask_of(4)
    rows, scale = bank.rows.double().numpy(), math.sqrt(CHANNELS)
    found, unweighted = bank(features, mask), plain(features, mask)
    for part in range(4):
        x = described(bank, features)[part].reshape(-1, CHANNELS)  # (m·m, C)
        apart = distances(bank, features)[part].reshape(-1, ROWS)  # (m·m, M)
        judged = apart.min(axis=1) * mask[part].numpy().ravel()
        worst = int(judged.argmax())  # m_test
        matched = int(apart[worst].argmin())  # m*
        others = [row for row in np.argsort(np.linalg.norm(rows - rows[matched], axis=1)) if row != matched]
        top = math.exp(judged[worst] / scale)
        total = sum(math.exp(np.linalg.norm(x[worst] - rows[row]) / scale) for row in others[:neighbours])
        weight = 1 - top / total
        assert np.allclose(found[part], weight * unweighted[part].numpy(), rtol=1e-3, atol=1e-6)


def test_neighbours_are_the_nearest_other_rows() -> None:
    bank = bank_of(config_of(reweighting_neighbours=3), rows=1100)  # in more than one piece
    apart = torch.cdist(bank.rows.double(), bank.rows.double()).fill_diagonal_(torch.inf)
    assert torch.equal(bank.neighbours, apart.topk(3, largest=False).indices)


def test_a_weight_needs_neighbours() -> None:
    with pytest.raises(TrainingError, match=r"has 3 rows, too few for reweighting_neighbours 3"):
        bank_of(config_of(reweighting_neighbours=3), rows=3)


def test_a_far_away_part_overflows_no_exponential() -> None:
    bank = bank_of(config_of(reweighting_neighbours=2))
    assert torch.isfinite(
        bank(1e5 * random(4, 1, CHANNELS, CELLS, CELLS), torch.ones(1, 1, CELLS, CELLS))
    ).all()


def test_a_good_place_at_the_wrong_position_is_so_far_off() -> None:
    weight = 0.5
    bank = Bank(config_of(position_weight=weight), CHANNELS, CELLS).eval()
    alike = torch.ones(1, CHANNELS, CELLS, CELLS)  # the same everywhere
    corner = bank.describe(alike)[:, :, 0, 0]  # (1, C + 2)
    bank.set_rows(corner)
    found = bank(alike, torch.ones(1, 1, CELLS, CELLS))[0, 0]
    for row, column in ((0, 0), (0, 5), (3, 1), (5, 5)):
        away = 2 / CELLS * math.hypot(row, column)  # of the view's half side
        expected = weight * math.sqrt(CHANNELS / (CHANNELS + 2)) * away
        assert float(found[row, column]) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("neighbours", [0, 2])
def test_a_bank_comes_back_from_its_state_with_its_own_number_of_rows(neighbours: int) -> None:
    config = config_of(reweighting_neighbours=neighbours, position_weight=0.2)
    kept = bank_of(config, rows=37)
    features, mask = random(5, 2, CHANNELS, CELLS, CELLS), mask_of(2)
    for fresh in (Bank(config, CHANNELS, CELLS), bank_of(config, rows=11, seed=5)):
        holder = torch.nn.ModuleDict({"inner": fresh.eval()})
        holder.load_state_dict({f"inner.{name}": value for name, value in kept.state_dict().items()})
        assert torch.equal(fresh(features, mask), kept(features, mask))


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"neighbourhood": 2}, "must be odd"), ({"inputs": ["z", "z"]}, "name one thing twice")],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config_of(**changes)


@pytest.mark.parametrize(
    "changes",
    [{}, {"reweighting_neighbours": 2, "position_weight": 0.3}],
    ids=["default", "weighted"],
)
def test_the_device_gets_a_graph_of_fixed_shapes_and_known_operations(
    changes: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK_ROWS", 16)
    bank = bank_of(config_of(**changes))
    features, mask = random(6, 1, CHANNELS, CELLS, CELLS), mask_of(1)
    with torch.no_grad():
        expected = bank(features, mask)
    path = tmp_path / "bank.onnx"
    export_graph(bank, {"features": features, "mask": mask}, ["map"], path)
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    used = {node.op_type for node in graph.node}
    # Nothing whose shape depends on values, and nothing that loops or branches: TensorRT takes them all.
    assert used <= {
        "Add", "ArgMax", "ArgMin", "AveragePool", "Clip", "Concat", "Div", "Exp", "Gather", "GatherND",
        "Less", "MatMul", "Min", "Mul", "Pow", "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMin",
        "ReduceSum", "Reshape", "Slice", "Sqrt", "Sub", "Transpose", "Unsqueeze", "Where",
    }  # fmt: skip
    for value in (*graph.value_info, *graph.input, *graph.output):
        assert all(side.dim_value > 0 for side in value.type.tensor_type.shape.dim), value.name
    assert sum(node.op_type in ("MatMul", "Gemm") for node in graph.node) == 3  # 40 rows, 16 at a time
    session = onnxruntime.InferenceSession(str(path), session_options(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"features": features.numpy(), "mask": mask.numpy()})
    assert np.allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def good_parts(tmp_path_factory: pytest.TempPathFactory, training_data: DataSet, tiny_run: Path) -> GoodParts:
    """Six parts to train on, under the preprocessing of the tiny run."""
    folder = tmp_path_factory.mktemp("bank")
    _, info = load_model(tiny_run)
    return GoodParts(
        training_data.train,
        training_data.validation,
        info.preprocessing,
        cache=FeatureCache(folder / "cache"),
        scratch=folder / "scratch",
        progress=NoBars(),
    )


def fitted(good: GoodParts, seed: int = 0, **changes: object) -> MemoryBankModel:
    model = MemoryBankModel(config_of(**changes), good.preprocessing)
    assert model.fit(good, seed) == {}
    assert not model.training
    return model


def cells_of(good: GoodParts, model: MemoryBankModel) -> np.ndarray:
    """Every foreground cell of the parts to train on, as it is compared: (K, C)."""
    config = model.config
    views = good.views(config.inputs, config.angles_deg, model.backbones()[0])
    with torch.no_grad():
        found = [
            model.bank.describe(parts).permute(0, 2, 3, 1)[mask[:, 0] > 0] for parts, mask in views.batches(2)
        ]
    return torch.cat(found).numpy()


def test_what_is_kept_are_cells_of_the_good_parts(good_parts: GoodParts) -> None:
    model = fitted(good_parts)
    cells = cells_of(good_parts, model)
    rows = model.bank.rows.numpy()
    assert len(rows) == round(0.1 * len(cells))
    apart = torch.cdist(torch.from_numpy(rows).double(), torch.from_numpy(cells).double())
    assert float(apart.min(dim=1).values.max()) < 1e-3
    assert apart.argmin(dim=1).unique().numel() == len(rows)  # each a cell of its own


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({"max_rows": 7}, 7),
        ({"max_candidates": 50}, 5),
        ({"max_candidates": 50, "coreset_share": 1.0}, 50),
        ({"max_candidates": 5, "coreset_share": 0.01}, 1),
    ],
)
def test_no_more_rows_are_kept_than_are_asked_for(
    good_parts: GoodParts, changes: dict[str, object], rows: int
) -> None:
    assert len(fitted(good_parts, **changes).bank.rows) == rows


def test_all_cells_are_kept_where_the_share_is_one(good_parts: GoodParts) -> None:
    model = fitted(good_parts, coreset_share=1.0)
    cells = cells_of(good_parts, model)
    assert len(model.bank.rows) == len(cells)
    assert np.allclose(np.sort(model.bank.rows.numpy(), axis=0), np.sort(cells, axis=0), atol=1e-5)


def test_a_greedy_coreset_leaves_less_far_off_than_chance_does(good_parts: GoodParts) -> None:
    model = fitted(good_parts, projection=None)
    cells = torch.from_numpy(cells_of(good_parts, model))
    by_chance = cells[torch.randperm(len(cells), generator=torch.Generator().manual_seed(0))]
    farthest = [
        float(torch.cdist(cells, rows).min(dim=1).values.max())
        for rows in (model.bank.rows, by_chance[: len(model.bank.rows)])
    ]
    assert farthest[0] < farthest[1]


def test_a_bank_follows_from_the_seed(good_parts: GoodParts) -> None:
    first, again, other = (fitted(good_parts, seed=seed).bank.rows for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_without_standardisation_features_are_compared_as_they_are(good_parts: GoodParts) -> None:
    bank = fitted(good_parts, standardise=False).bank
    assert torch.equal(bank.assemble.mean, torch.zeros_like(bank.assemble.mean))
    assert torch.equal(bank.assemble.std, torch.ones_like(bank.assemble.std))


def test_rotations_are_parts_more(good_parts: GoodParts) -> None:
    one, four = (fitted(good_parts, rotations=turns).bank.rows for turns in (1, 4))
    assert len(four) > 3 * len(one)
