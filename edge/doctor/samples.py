"""The self-test as findings: the golden samples, run on the backend that the rig is to use."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.config import RuntimeConfig
from edge.doctor.report import Finding, error, note, ok
from edge.errors import BundleError, CalibrationError, RunnerError
from edge.selftest_result import SelftestResult

if TYPE_CHECKING:
    from edge.bundle import Bundle

__all__ = ["samples"]


def samples(
    bundle: Bundle | None, runtime: RuntimeConfig, progress: Callable[[str], None]
) -> tuple[SelftestResult | None, list[Finding]]:
    """Run the self-test; the result is None where it did not come to one, and the findings say why."""
    if bundle is None:
        return None, [
            error(
                "selftest",
                "bundle",
                "There is no bundle to test by.",
                "Mend the bundle, or give one: --bundle.",
            )
        ]
    try:
        from edge.runtime import runner_for  # noqa: PLC0415  # ONNX Runtime may be what is broken
        from edge.selftest import run_selftest  # noqa: PLC0415
        from edge.trial import try_stages  # noqa: PLC0415

        if runtime.backend == "onnx":
            try_stages(bundle)  # a damaged graph can end the process that loads it
        result = run_selftest(
            bundle,
            lambda: runner_for(bundle, runtime),
            backend=runtime.backend,
            runtime=_name_of(runtime),
            progress=lambda done, total: progress(f"Self-test: {done} of {total} samples"),
        )
    except ImportError as problem:
        return None, [
            error("selftest", "import", f"It can't be run: {problem}.", "Mend the Python packages.")
        ]
    except (BundleError, CalibrationError, RunnerError) as problem:
        what, _, remedy = str(problem).rpartition("; ")
        return None, [
            error(
                "selftest",
                "load",
                f"{what or problem}.",
                remedy or "Export the bundle anew.",
                error=type(problem).__name__,
            )
        ]
    return result, [_finding(result), *_unjudged(result)]


def _finding(result: SelftestResult) -> Finding:
    total = len(result.samples)
    failed = [sample for sample in result.samples if sample.problem is not None]
    if not total:
        return error(
            "selftest",
            "samples",
            "The bundle has no golden samples, so nothing was shown.",
            "Export the bundle anew: edge-export writes some of them.",
        )
    if failed:
        first = failed[0]
        return error(
            "selftest",
            "samples",
            f"{len(failed)} of {total} golden samples are not what torch made of them on "
            f"{result.runtime}. {first.name}: {first.problem}.",
            "Don't inspect with this backend: try --backend onnx, copy it again, or export it with fp32.",
            failed=tuple(sample.name for sample in failed),
        )
    errors = [sample.map_error for sample in result.samples if sample.map_error is not None]
    return ok(
        "selftest",
        "samples",
        f"{result.runtime} gives what torch gave for all {total} golden samples: maps within "
        f"{max(errors):.1e} standard deviations, {_changed(result)}.",
        samples=total,
        map_error=max(errors),
    )


def _unjudged(result: SelftestResult) -> list[Finding]:
    found = [sample for sample in result.samples if sample.not_judged is not None]
    if not found:
        return []
    what, _, remedy = (found[0].not_judged or "").partition("; ")
    return [
        note(
            "selftest",
            "rules",
            f"{len(found)} of {len(result.samples)} golden samples get no verdict here. {found[0].name}: "
            f"{what}.",
            f"{remedy[:1].upper()}{remedy[1:]}." if remedy else None,
            samples=tuple(sample.name for sample in found),
        )
    ]


def _changed(result: SelftestResult) -> str:
    changed = sum(sample.flipped for sample in result.samples)
    if not changed:
        return "no verdict changed"
    return f"{changed} on the threshold got the other verdict by rounding"


def _name_of(runtime: RuntimeConfig) -> str:
    if runtime.backend == "onnx":
        return f"ONNX Runtime {importlib.metadata.version('onnxruntime')}"
    from edge.runtime.tensorrt.api import load_tensorrt  # noqa: PLC0415

    return f"TensorRT {load_tensorrt().__version__}"
