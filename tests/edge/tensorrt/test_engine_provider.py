"""Which engines are built, which are taken from the cache, and what becomes of those that can't be used."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge.bundle import Bundle, load_bundle
from edge.config import TensorRTConfig
from edge.errors import BundleCorrupt, ConfigError, RunnerError
from edge.runtime.tensorrt.building import BuildCancelled
from edge.runtime.tensorrt.engines import EngineKey
from edge.runtime.tensorrt.progress import BuildStep
from edge.runtime.tensorrt.provider import EngineProvider
from edge.runtime.tensorrt.runner import TensorRtRunner
from tests.edge.tensorrt.fake_tensorrt import fake_tensorrt
from tests.edge.tensorrt.pretending import Machine, machine
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture
def there() -> Iterator[Machine]:
    with machine() as made:
        yield made


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(make_tiny_bundle(tmp_path / "bundle"))


@pytest.fixture
def config(tmp_path: Path) -> TensorRTConfig:
    return TensorRTConfig(engines_dir=tmp_path / "engines")


def give_all(provider: EngineProvider, bundle: Bundle, takes: Callable[[bytes], bool] = bool) -> list[bool]:
    """Whether each stage's engine came from the cache."""
    return [
        provider.engine(bundle, stage, lambda plan: plan if takes(plan) else None).cached
        for stage in bundle.manifest.stages
    ]


def test_engines_are_built_once(there: Machine, bundle: Bundle, config: TensorRTConfig) -> None:
    steps: list[BuildStep] = []
    provider = EngineProvider(there.trt, config, there.gpu.identity, progress=steps.append)
    assert give_all(provider, bundle) == [False, False, False]
    assert [step.onnx for step in steps if step.fraction == 1.0 and step.phase == "built"] == [
        stage.file for stage in bundle.manifest.stages
    ]
    steps.clear()
    again = EngineProvider(there.trt, config, there.gpu.identity, progress=steps.append)
    assert give_all(again, bundle) == [True, True, True]
    assert steps == []
    assert there.pretend.made["build"] == 3


def test_the_sidecar_says_what_it_is(there: Machine, bundle: Bundle, config: TensorRTConfig) -> None:
    provider = EngineProvider(there.trt, config, there.gpu.identity)
    stage = bundle.manifest.stages[0]
    made = provider.engine(bundle, stage, bytes)
    told = json.loads(made.path.with_suffix(".json").read_text())
    assert told["onnx"] == stage.file
    assert told["key"]["onnx_sha256"] == bundle.manifest.files[stage.file].sha256
    assert told["key"]["tensorrt"] == there.trt.__version__
    assert told["key"]["gpu"] == there.gpu.identity.model_dump()
    assert told["plan_bytes"] == made.path.stat().st_size
    assert told["build_s"] >= 0


def test_a_bundle_that_shares_a_graph_shares_its_engine(
    there: Machine, bundle: Bundle, config: TensorRTConfig, tmp_path: Path
) -> None:
    give_all(EngineProvider(there.trt, config, there.gpu.identity), bundle)
    other = load_bundle(make_tiny_bundle(tmp_path / "other", colour=(0.3, 0.3, 0.3)))
    cached = give_all(EngineProvider(there.trt, config, there.gpu.identity), other)
    same = [
        a.sha256 == b.sha256
        for a, b in (
            (bundle.manifest.files[stage.file], other.manifest.files[stage.file])
            for stage in other.manifest.stages
        )
    ]
    assert cached == same
    assert True in same
    assert False in same


def test_options_and_another_tensorrt_ask_for_their_own_engines(
    there: Machine, bundle: Bundle, config: TensorRTConfig
) -> None:
    first = EngineProvider(there.trt, config, there.gpu.identity)
    assert give_all(first, bundle) == [False] * 3
    for other in (
        EngineProvider(there.trt, config.model_copy(update={"workspace_mb": 64}), there.gpu.identity),
        EngineProvider(fake_tensorrt(there.pretend, "10.13.3"), config, there.gpu.identity),
    ):
        assert give_all(other, bundle) == [False] * 3
    assert give_all(first, bundle) == [True] * 3


def test_the_dla_gets_what_it_is_given(there: Machine, bundle: Bundle, config: TensorRTConfig) -> None:
    names = [stage.name for stage in bundle.manifest.stages]
    on_dla = config.model_copy(update={"dla_stages": (names[1],), "dla_core": 1, "dla_gpu_fallback": False})
    keys = EngineProvider(there.trt, on_dla, there.gpu.identity).keys(bundle)
    assert [keys[name].options.dla_core for name in names] == [None, 1, None]
    assert [keys[name].options.allow_gpu_fallback for name in names] == [True, False, True]
    unknown = config.model_copy(update={"dla_stages": ("pupil",)})
    with pytest.raises(ConfigError, match=r"dla_stages: .* no stage pupil; it has .*distance"):
        EngineProvider(there.trt, unknown, there.gpu.identity).keys(bundle)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "sha256": lambda plan: plan.write_bytes(plan.read_bytes()[:-1] + b"\x00"),
    "sidecar is missing": lambda plan: plan.with_suffix(".json").unlink(),
    "plan is missing": lambda plan: plan.unlink(),
    "sidecar can't be read": lambda plan: plan.with_suffix(".json").write_text("{"),
}


