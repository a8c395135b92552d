"""ONNX Runtime as the runner sets it up: threads, bytes, and tensors that stay where they are."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from edge.bundle import ANOMALY_MAP, Bundle, load_bundle
from edge.config import OnnxConfig
from edge.demo.rig import packaged_bundle
from edge.errors import FileChanged
from edge.preprocessing import tensor_shapes
from edge.runtime import runner_for
from edge.runtime.onnx import OnnxRunner, session_options
from edge.runtime.runner import Array
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(make_tiny_bundle(tmp_path / "b", colour=(0.2, 0.5, 0.7)))


def frame_tensors(bundle: Bundle) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    shapes = tensor_shapes(bundle.manifest.preprocessing)
    return {
        name: (rng.random(shapes[name][1]) * (255 if shapes[name][0] == "uint8" else 1)).astype(
            shapes[name][0]
        )
        for name in sorted(bundle.wanted)
    }


class Watched:
    """A session that notes where the tensors lie that it is given and gives."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.given: dict[str, int] = {}
        self.made: dict[str, int] = {}

    def run_with_ort_values(self, names: Sequence[str], feed: Mapping[str, Any]) -> list[Any]:
        self.given = {name: value.data_ptr() for name, value in feed.items()}
        results = list(self._session.run_with_ort_values(names, feed))
        self.made = {name: value.data_ptr() for name, value in zip(names, results, strict=True)}
        return results


def test_no_tensor_is_copied_on_its_way_from_the_frame_through_the_stages(bundle: Bundle) -> None:
    tensors = frame_tensors(bundle)
    with OnnxRunner(bundle) as runner:
        watched = {file: Watched(session) for file, session in runner._sessions.items()}
        runner._sessions.update(watched)
        made = runner.run(tensors)[ANOMALY_MAP]
    lies_at = {name: array.ctypes.data for name, array in tensors.items()}
    for stage in bundle.manifest.stages:
        for node, tensor in stage.inputs.items():
            assert watched[stage.file].given[node] == lies_at[tensor], (stage.name, tensor)
        for node, tensor in stage.outputs.items():
            lies_at[tensor] = watched[stage.file].made[node]
    assert made.ctypes.data == lies_at[ANOMALY_MAP]


def test_a_result_outlives_its_runner(bundle: Bundle) -> None:
    with OnnxRunner(bundle) as runner:
        made = runner.run(frame_tensors(bundle))[ANOMALY_MAP]
        kept = made.copy()
    del runner
    gc.collect()
    scratch = [np.full(made.shape, 7.0, np.float32) for _ in range(1000)]  # what was freed would be reused
    assert len(scratch) == 1000
    assert made.tobytes() == kept.tobytes()


def test_closing_frees_the_sessions(bundle: Bundle) -> None:
    runner = OnnxRunner(bundle)
    sessions = [weakref.ref(session) for session in runner._sessions.values()]
    assert len(sessions) == 3
    runner.close()
    gc.collect()
    assert all(session() is None for session in sessions)


@pytest.mark.parametrize("name", ["colour.onnx", "shape.onnx", "distance.onnx"])
def test_a_file_that_is_changed_after_the_bundle_was_loaded_is_never_run(bundle: Bundle, name: str) -> None:
    file = bundle.path / name
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 1
    file.write_bytes(changed)
    with pytest.raises(FileChanged, match=name):
        OnnxRunner(bundle)


def test_what_is_run_are_the_bytes_that_were_hashed_not_the_file(bundle: Bundle) -> None:
    tensors = frame_tensors(bundle)
    with OnnxRunner(bundle) as untouched:
        expected = untouched.run(tensors)[ANOMALY_MAP]
    with OnnxRunner(bundle) as runner:
        for stage in bundle.manifest.stages:
            (bundle.path / stage.file).write_bytes(b"something else")
        assert runner.run(tensors)[ANOMALY_MAP].tobytes() == expected.tobytes()


def test_weights_are_not_kept_twice(bundle: Bundle) -> None:
    """ONNX Runtime's Python layer holds the file's bytes for as long as the session lives, if it may."""
    with OnnxRunner(bundle) as runner:
        held = [
            value
            for session in runner._sessions.values()
            for value in gc.get_referents(session.__dict__)
            if isinstance(value, bytes)
        ]
    assert held == []


def test_sessions_use_the_cores_that_the_process_may_use_and_never_spin() -> None:
    options = session_options()
    assert options.intra_op_num_threads == len(os.sched_getaffinity(0))
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert session_options(3).intra_op_num_threads == 3


@pytest.mark.parametrize("threads", [1, 3])
def test_each_session_has_as_many_threads_as_it_was_told(threads: int) -> None:
    bundle = load_bundle(packaged_bundle())
    sessions = len({stage.file for stage in bundle.manifest.stages})
    before = _threads()
    with runner_for(bundle, OnnxConfig(threads=threads)):
        started = _threads() - before
        assert len(started) == sessions * (threads - 1)  # the caller is one of them
    gc.collect()
    assert not started & _threads()


def _threads() -> set[str]:
    """The threads of this process, Python's and others'."""
    return {task.name for task in Path("/proc/self/task").iterdir()}


def test_the_number_of_threads_does_not_change_the_verdict() -> None:
    bundle = load_bundle(packaged_bundle())
    with np.load(bundle.golden_files()[0]) as golden:
        tensors = {name: golden[name] for name in bundle.wanted}
        expected = golden[ANOMALY_MAP]
    for threads in (1, 2, 5):
        with OnnxRunner(bundle, threads=threads) as runner:
            np.testing.assert_allclose(runner.run(tensors)[ANOMALY_MAP], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("module", ["edge.runtime.onnx", "export, onnxruntime"])
def test_onnx_runtime_keeps_and_sends_no_events_of_its_own(module: str, tmp_path: Path) -> None:
    # Where CI is set it keeps none anyway.
    silenced = {"CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in silenced}
    look = (
        f"import os, {module}\n"
        "for entry in os.scandir('/proc/self/fd'):\n"
        "    if os.path.lexists(entry.path): print(os.readlink(entry.path))"
    )
    done = subprocess.run(
        [sys.executable, "-c", look],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Microsoft" not in done.stdout
    assert not (tmp_path / ".cache" / "Microsoft").exists()
