"""One run: every figure from one process, but for the memory, which has a process of its own."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort

from edge.bundle import Bundle, load_bundle
from edge.frame import Frame
from edge.preprocessing import preprocess
from edge.runtime.onnx import OnnxRunner
from edge.runtime.runner import Array
from tests.bench.bundles import bundle_with_int8_heads, random_bank
from tests.bench.daemon import daemon_times
from tests.bench.frames import simulated_frames
from tests.bench.graphs import bare_bound, bare_chain, bare_fused, bare_stage
from tests.bench.inspecting import inspection_works, step_works
from tests.bench.memory import memory_of
from tests.bench.page import page_times
from tests.bench.publishing import publishing_times
from tests.bench.result import BARS, BundleTimes, InspectionTimes, Machine, Result
from tests.bench.timing import in_turn, median_of, ratio_of

__all__ = ["measure"]

_FRAMES = 8
_PAGE_PARTS = 50
_CYCLES = 10
"""Of the daemon in one turn."""


def measure(
    name: str,
    path: Path,
    *,
    rounds: int,
    burst: int,
    inspections: int,
    triggers: int,
    bank: bool,
    progress: Callable[[str], None],
) -> Result:
    """Measure a bundle, called `name`, and with `bank` a memory bank of random rows beside it."""
    bundle = load_bundle(path)
    frames = simulated_frames(bundle.product, _FRAMES)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundles = {name: bundle}
        if bank:
            progress("a memory bank of random rows")
            bundles["bank"] = random_bank(folder / "bank")
        found = {}
        for label, one in bundles.items():
            progress(f"model of {label}")
            found[label] = _bundle_times(one, frames, folder / f"{label}-int8", rounds, burst)
    progress("steps of an inspection")
    inspection = _inspection_times(bundle, frames[0], rounds, burst)
    progress("a verdict and its pictures over MQTT")
    with OnnxRunner(bundle) as runner:
        publishing = publishing_times(bundle, runner, frames[0], rounds=rounds)
    progress(f"the daemon, running freely and by {triggers} triggers")
    daemon = daemon_times(path, rounds=rounds, cycles=_CYCLES, triggers=triggers)
    progress("the page in a browser")
    page = page_times(min(triggers, _PAGE_PARTS))
    progress(f"memory over {inspections} inspections")
    return Result(
        machine=_machine(),
        rounds=rounds,
        burst=burst,
        bars=dict(BARS),
        bundles=found,
        inspection=inspection,
        publishing=publishing,
        daemon=daemon,
        page=page,
        memory=memory_of(path, inspections),
    )


def _bundle_times(
    bundle: Bundle, frames: list[Frame], int8_folder: Path, rounds: int, burst: int
) -> BundleTimes:
    config, wanted = bundle.manifest.preprocessing, bundle.wanted | {"mask"}
    parts = [preprocess(frame, config, wanted).tensors for frame in frames]
    tensors = parts[0]
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(OnnxRunner(bundle))
        whole: dict[str, Callable[[], object]] = {
            "runner": lambda: runner.run(tensors),
            "bare": bare_chain(runner, tensors),
            "bound": bare_bound(runner, tensors),
            "fused": bare_fused(bundle, tensors),
        }
        alone = _stage_works(runner, tensors)
        int8 = bundle_with_int8_heads(bundle, runner, parts, int8_folder)
        heads: list[str] = []
        if int8 is not None:
            small = stack.enter_context(OnnxRunner(int8))
            whole["int8"] = bare_chain(small, tensors)
            heads = [stage.name for stage in int8.manifest.stages if stage.precision == "int8"]
            alone |= {
                f"int8 {name}": work for name, work in _stage_works(small, tensors).items() if name in heads
            }
        # The ratios with a bar lie close to 1: they get more rounds, with few works between each other.
        times = in_turn(whole, rounds=3 * rounds, burst=burst)
        times |= in_turn(alone, rounds=rounds, burst=burst)
    return BundleTimes(
        chained_to_fused=ratio_of(times["bare"], times["fused"]),
        runner_to_bare=ratio_of(times["runner"], times["bare"]),
        bound_to_bare=ratio_of(times["bound"], times["bare"]),
        int8_heads_to_fp32=ratio_of(
            sum(times[f"int8 {name}"] for name in heads), sum(times[name] for name in heads)
        )
        if heads
        else None,
        int8_chain_to_fp32=ratio_of(times["int8"], times["bare"]) if heads else None,
        runner_ms=median_of(times["runner"]),
        chained_ms=median_of(times["bare"]),
        fused_ms=median_of(times["fused"]),
        stages_ms={stage.name: median_of(times[stage.name]) for stage in bundle.manifest.stages},
    )


def _stage_works(runner: OnnxRunner, tensors: dict[str, Array]) -> dict[str, Callable[[], object]]:
    """Each stage alone, on what the chain gives it."""
    manifest = runner.bundle.manifest
    values = {**tensors, **runner.run(tensors, list(manifest.tensors))}
    return {stage.name: bare_stage(runner, stage, values) for stage in manifest.stages}


def _inspection_times(bundle: Bundle, frame: Frame, rounds: int, burst: int) -> InspectionTimes:
    with OnnxRunner(bundle) as runner:
        works = inspection_works(bundle, runner, frame)
        steps = step_works(bundle, runner, frame)
        times = in_turn({**works, **steps}, rounds=rounds, burst=burst)
    return InspectionTimes(
        steps_ms={name: median_of(times[name]) for name in steps},
        **{f"{name}_ms": median_of(times[name]) for name in works},
    )


def _machine() -> Machine:
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        load_average=os.getloadavg()[0],
        python=platform.python_version(),
        onnxruntime=ort.__version__,
    )


def _processor() -> str:
    """The processor's name as Linux has it; on ARM it often has none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
