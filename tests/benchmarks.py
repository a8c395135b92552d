"""`python -m tests.benchmarks [BUNDLE] [--json]`: how long the steps of one inspection take on this computer.

Ratios are what to compare between machines and versions: `chain_ratio` is the time of all stages run in a
row by the runner over the sum of the stages run one at a time (1 if sessions don't fight for the cores).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from edge.bundle import load_bundle
from edge.demo.rig import packaged_bundle
from edge.heatmap import heatmap_jpeg, overlay_jpeg
from edge.inspector import Inspector
from edge.preprocessing import preprocess
from edge.runtime import runner_for
from edge.simulation import RigScene
from edge.simulation.dataset import frame_from_shot


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median of `repeats` runs in milliseconds, after two that don't count."""
    times = []
    for number in range(repeats + 2):
        start_ns = time.perf_counter_ns()
        work()
        if number >= 2:
            times.append((time.perf_counter_ns() - start_ns) / 1e6)
    return statistics.median(times)


def measure(bundle_path: Path, repeats: int) -> dict[str, float]:
    """Median times in milliseconds, and ratios, for one simulated part."""
    bundle = load_bundle(bundle_path)
    scene = RigScene(bundle.product, seed=99, parts=1, defective_share=1.0)
    shot = scene.shot(0)
    if shot is None:
        raise RuntimeError("the scene has no part")
    frame = frame_from_shot(scene, 0, shot)
    config = bundle.manifest.preprocessing
    found: dict[str, float] = {
        "preprocess_ms": median_ms(lambda: preprocess(frame, config, bundle.wanted | {"mask"}), repeats)
    }
    with runner_for(bundle) as runner:
        tensors = preprocess(frame, config, bundle.wanted | {"mask"}).tensors
        found["chain_ms"] = median_ms(lambda: runner.run(tensors), repeats)
        everything = runner.run(tensors, list(bundle.manifest.tensors)) | tensors
        for stage in bundle.manifest.stages:
            # One session alone: the best that this stage can do. It must share the runner's thread pool.
            options = ort.SessionOptions()
            options.use_per_session_threads = not hasattr(ort, "set_global_thread_pool_sizes")
            session = ort.InferenceSession(
                str(bundle.path / stage.file), options, providers=["CPUExecutionProvider"]
            )
            feed = {node: everything[tensor] for node, tensor in stage.inputs.items()}
            found[f"stage_{stage.name}_ms"] = median_ms(lambda s=session, f=feed: s.run(None, f), repeats)
            del session
        alone = sum(value for name, value in found.items() if name.startswith("stage_"))
        found["chain_ratio"] = found["chain_ms"] / alone
        inspector = Inspector(bundle, runner)
        found["inspect_ms"] = median_ms(lambda: inspector.inspect(frame), repeats)
        inspection = inspector.inspect(frame)
        found["heatmap_ms"] = median_ms(lambda: heatmap_jpeg(inspection), repeats)
        found["overlay_ms"] = median_ms(lambda: overlay_jpeg(inspection), repeats)
    found["inference_share"] = found["chain_ms"] / found["inspect_ms"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path, default=packaged_bundle())
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="JSON on stdout, and nothing else")
    options = parser.parse_args()
    found = measure(options.bundle, options.repeats)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    table = Table("what", title=f"{options.bundle}, median of {options.repeats}")
    table.add_column("value", justify="right")
    for name, value in found.items():
        table.add_row(name, f"{value:.2f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
