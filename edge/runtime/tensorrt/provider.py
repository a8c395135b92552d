"""The engine of a stage: from the cache where it is there and whole, else built and kept."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from edge.bundle import Bundle, StageSpec
from edge.clock import utc_now
from edge.config import TensorRTConfig
from edge.errors import ConfigError, RunnerError
from edge.runtime.tensorrt.building import build_engine
from edge.runtime.tensorrt.engines import EngineCache, EngineKey, EngineRecord, StoredEngine
from edge.runtime.tensorrt.gpu import GpuIdentity
from edge.runtime.tensorrt.options import BuildOptions
from edge.runtime.tensorrt.progress import BuildProgress
from edge.runtime.tensorrt.timing import TimingCache
from edge.version import __version__

__all__ = ["EngineProvider", "StageEngine", "build_options", "check_dla_stages"]

_log = logging.getLogger(__name__)

_Engine = TypeVar("_Engine")


@dataclass(frozen=True, slots=True)
class StageEngine(Generic[_Engine]):
    """A stage's engine, ready to run. `cached`: it was not built now. Stages of one file and one device
    share `record.key`."""

    engine: _Engine
    record: EngineRecord
    path: Path
    cached: bool


def build_options(config: TensorRTConfig, stage: str) -> BuildOptions:
    """What a stage's engine is built with."""
    on_dla = stage in config.dla_stages
    return BuildOptions(
        workspace_mb=config.workspace_mb,
        optimization_level=config.optimization_level,
        dla_core=config.dla_core if on_dla else None,
        allow_gpu_fallback=config.dla_gpu_fallback if on_dla else True,
    )


def check_dla_stages(bundle: Bundle, config: TensorRTConfig) -> None:
    """That `dla_stages` names stages which the bundle has; raises `ConfigError`."""
    stages = [stage.name for stage in bundle.manifest.stages]
    unknown = [name for name in config.dla_stages if name not in stages]
    if unknown:
        raise ConfigError(
            f"runtime.dla_stages: the bundle {bundle.path} has no stage {', '.join(unknown)}; it has "
            f"{', '.join(stages)}"
        )


class EngineProvider:
    """Gives the engines of bundles' stages, for one TensorRT on one GPU.

    `progress` is told of a build's steps (from other threads) and `cancelled` asked whether to give up.
    """

    def __init__(
        self,
        trt: Any,
        config: TensorRTConfig,
        gpu: GpuIdentity,
        *,
        progress: BuildProgress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._trt = trt
        self._config = config
        self._gpu = gpu
        self._progress = progress
        self._cancelled = cancelled
        self.cache = EngineCache(config.engines_folder())
        self._timing = TimingCache(config.timing_cache_file(), gpu)

    def key(self, bundle: Bundle, stage: StageSpec) -> EngineKey:
        """What the stage's engine depends on."""
        return EngineKey(
            onnx_sha256=bundle.manifest.files[stage.file].sha256,
            tensorrt=str(self._trt.__version__),
            gpu=self._gpu,
            options=build_options(self._config, stage.name),
        )

    def keys(self, bundle: Bundle) -> dict[str, EngineKey]:
        """The key of each stage's engine; raises `ConfigError` where `dla_stages` names an unknown one."""
        check_dla_stages(bundle, self._config)
        return {stage.name: self.key(bundle, stage) for stage in bundle.manifest.stages}

    def engine(
        self, bundle: Bundle, stage: StageSpec, deserialise: Callable[[bytes], _Engine | None]
    ) -> StageEngine[_Engine]:
        """The stage's engine as `deserialise` makes it of a plan (None: TensorRT refuses the plan).

        Builds where the cache has none, has a damaged one, or one that is refused. Raises `RunnerError`
        where it can't be built or kept, `BundleCorrupt` where the graph is not what the manifest says.
        """
        key = self.key(bundle, stage)
        found = self._from_cache(key, deserialise)
        if isinstance(found, StageEngine):
            return found
        with self.cache.lock.held(self._cancelled):
            found = self._from_cache(key, deserialise)  # another process may have built it meanwhile
            if isinstance(found, StageEngine):
                return found
            if found is not None:
                self.cache.discard(key, found)
            plan, record = self._build(bundle.path / stage.file, key)
            engine = deserialise(plan)
            if engine is None:
                raise RunnerError(
                    f"{bundle.path / stage.file}: TensorRT {key.tensorrt} refuses the engine that it has "
                    "just built; its library and its Python module must be of one version"
                )
            self.cache.store(plan, record)
        return StageEngine(engine, record, self.cache.plan_path(key), cached=False)

    def forget(self, key: EngineKey, why: str) -> None:
        """Delete an engine, if it is there, so that the next who asks builds it."""
        with self.cache.lock.held(self._cancelled):
            if self.cache.load(key) is not None:
                self.cache.discard(key, why)

    def _from_cache(
        self, key: EngineKey, deserialise: Callable[[bytes], _Engine | None]
    ) -> StageEngine[_Engine] | str | None:
        """The engine, None where there is none, or why the one that is there can't be used."""
        found = self.cache.load(key)
        if not isinstance(found, StoredEngine):
            return found
        engine = deserialise(found.plan)
        if engine is None:
            return f"TensorRT {key.tensorrt} refuses it on {key.gpu.name}"
        return StageEngine(engine, found.record, self.cache.plan_path(key), cached=True)

    def _build(self, onnx_path: Path, key: EngineKey) -> tuple[bytes, EngineRecord]:
        self.cache.check_room(onnx_path)
        _log.info(
            "%s: building its engine for %s with TensorRT %s; this takes minutes, once",
            onnx_path,
            key.gpu.name,
            key.tensorrt,
        )
        started_s = time.monotonic()
        plan = build_engine(
            self._trt,
            onnx_path,
            key.options,
            sha256=key.onnx_sha256,
            timing=self._timing,
            progress=self._progress,
            cancelled=self._cancelled,
        )
        build_s = time.monotonic() - started_s
        _log.info("%s: built in %.1f s, %.1f MiB", onnx_path, build_s, len(plan) / (1 << 20))
        return plan, EngineRecord(
            onnx=onnx_path.name,
            key=key,
            plan_sha256=hashlib.sha256(plan).hexdigest(),
            plan_bytes=len(plan),
            build_s=round(build_s, 3),
            built_at=utc_now(),
            edge_inspect=__version__,
        )
