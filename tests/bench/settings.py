"""`python -m tests.bench.settings [BUNDLE]`: what each setting of ONNX Runtime costs or gains, and OpenVINO.

Threads that spin disturb each other even between sessions, so that each variant has a process of its own. The
processes take turns; only one works at a time. Where a process's memory happens to lie makes up to 5 %.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from edge.bundle import ANOMALY_MAP, Bundle, load_bundle
from edge.demo.rig import packaged_bundle
from edge.preprocessing import preprocess
from edge.runtime.onnx import session_options
from edge.runtime.runner import Array
from tests.bench.frames import simulated_frames
from tests.bench.timing import median_of, ratio_of

Change = Callable[[Any], None]


def _entry(key: str, value: str) -> Change:
    return lambda options: options.add_session_config_entry(key, value)


def _shared_pool(options: Any) -> None:
    import onnxruntime as ort

    ort.set_global_thread_pool_sizes(options.intra_op_num_threads, 1)
    options.use_per_session_threads = False


def _set(name: str, value: object) -> Change:
    return lambda options: setattr(options, name, value)


def _level(name: str) -> Change:
    import onnxruntime as ort

    return _set("graph_optimization_level", getattr(ort.GraphOptimizationLevel, name))


CHANGES: Mapping[str, Change] = {
    "as shipped": lambda options: None,
    "one shared pool": _shared_pool,
    "threads that spin": _entry("session.intra_op.allow_spinning", "1"),
    "one thread": _set("intra_op_num_threads", 1),
    "memory pattern": _set("enable_mem_pattern", True),
    "no arena": _set("enable_cpu_mem_arena", False),
    "extended optimisation": _level("ORT_ENABLE_EXTENDED"),
    "flushed subnormals": _entry("session.set_denormal_as_zero", "1"),
    "arena given back": lambda options: None,
}
"""What is changed in the session options that the runner uses; the last one changes how it runs."""

OPENVINO: Mapping[str, str] = {"OpenVINO": "f32", "OpenVINO bf16": "bf16"}
"""Its precision; one chain of compiled stages whose tensors are shared."""


_CAPTION = (
    "CPU ms: processor time of all threads per call; MB: resident memory since before the model was loaded; "
    "map Δ: largest difference of the anomaly map"
)


def main(
    bundle: Annotated[Path | None, typer.Argument(help="a bundle; without it the demo's")] = None,
    rounds: Annotated[int, typer.Option(min=2, help="how often each variant has its turn")] = 15,
    burst: Annotated[int, typer.Option(min=1, help="calls per turn, of which the median counts")] = 3,
    only: Annotated[list[str] | None, typer.Option(help="these variants beside what ships")] = None,
) -> None:
    """Compare settings: time over that of what ships, processor time, memory, difference of the map."""
    path = bundle or packaged_bundle()
    names = [*CHANGES, *(OPENVINO if importlib.util.find_spec("openvino") else ())]
    names = [name for name in names if not only or name in (*only, "as shipped")]
    table = Table("variant", title=f"{path}, load {os.getloadavg()[0]:.1f}", caption=_CAPTION)
    for column in ("ms", "÷ shipped", "95 %", "CPU ms", "MB", "map Δ"):
        table.add_column(column, justify="right")
    found = _measure(path, names, rounds, burst)
    reference = found["as shipped"]
    for name, one in found.items():
        ratio = ratio_of(one["ms"], reference["ms"])
        table.add_row(
            name,
            f"{median_of(one['ms']).median:.1f}",
            f"{ratio.median:.2f}",
            f"{ratio.low:.2f} … {ratio.high:.2f}",
            f"{np.median(one['cpu_ms']):.1f}",
            f"{one['memory_mb'][-1]:.0f}",
            f"{np.abs(one['map'] - reference['map']).max():.1e}",
        )
    Console().print(table)


def _measure(path: Path, names: list[str], rounds: int, burst: int) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    order = random.Random(0)
    with ExitStack() as stack:
        workers = {}
        for name in names:
            workers[name] = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.bench.settings", "--worker", name, str(path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            found[name] = {"map": np.array(_answer(workers[name])), "ms": [], "cpu_ms": [], "memory_mb": []}
        for _ in range(rounds):
            for name in order.sample(names, len(names)):
                stdin = workers[name].stdin
                if stdin is not None:
                    stdin.write(f"{burst}\n")
                    stdin.flush()
                for key, value in _answer(workers[name]).items():
                    found[name][key].append(value)
    return {name: {key: np.array(values) for key, values in one.items()} for name, one in found.items()}


def _answer(worker: subprocess.Popen[str]) -> Any:
    line = worker.stdout.readline() if worker.stdout is not None else ""
    if not line:
        raise RuntimeError(f"a variant's process ended ({worker.args}); its error stands above")
    return json.loads(line)


def _work(name: str, path: Path) -> None:
    bundle = load_bundle(path)
    (frame,) = simulated_frames(bundle.product, 1)
    tensors = preprocess(frame, bundle.manifest.preprocessing, bundle.wanted | {"mask"}).tensors
    before = _resident_mb()
    run = _openvino(bundle, tensors, OPENVINO[name]) if name in OPENVINO else _onnx(bundle, tensors, name)
    for _ in range(5):
        made = run()
    _say(np.asarray(made).ravel().tolist())
    for line in sys.stdin:
        times, used = [], time.process_time()
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        cpu_ms = (time.process_time() - used) * 1e3 / len(times)
        _say({"ms": float(np.median(times)), "cpu_ms": cpu_ms, "memory_mb": _resident_mb() - before})


def _say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _onnx(bundle: Bundle, tensors: Mapping[str, Array], name: str) -> Callable[[], Array]:
    import onnxruntime as ort

    ort.set_default_logger_severity(3)  # it warns of each option that is changed here
    options = session_options()
    CHANGES[name](options)
    sessions = {
        stage.file: ort.InferenceSession(bundle.read(stage.file), options, ["CPUExecutionProvider"])
        for stage in bundle.manifest.stages
    }
    for session in sessions.values():
        session._model_bytes = None  # as the runner does
    how = ort.RunOptions()
    if name == "arena given back":
        how.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run() -> Array:
        values = {name: ort.OrtValue.ortvalue_from_numpy(tensors[name]) for name in bundle.wanted}
        for stage in bundle.manifest.stages:
            feed = {node: values[tensor] for node, tensor in stage.inputs.items()}
            made = sessions[stage.file].run_with_ort_values(list(stage.outputs), feed, how)
            values.update(zip(stage.outputs.values(), made, strict=True))
        result: Array = values[ANOMALY_MAP].numpy()
        return result

    return run


def _openvino(bundle: Bundle, tensors: Mapping[str, Array], precision: str) -> Callable[[], Array]:
    ov: Any = importlib.import_module("openvino")
    core = ov.Core()
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
    }
    values: dict[str, Any] = {name: ov.Tensor(tensors[name]) for name in bundle.wanted}
    requests = []
    for stage in bundle.manifest.stages:
        model = core.read_model(bundle.read(stage.file))
        request = core.compile_model(model, "CPU", config).create_infer_request()
        for node, tensor in stage.inputs.items():
            request.set_tensor(node, values[tensor])
        values |= {tensor: request.get_tensor(node) for node, tensor in stage.outputs.items()}
        requests.append(request)

    def run() -> Array:
        for request in requests:
            request.infer()
        result: Array = values[ANOMALY_MAP].data
        return result

    return run


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        _work(sys.argv[2], Path(sys.argv[3]))
    else:
        typer.run(main)
