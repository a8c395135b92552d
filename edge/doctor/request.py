"""From what a person asks for on the command line to a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from edge.config import OnnxConfig, RigConfig, RuntimeConfig, TensorRTConfig, load_rig_config
from edge.doctor.examination import examine
from edge.doctor.machine import Machine
from edge.doctor.report import Finding, Report, error, ok
from edge.errors import ConfigError
from edge.state_folder import state_dir_of

__all__ = ["report_of"]

_Backend = Literal["onnx", "tensorrt"]


def report_of(
    config: Path | None,
    bundle: Path | None,
    *,
    backend: _Backend | None,
    selftest: bool,
    user: str | None,
    unit: str,
    progress: Callable[[str], None],
) -> Report:
    """The report about this machine; `bundle` and `backend` go before what the rig, `config`, says."""
    rig, about_rig = _rig(config) if config is not None else (None, None)
    report = examine(
        Machine(),
        rig=rig,
        state_dir=None if rig is None else state_dir_of(rig, config),
        bundle_path=bundle or (rig.recipe_book().beginning.bundle if rig is not None else None),
        runtime=_runtime(backend, rig),
        selftest=selftest,
        user_name=user,
        unit=unit,
        progress=progress,
    )
    if about_rig is None:
        return report
    return report.model_copy(update={"findings": (about_rig, *report.findings)})


def _rig(path: Path) -> tuple[RigConfig | None, Finding]:
    """The rig, and what is to be said of its YAML; one that can't be read is no reason to look at nothing."""
    try:
        return load_rig_config(path), ok("config", "config", f"{path} is in order.", path=str(path))
    except ConfigError as problem:
        return None, error(
            "config",
            "config",
            str(problem),
            "Mend the YAML; edge-daemon --check names each mistake.",
            path=str(path),
        )


def _runtime(backend: _Backend | None, rig: RigConfig | None) -> RuntimeConfig:
    configured = rig.runtime if rig is not None else OnnxConfig()
    if backend is None or backend == configured.backend:
        return configured
    return TensorRTConfig() if backend == "tensorrt" else OnnxConfig()