@pytest.mark.parametrize("why", list(DAMAGE))
def test_a_damaged_engine_is_built_anew_and_a_warning_says_why(
    why: str, there: Machine, bundle: Bundle, config: TensorRTConfig, caplog: pytest.LogCaptureFixture
) -> None:
    provider = EngineProvider(there.trt, config, there.gpu.identity)
    stage = bundle.manifest.stages[0]
    first = provider.engine(bundle, stage, bytes)
    DAMAGE[why](first.path)
    second = provider.engine(bundle, stage, bytes)
    assert not second.cached
    assert second.engine == first.engine
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert why in warning
    assert str(first.path) in warning
    assert provider.engine(bundle, stage, bytes).cached


def test_an_engine_that_tensorrt_refuses_is_built_anew(
    there: Machine, bundle: Bundle, config: TensorRTConfig, caplog: pytest.LogCaptureFixture
) -> None:
    provider = EngineProvider(there.trt, config, there.gpu.identity)
    stage = bundle.manifest.stages[0]
    provider.engine(bundle, stage, bytes)
    asked: list[bytes] = []

    def deserialise(plan: bytes) -> bytes | None:
        """As after an update that the key does not know of: the old plan is refused, the new one is not."""
        asked.append(plan)
        return plan if there.pretend.made["build"] > 1 else None

    assert not provider.engine(bundle, stage, deserialise).cached
    assert there.pretend.made["build"] == 2
    assert "refuses it" in caplog.text


def test_an_engine_that_is_refused_fresh_is_an_error_and_not_kept(
    there: Machine, bundle: Bundle, config: TensorRTConfig
) -> None:
    provider = EngineProvider(there.trt, config, there.gpu.identity)
    with pytest.raises(RunnerError, match="refuses the engine that it has just built"):
        provider.engine(bundle, bundle.manifest.stages[0], lambda plan: None)
    assert not list(provider.cache.folder.glob("*.plan"))


def test_a_graph_that_was_changed_since_is_never_built(
    there: Machine, bundle: Bundle, config: TensorRTConfig
) -> None:
    stage = bundle.manifest.stages[0]
    path = bundle.path / stage.file
    path.write_bytes(path.read_bytes() + b"\x00")
    with pytest.raises(BundleCorrupt, match="differs from its sha256"):
        EngineProvider(there.trt, config, there.gpu.identity).engine(bundle, stage, bytes)
    assert there.pretend.made["build"] == 0


def test_a_build_that_is_given_up_keeps_nothing_and_frees_the_lock(
    there: Machine, bundle: Bundle, config: TensorRTConfig
) -> None:
    stage = bundle.manifest.stages[0]
    cancelled = threading.Event()
    provider = EngineProvider(
        there.trt,
        config,
        there.gpu.identity,
        progress=lambda step: cancelled.set(),
        cancelled=cancelled.is_set,
    )
    with pytest.raises(BuildCancelled):
        provider.engine(bundle, stage, bytes)
    assert not list(provider.cache.folder.glob("*.plan"))
    assert not EngineProvider(there.trt, config, there.gpu.identity).engine(bundle, stage, bytes).cached


def test_who_waits_for_a_builder_takes_what_it_has_built(
    there: Machine, bundle: Bundle, config: TensorRTConfig
) -> None:
    stage = bundle.manifest.stages[0]

    def one() -> bool:
        provider = EngineProvider(there.trt, config, there.gpu.identity)
        return provider.engine(bundle, stage, bytes).cached

    with ThreadPoolExecutor(4) as many:
        cached = [future.result() for future in [many.submit(one) for _ in range(4)]]
    assert sorted(cached) == [False, True, True, True]
    assert there.pretend.made["build"] == 1


def test_without_room_nothing_is_built(
    there: Machine, bundle: Bundle, config: TensorRTConfig, tmp_path: Path
) -> None:
    (tmp_path / "engines").write_text("a file, not a folder")
    with pytest.raises(RunnerError, match=r"runtime\.engines_dir"):
        EngineProvider(there.trt, config, there.gpu.identity).engine(bundle, bundle.manifest.stages[0], bytes)
    assert there.pretend.made["build"] == 0


def test_timings_of_another_gpu_are_not_used_and_a_warning_says_so(
    there: Machine, bundle: Bundle, config: TensorRTConfig, caplog: pytest.LogCaptureFixture
) -> None:
    give_all(EngineProvider(there.trt, config, there.gpu.identity), bundle)
    assert caplog.text.count("timing.cache") == 0
    other = there.gpu.identity.model_copy(update={"name": "Thor"})
    give_all(EngineProvider(there.trt, config, other), bundle)
    assert "timing.cache: is damaged, or of another GPU" in caplog.text
    assert b"on Thor" in config.timing_cache_file().read_bytes().partition(b"\n")[0]


def test_a_runner_builds_once_and_runs_from_the_cache(
    there: Machine, bundle: Bundle, config: TensorRTConfig
) -> None:
    for _ in range(2):
        provider = EngineProvider(there.trt, config, there.gpu.identity)
        TensorRtRunner(bundle, trt=there.trt, gpu=there.gpu, engines=provider).close()
    assert there.pretend.made["build"] == 3


def test_prune_takes_what_the_named_bundles_do_not_use(
    there: Machine, bundle: Bundle, config: TensorRTConfig, tmp_path: Path
) -> None:
    other = load_bundle(make_tiny_bundle(tmp_path / "other", colour=(0.3, 0.3, 0.3)))
    provider = EngineProvider(there.trt, config, there.gpu.identity)
    give_all(provider, bundle)
    give_all(provider, other)
    keep: set[EngineKey] = set(provider.keys(bundle).values())
    gone = provider.cache.prune(keep)
    assert {path.stem for path in gone} == {key.digest for key in provider.keys(other).values()} - {
        key.digest for key in keep
    }
    assert give_all(provider, bundle) == [True] * 3
    shutil.rmtree(provider.cache.folder)
    assert give_all(provider, bundle) == [False] * 3
