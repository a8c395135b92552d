"""The ONNX Runtime backend: the embedded default, on any CPU."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from edge.bundle import Bundle, TensorSpec
from edge.errors import BundleInvalid, RunnerError
from edge.preprocessing import tensor_shapes
from edge.runtime.runner import Array, Runner

__all__ = ["OnnxRunner", "session_options"]

# ONNX Runtime's exceptions have no common root of their own below RuntimeError.
_OrtErrors = tuple(
    getattr(ort_errors, name)
    for name in ("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "ModelLoaded",
                 "NoModel", "NoSuchFile", "NotImplemented", "RuntimeException")
)  # fmt: skip

_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}


class OnnxRunner(Runner):
    """Runs each stage as an ONNX Runtime session; tensors stay ONNX Runtime's own between the stages.

    One file that several stages name is loaded once. Raises `RunnerError` where a stage can't be loaded,
    `BundleInvalid` where a graph's inputs or outputs are not those that the manifest says.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        options = session_options()
        self._sessions: dict[str, Any] = {}
        for stage in bundle.manifest.stages:
            if stage.file not in self._sessions:
                self._sessions[stage.file] = _load(bundle.path / stage.file, options)
        _check_graphs(bundle, self._sessions)

    def _run(self, tensors: Mapping[str, Array], fetch: Sequence[str]) -> dict[str, Array]:
        if not self._sessions:
            raise RunnerError(f"the runner of {self.bundle.path} is closed; make a new one")
        values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in tensors.items()}
        for stage in self.bundle.manifest.stages:
            feed = {name: values[tensor] for name, tensor in stage.inputs.items()}
            names = list(stage.outputs)
            try:
                results = self._sessions[stage.file].run_with_ort_values(names, feed)
            except _OrtErrors as error:
                raise RunnerError(f"stage {stage.name!r} ({stage.file}) failed: {error}") from error
            values.update(zip((stage.outputs[name] for name in names), results, strict=True))
        return {name: values[name].numpy() for name in fetch}

    def close(self) -> None:
        self._sessions.clear()


@functools.cache
def session_options() -> Any:
    """Session options under which chained sessions don't fight for the cores.

    Each session of its own spins its own threads while the next one works: three chained sessions took
    73 ms where their parts sum to 23. One pool for the process mends it; where this version of ONNX
    Runtime offers none to Python, threads that don't spin are as good.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    threads = len(os.sched_getaffinity(0))
    if hasattr(ort, "set_global_thread_pool_sizes"):
        try:
            ort.set_global_thread_pool_sizes(threads, 1)
        except _OrtErrors as error:
            raise RunnerError(
                f"ONNX Runtime's shared thread pool can't be set ({error}); start the runner before other "
                "code of this process makes a session"
            ) from error
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _load(path: Path, options: Any) -> Any:
    try:
        # Without `enable_fallback=0` it tries again on its own, and prints that to stdout.
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except (*_OrtErrors, UnicodeDecodeError) as error:  # names in a damaged graph need not be UTF-8
        raise RunnerError(
            f"{path}: ONNX Runtime {ort.__version__} can't load it ({error}); export the bundle anew"
        ) from error


def _promises(nodes: Sequence[Any], path: Path) -> dict[str, tuple[str, tuple[object, ...]]]:
    """Data type and shape of a graph's inputs or outputs, by their names."""
    try:
        return {node.name: (_TYPES.get(node.type, node.type), tuple(node.shape)) for node in nodes}
    except UnicodeDecodeError as error:
        raise RunnerError(
            f"{path}: holds names that are not text ({error}); export the bundle anew"
        ) from error


def _check_graphs(bundle: Bundle, sessions: Mapping[str, Any]) -> None:
    specs = {
        name: TensorSpec(dtype=dtype, shape=shape)  # type: ignore[arg-type]  # a Literal of the same words
        for name, (dtype, shape) in tensor_shapes(bundle.manifest.preprocessing).items()
    } | bundle.manifest.tensors
    for stage in bundle.manifest.stages:
        session = sessions[stage.file]
        for wires, nodes, what in (
            (stage.inputs, session.get_inputs(), "input"),
            (stage.outputs, session.get_outputs(), "output"),
        ):
            graph = _promises(nodes, bundle.path / stage.file)
            complete = set(graph) == set(wires) if what == "input" else set(wires) <= set(graph)
            if not complete:
                raise BundleInvalid(
                    f"{bundle.path}: stage {stage.name!r} wires the {what}s {sorted(wires)}, the graph "
                    f"{stage.file} has {sorted(graph)}"
                )
            for name, tensor in wires.items():
                wanted = (specs[tensor].dtype, specs[tensor].shape)
                if graph[name] != wanted:
                    raise BundleInvalid(
                        f"{bundle.path}: {what} {name!r} of {stage.file} is {graph[name]}, tensor {tensor!r} "
                        f"is {wanted}"
                    )
