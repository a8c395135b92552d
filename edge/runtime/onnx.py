"""The ONNX Runtime backend: the embedded default, on any CPU."""

from __future__ import annotations

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
    """Runs each stage as an ONNX Runtime session; tensors stay where ONNX Runtime made them.

    One file that several stages name is loaded once, from the bytes that were verified. `threads` compute
    together, as many as the process may use cores if None. Raises `RunnerError` where a stage can't be
    loaded, `BundleInvalid` where a graph's inputs or outputs are not those that the manifest says,
    `BundleCorrupt` where a file was changed since the bundle was loaded.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        super().__init__(bundle)
        options = session_options(threads)
        self._sessions: dict[str, Any] = {}
        for stage in bundle.manifest.stages:
            if stage.file not in self._sessions:
                self._sessions[stage.file] = _load(bundle, stage.file, options)
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


def session_options(threads: int | None = None) -> Any:
    """How chained sessions run fast beside each other, and beside whatever else the device does.

    `threads` per session, as many as the process may use cores if None. The figures behind each choice
    stand in docs/performance.md.
    """
    options = ort.SessionOptions()
    # Below ALL convolutions keep the layout of the file: 1.7 times as slow.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    # Threads that spin while they have nothing to do take the cores from the next stage, and from the camera.
    # The one pool that sessions can share always spins, as Python can make it: it gains a few percent on an
    # idle machine, and loses more on a busy one, at 1.7 times the processor time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # On an x86 without VNNI the fast int8 product adds in 16 bits and saturates: verdicts flipped by it. This
    # takes an exact one there, and changes nothing on any other processor.
    options.add_session_config_entry("session.x64quantprecision", "1")
    # A plan of all intermediate tensors keeps room for them between runs; the arena alone reuses it.
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = True
    options.log_severity_level = 3
    return options


def _load(bundle: Bundle, file: str, options: Any) -> Any:
    path = bundle.path / file
    graph = bundle.read(file)
    try:
        # Without `enable_fallback=0` it tries again on its own, and prints that to stdout.
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except (*_OrtErrors, UnicodeDecodeError) as error:  # names in a damaged graph need not be UTF-8
        raise RunnerError(
            f"{path}: ONNX Runtime {ort.__version__} can't load it ({error}); export the bundle anew"
        ) from error
    # It keeps the file's bytes to load them again on other providers; weights need not be there twice.
    session._model_bytes = None
    return session


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
