"""What the tests of the runner share: a GPU that must end clean, engines from memory, random bundles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.bundle import ANOMALY_MAP, Bundle, FileSpec, Manifest, StageSpec, TensorSpec, check_wiring
from edge.framing import FramingConfig
from edge.preprocessing import Preprocessing, tensor_shapes
from edge.runtime.onnx import OnnxRunner
from edge.runtime.tensorrt.cuda import Gpu
from edge.runtime.tensorrt.engines import EngineKey, EngineRecord
from edge.runtime.tensorrt.loading import Engine
from edge.runtime.tensorrt.options import BuildOptions
from edge.runtime.tensorrt.provider import StageEngine
from edge.runtime.tensorrt.runner import TensorRtRunner
from edge.scoring import ScoreSpec
from edge.sealed import file_sha256
from tests.edge.tensorrt.fake_cuda import PretendGpu
from tests.edge.tensorrt.fake_tensorrt import fake_plan, fake_tensorrt

__all__ = ["Machine", "StageShape", "assert_like_onnx", "machine", "random_tensors", "wired_bundle"]

Tensors = dict[str, npt.NDArray[np.generic]]


@dataclass
class Machine:
    """A pretend GPU with TensorRT over it. `plan` makes a stage's plan of its ONNX bytes."""

    pretend: PretendGpu
    trt: Any
    gpu: Gpu
    plan: Callable[[StageSpec, bytes], bytes] = field(
        default=lambda stage, onnx: fake_plan(onnx, scratch_bytes=len(onnx) % 3 * 2048)  # some need none
    )
    dla: Mapping[str, int] = field(default_factory=dict)

    def runner(self, bundle: Bundle, streams: int = 2) -> TensorRtRunner:
        return TensorRtRunner(bundle, trt=self.trt, gpu=self.gpu, engines=self, streams=streams)

    # What `runner.Engines` asks for.

    def key(self, bundle: Bundle, stage: StageSpec) -> EngineKey:
        return EngineKey(
            onnx_sha256=file_sha256(bundle.path / stage.file),
            tensorrt=self.trt.__version__,
            gpu=self.gpu.identity,
            options=BuildOptions(dla_core=self.dla.get(stage.name)),
        )

    def engine(
        self, bundle: Bundle, stage: StageSpec, deserialise: Callable[[bytes], Engine | None]
    ) -> StageEngine[Engine]:
        plan = self.plan(stage, (bundle.path / stage.file).read_bytes())
        engine = deserialise(plan)
        assert engine is not None, "the pretend plan is refused"
        record = EngineRecord(
            onnx=stage.file,
            key=self.key(bundle, stage),
            plan_sha256="0" * 64,
            plan_bytes=len(plan),
            build_s=0.0,
            built_at=datetime(2030, 1, 1, tzinfo=timezone.utc),
            edge_inspect="0",
        )
        return StageEngine(engine, record, bundle.path / stage.file, cached=True)


@contextmanager
def machine(*, broken: bool = False) -> Iterator[Machine]:
    """At its end nothing may be left on the GPU, and nothing wrong may have been done to it.

    `broken`: the test breaks the GPU's context, in which nothing can be freed.
    """
    pretend = PretendGpu()
    yield Machine(pretend, fake_tensorrt(pretend), Gpu(pretend.driver))
    assert pretend.mistakes == []
    assert pretend.deepest_stack() == 0
    if not broken:
        assert +pretend.live == {}


def assert_like_onnx(bundle: Bundle, samples: Sequence[Tensors]) -> None:
    """That TensorRT's runner gives every tensor of the bundle bit for bit as the ONNX backend does."""
    names = sorted(bundle.manifest.tensors)
    with machine() as there, OnnxRunner(bundle) as onnx, there.runner(bundle) as runner:
        for tensors in samples:
            expected, result = onnx.run(tensors, names), runner.run(tensors, names)
            assert {name: result[name].tobytes() for name in names} == {
                name: expected[name].tobytes() for name in names
            }


@dataclass(frozen=True)
class StageShape:
    """A stage of a random bundle: what it takes, how many outputs it has, and the factors of its sum."""

    takes: tuple[str, ...]
    outputs: int = 1
    seed: int = 0
    unused_output: bool = False


