"""The benchmark runs, and says what its documentation says; how fast anything is, is asserted nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edge.bundle import ANOMALY_MAP, load_bundle
from edge.demo.rig import packaged_bundle
from edge.runtime.onnx import OnnxRunner
from edge.runtime.runner import Array
from tests.bench.bundles import bundle_with_int8_heads, random_bank
from tests.bench.graphs import bare_bound, bare_chain, bare_fused, fused_graph
from tests.bench.result import Result, tables
from tests.bench.timing import in_turn, median_of, ratio_of

ROOT = Path(__file__).resolve().parents[1]


def golden() -> list[dict[str, Array]]:
    """The golden samples of the demo's bundle."""
    samples = []
    for file in load_bundle(packaged_bundle()).golden_files():
        with np.load(file) as arrays:
            samples.append({name: arrays[name] for name in arrays})
    return samples


@pytest.fixture(scope="module")
def result() -> Result:
    """One small run of the benchmark's command."""
    options = [
        "--json",
        "--rounds",
        "2",
        "--burst",
        "1",
        "--inspections",
        "3",
        "--triggers",
        "4",
        "--no-bank",
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.benchmarks", *options],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        timeout=300,
    )
    return Result.model_validate_json(done.stdout)  # JSON on stdout, and nothing else


def test_the_command_gives_every_figure(result: Result) -> None:
    bundle = load_bundle(packaged_bundle())
    assert (result.rounds, result.burst, result.memory.inspections) == (2, 1, 3)
    assert list(result.bundles) == ["demo"]
    assert list(result.bundles["demo"].stages_ms) == [stage.name for stage in bundle.manifest.stages]
    figures = _intervals(json.loads(result.model_dump_json()))
    assert len(figures) >= 20
    for median, low, high in figures:
        assert 0 < low <= median <= high
    sent = result.publishing
    assert set(sent.payload_bytes) == {"verdict", "heatmap", "image/rgb", "map"}
    assert sent.wire_bytes_per_part > sum(sent.payload_bytes.values()) + sent.payload_bytes["verdict"]
    memory = result.memory
    daemon = result.daemon
    assert daemon.triggers == 4
    assert list(daemon.trigger_ms) == ["capture", "depth", "inference", "commit", "total"]
    for step in daemon.trigger_ms.values():
        assert 0 < step.p50_ms <= step.p99_ms
    if result.page is not None:
        assert result.page.parts == 4
        assert 0 < result.page.verdict_age_ms.p50_ms <= result.page.picture_age_ms.p50_ms
    assert 10 < memory.before_mb < memory.warm_mb <= memory.peak_mb
    assert memory.end_mb <= memory.peak_mb


def test_its_keys_are_documented(result: Result) -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    keys = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                keys.add(key)
                walk(inner)

    walk(json.loads(result.model_dump_json()))
    named_by_the_bundle = {"demo", *result.bundles["demo"].stages_ms}
    assert {key for key in keys - named_by_the_bundle if f"`{key}`" not in text} == set()


def test_the_tables_say_what_was_found(result: Result) -> None:
    ratios, times, triggers, sent, memory = tables(result)
    assert ratios.row_count == 5 * len(result.bundles) + 7
    assert sent.row_count == 5
    assert times.row_count > 10
    assert triggers.row_count == (5 if result.page is None else 7)
    assert memory.row_count == 4


def _intervals(value: object) -> list[list[float]]:
    if isinstance(value, list):
        return [value]
    if isinstance(value, dict):
        return [interval for inner in value.values() for interval in _intervals(inner)]
    return []


def test_the_fused_graph_is_the_chain() -> None:
    bundle = load_bundle(packaged_bundle())
    graph = fused_graph(bundle)
    assert {value.name for value in graph.graph.input} == bundle.wanted
    assert [value.name for value in graph.graph.output] == [ANOMALY_MAP]
    with OnnxRunner(bundle) as runner:
        for sample in golden():
            expected = runner.run(sample)[ANOMALY_MAP]
            np.testing.assert_allclose(bare_fused(bundle, sample)(), expected, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(bare_chain(runner, sample)(), expected)
            np.testing.assert_array_equal(bare_bound(runner, sample)(), expected)


def test_a_bank_is_a_bundle_that_runs(tmp_path: Path) -> None:
    bundle = random_bank(tmp_path / "bank", image_px=64, cells=4, rows=50)
    rng = np.random.default_rng(0)
    sample: dict[str, Array] = {
        "image": rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8),
        "mask": np.ones((1, 1, 4, 4), np.float32),
    }
    with OnnxRunner(bundle) as runner:
        made = np.asarray(runner.run(sample)[ANOMALY_MAP])
        assert made.shape == (1, 1, 4, 4)
        assert (made > 0).all()
        # Distances are never int8, and the backbone is no head: there is nothing to compare.
        assert bundle_with_int8_heads(bundle, runner, [sample], tmp_path / "int8") is None
    assert not (tmp_path / "int8").exists()


def test_int8_heads_are_int8_and_the_backbone_is_not(tmp_path: Path) -> None:
    bundle = load_bundle(packaged_bundle())
    samples = golden()
    with OnnxRunner(bundle) as runner:
        int8 = bundle_with_int8_heads(bundle, runner, samples, tmp_path / "int8")
        assert int8 is not None
        expected = np.asarray(runner.run(samples[0])[ANOMALY_MAP])
    precisions = {stage.name: stage.precision for stage in int8.manifest.stages}
    assert precisions == {"backbone": "fp32", "teacher": "int8", "student": "int8", "distance": "fp32"}
    quantised = {
        stage.name: any(node.op_type == "QuantizeLinear" for node in graph.graph.node)
        for stage in int8.manifest.stages
        for graph in [onnx.load_from_string(int8.read(stage.file))]
    }
    assert quantised == {name: precision == "int8" for name, precision in precisions.items()}
    with OnnxRunner(int8) as small:
        made = np.asarray(small.run(samples[0])[ANOMALY_MAP])
    assert (made != expected).any()
    assert float(np.abs(made - expected).max()) < 0.5 * float(np.ptp(expected))


def test_works_take_turns_and_all_have_as_many() -> None:
    calls: list[str] = []
    works = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = in_turn(works, rounds=40, burst=2)
    assert {name: len(values) for name, values in times.items()} == dict.fromkeys("abc", 40)
    turns = calls[9:]  # after three calls of each that don't count
    assert len(turns) == 40 * 3 * 2
    rounds = ["".join(turns[start : start + 6 : 2]) for start in range(0, len(turns), 6)]
    assert all(sorted(one) == list("abc") for one in rounds)
    assert len(set(rounds)) == 6  # every order, so that none always comes first


def test_a_ratio_compares_within_a_round() -> None:
    rng = np.random.default_rng(0)
    load = rng.lognormal(0, 1, 200)  # what else the machine does, the same for both
    ratio = ratio_of(1.1 * load, load)
    assert ratio == pytest.approx((1.1, 1.1, 1.1))
    noisy = ratio_of(1.1 * load * rng.lognormal(0, 0.05, 200), load)
    assert noisy.low < 1.1 < noisy.high
    assert noisy.high - noisy.low < 0.03
    assert median_of(np.array([3.0])) == (3.0, 3.0, 3.0)