def wired_bundle(folder: Path, shapes: Sequence[StageShape]) -> Bundle:
    """A bundle of one tiny stage for each shape, in that order; stage i gives `t<i>_0`, `t<i>_1`, …

    The last one gives the anomaly map instead of its first output. Stages of the same shape and kinds of
    inputs share one file.
    """
    preprocessing = Preprocessing(image_px=16, depth_px=8, map_cells=4, framing=FramingConfig(mode="whole"))
    offered = tensor_shapes(preprocessing)
    stages: list[StageSpec] = []
    tensors: dict[str, TensorSpec] = {}
    for number, shape in enumerate(shapes):
        kinds = tuple(offered.get(name, ("float32", (1, 1, 4, 4))) for name in shape.takes)
        graph = _sum_graph(kinds, shape).SerializeToString()
        file = f"{hashlib.sha256(graph).hexdigest()[:12]}.onnx"
        (folder / file).write_bytes(graph)
        outputs = {f"out{i}": f"t{number}_{i}" for i in range(shape.outputs)}
        if number == len(shapes) - 1:
            outputs["out0"] = ANOMALY_MAP
        inputs = {f"in{i}": name for i, name in enumerate(shape.takes)}
        stages.append(
            StageSpec(name=f"s{number}", file=file, precision="fp32", inputs=inputs, outputs=outputs)
        )
        tensors |= dict.fromkeys(outputs.values(), TensorSpec(dtype="float32", shape=(1, 1, 4, 4)))
    manifest = Manifest(
        product="plate",
        method="random",
        preprocessing=preprocessing,
        stages=tuple(stages),
        tensors=tensors,
        score=ScoreSpec(),
        files={
            stage.file: FileSpec(
                sha256=file_sha256(folder / stage.file), bytes=(folder / stage.file).stat().st_size
            )
            for stage in stages
        },
    )
    check_wiring(manifest, folder)
    return Bundle(folder, manifest, "0" * 64, None)


def random_tensors(bundle: Bundle, seed: int) -> Tensors:
    """The tensors of a frame that the bundle asks for."""
    rng = np.random.default_rng(seed)
    shapes = tensor_shapes(bundle.manifest.preprocessing)
    return {
        name: (rng.random(shapes[name][1]) * (255 if shapes[name][0] == "uint8" else 1)).astype(
            shapes[name][0]
        )
        for name in sorted(bundle.wanted)
    }


def _sum_graph(kinds: Sequence[tuple[str, tuple[int, ...]]], shape: StageShape) -> onnx.ModelProto:
    """out_k = Σ factor_ki · mean(in_i): each input brought to (1, 1, 4, 4), or (1, 1, 1, 1) for pictures."""
    rng = np.random.default_rng([shape.seed, len(kinds)])
    nodes, constants = [], [numpy_helper.from_array(np.array([1], np.int64), "channels")]
    constants.append(numpy_helper.from_array(np.array([1, 2, 3], np.int64), "all"))
    for i, (dtype, dims) in enumerate(kinds):
        nodes.append(helper.make_node("Cast", [f"in{i}"], [f"f{i}"], to=TensorProto.FLOAT))
        axes = "channels" if dims[2:] == (4, 4) else "all"
        nodes.append(helper.make_node("ReduceMean", [f"f{i}", axes], [f"m{i}"], keepdims=1))
        assert dtype in ("float32", "uint8")
    count = shape.outputs + shape.unused_output
    for k in range(count):
        base = rng.random((1, 1, 4, 4)).astype(np.float32)
        constants.append(numpy_helper.from_array(base, f"base{k}"))
        last = f"base{k}"
        for i in range(len(kinds)):
            factor = np.float32(rng.uniform(0.5, 1.5)).reshape(())
            constants.append(numpy_helper.from_array(factor, f"w{k}{i}"))
            nodes.append(helper.make_node("Mul", [f"m{i}", f"w{k}{i}"], [f"p{k}{i}"]))
            end = f"out{k}" if i == len(kinds) - 1 else f"a{k}{i}"
            nodes.append(helper.make_node("Add", [last, f"p{k}{i}"], [end]))
            last = end
    types = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info(f"in{i}", types[d], s) for i, (d, s) in enumerate(kinds)],
        [helper.make_tensor_value_info(f"out{k}", TensorProto.FLOAT, (1, 1, 4, 4)) for k in range(count)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
